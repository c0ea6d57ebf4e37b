"""One cluster, three ways to it: a kubeconfig that is given, kind, or processes of our own."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from testcluster import embedded, given, kind
from testcluster.cluster import Cluster
from testcluster.errors import TestClusterError
from testcluster.progress import Progress
from testcluster.state import StateFolder

NEEDS_ROOT = (
    "a node of our own needs root, and there is neither a kubeconfig nor a Docker engine with kind"
)


@dataclass(frozen=True)
class Choice:
    """The way that was chosen, and why, in one line; ``kubeconfig`` is set for the first way."""

    way: str
    reason: str
    kubeconfig: str = ""


def choose(
    option: str | None = None,
    environment: str | None = None,
    kind_problem: Callable[[], str] = kind.problem,
) -> Choice:
    """Choose the way.

    ``option`` is --kubeconfig and ``environment`` $KUBECONFIG. ``kind_problem`` says why kind
    cannot be used, if so; it is asked only when there is no kubeconfig.
    """
    if option:
        return Choice("kubeconfig", f"--kubeconfig={option} is given", option)
    if environment:
        return Choice("kubeconfig", f"KUBECONFIG={environment} is set", environment)
    if problem := kind_problem():
        return Choice("embedded", f"no kubeconfig is given, and kind cannot be used: {problem}")
    return Choice("kind", "no kubeconfig is given; a Docker engine answers and kind can be pulled")


def up(path: Path, choice: Choice, progress: Progress, *, nodes: bool = True) -> Cluster:
    """Bring up, or connect to, a cluster the chosen way, with its state in the folder ``path``.

    Without ``nodes``, the third way starts the control plane only, which needs no root.
    Raises TestClusterError with what to do about it.
    """
    progress(f"way: {choice.way} ({choice.reason})")
    if choice.way == "kind":
        return kind.up(path, choice.reason, progress)
    if choice.way == "kubeconfig":
        return _connect(path, choice, progress)
    if not nodes:
        return embedded.up_control_plane(path, choice.reason, progress)
    if os.geteuid() != 0:
        raise TestClusterError(f"{NEEDS_ROOT}: run this as root, or give a kubeconfig")
    return embedded.up(path, choice.reason, progress)


def attach(path: Path, progress: Progress) -> Cluster:
    """Return the running cluster whose state is in the folder ``path``.

    Raises TestClusterError if there is none, or if a part of it has died.
    """
    state = StateFolder.open(path)
    if state is not None and state.get("way") == "kind":
        return kind.attach(state)
    if state is not None and state.get("way") == "kubeconfig":
        return given.connect(state.get("given"), state.get("reason"), state.path, progress)
    return embedded.attach(path)


def down(path: Path) -> bool:
    """Take down what ``up`` brought up in the folder ``path``, and remove the folder.

    A given cluster is left as it is. Works after a crash of ``up`` and can be repeated; returns
    False if there was nothing.
    """
    state = StateFolder.open(path)
    if state is not None and state.get("way") == "kind":
        kind.down(state)
    elif state is not None and state.get("way") == "kubeconfig":
        shutil.rmtree(state.path)
    else:
        return embedded.down(path)
    return True


def _connect(path: Path, choice: Choice, progress: Progress) -> Cluster:
    state = StateFolder.create(path)
    state.update(way=choice.way, reason=choice.reason, given=choice.kubeconfig)
    try:
        return given.connect(choice.kubeconfig, choice.reason, state.path, progress)
    except BaseException:
        shutil.rmtree(state.path)
        raise
