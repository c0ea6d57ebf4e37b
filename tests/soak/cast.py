"""Who plays: the pods and Jobs as last seen, and the processes behind them."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e2e.recorder import Change, Recorder, terminal
from testcluster.cluster import Cluster
from testcluster.state import StateFolder

if TYPE_CHECKING:
    from collections.abc import Iterator

Thing = dict[str, Any]


class Cast:
    """Jobs and pods of the soak's namespace, from what its recorder has seen."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._read = 0
        self._things: dict[tuple[str, str], Thing] = {}

    def pods_at_work(self) -> list[Thing]:
        """The pods whose container runs."""
        return [pod for pod in self._those("Pod") if _runs(pod) and not terminal(pod)]

    def jobs(self) -> list[Thing]:
        """The Jobs that have not ended."""
        return [job for job in self._those("Job") if not job.get("status", {}).get("conditions")]

    def _those(self, kind: str) -> list[Thing]:
        changes = self._recorder.changes
        for change in changes[self._read :]:
            self._take(change)
        self._read = len(changes)
        return [thing for (of, _), thing in self._things.items() if of == kind]

    def _take(self, change: Change) -> None:
        key = (change.kind, change.name)
        if change.type == "DELETED":
            self._things.pop(key, None)
        else:
            self._things[key] = change.thing


def kill_worker(pod_uid: str) -> bool:
    """Kill the worker's first process with SIGKILL, from this host; False where it is not here."""
    processes = [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and _is_worker(entry, pod_uid)
    ]
    # The child has a higher number: it is started by the parent.
    for process in sorted(processes)[:1]:
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            return False
    return bool(processes)


def api_server(cluster: Cluster) -> int | None:
    """The process of the API server, where it is one of ours."""
    if cluster.way != "embedded":
        return None
    state = StateFolder.open(cluster.kubeconfig.parent)
    found = [] if state is None else [p for p in state.processes if "apiserver" in p.name]
    return found[0].pid if found else None


@contextmanager
def paused(process: int) -> Iterator[None]:
    """Stop a process where it stands, and let it go on afterwards."""
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def _runs(pod: Thing) -> bool:
    statuses = pod.get("status", {}).get("containerStatuses") or ()
    return any("running" in status["state"] for status in statuses)


def _is_worker(process: Path, pod_uid: str) -> bool:
    try:
        groups = (process / "cgroup").read_text()
        command = (process / "cmdline").read_text()
    except OSError:
        return False
    ours = pod_uid in groups or pod_uid.replace("-", "_") in groups
    return ours and "computepool-worker" in command
