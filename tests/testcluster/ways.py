"""One cluster, three ways to it: a kubeconfig that is given, kind, or processes of our own."""

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

KIND_IMAGE = "kindest/node:v1.35.0"


@dataclass(frozen=True)
class Choice:
    """The way that was chosen, and why, in one line."""

    way: str
    reason: str
    kubeconfig: Path | None = None


def choose(
    given: str | None,
    environment: str | None,
    docker_problem: Callable[[], str],
) -> Choice:
    """Choose the way.

    ``given`` is --kubeconfig, ``environment`` is $KUBECONFIG. ``docker_problem`` says why kind
    cannot be used, or nothing; it is asked only when there is no kubeconfig.
    """
    if given:
        return Choice("kubeconfig", f"--kubeconfig={given} is given", Path(given))
    if environment:
        return Choice("kubeconfig", f"KUBECONFIG={environment} is set", Path(environment))
    problem = docker_problem()
    if problem:
        return Choice("embedded", f"no KUBECONFIG, and kind cannot be used: {problem}")
    return Choice("kind", "no KUBECONFIG, a Docker engine answers and kind's image can be had")


def docker_problem() -> str:
    """Return why kind cannot be used here, or an empty string if it can."""
    if shutil.which("docker") is None:
        return "docker is not installed"
    if not _succeeds("docker", "info"):
        return "no Docker engine answers"
    if not _succeeds("docker", "image", "inspect", KIND_IMAGE) and not _succeeds(
        "docker", "pull", "--quiet", KIND_IMAGE
    ):
        return f"Docker cannot pull {KIND_IMAGE}"
    return ""


def _succeeds(*words: str) -> bool:
    try:
        done = subprocess.run(
            words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False, timeout=300
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
