"""Build etcd, the control plane, the kubelet, kube-proxy and kubectl from Go modules, once."""

import hashlib
import platform
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from testcluster import gomod, gotoolchain
from testcluster.cache import beside, cache_folder, locked
from testcluster.commands import tail
from testcluster.errors import TestClusterError
from testcluster.gotoolchain import Go
from testcluster.progress import Progress, to_stderr

GO_FOLDER = Path(__file__).parent / "go"
HEARTBEAT = 15.0


@dataclass(frozen=True)
class Binaries:
    """The folder with the built programs and the Kubernetes version they are of."""

    folder: Path
    version: str

    def path(self, name: str) -> Path:
        """Return the path of the program ``name``."""
        return self.folder / name


def cache_key(go_mod: str, go_sum: str, go: str, flags: Sequence[str], machine: str) -> str:
    """Return the cache key of a build: its version, then a hash of all that shapes the result."""
    digest = hashlib.sha256()
    for part in (go_mod, go_sum, go, *flags, machine):
        digest.update(part.encode() + b"\0")
    return f"{gomod.kubernetes_version(go_mod)}-{digest.hexdigest()[:12]}"


def ensure(progress: Progress = to_stderr) -> Binaries:
    """Return the programs, building them first (minutes) unless the cache has them.

    Raises TestClusterError when Go can neither be found nor installed, or the build fails.
    """
    go_mod = (GO_FOLDER / "go.mod").read_text()
    go_sum = (GO_FOLDER / "go.sum").read_text()
    go = gotoolchain.ensure(gomod.go_version(go_mod), progress)
    version = gomod.kubernetes_version(go_mod)
    flags = ("-trimpath", "-ldflags", gomod.linker_flags(version))
    key = cache_key(go_mod, go_sum, go.version, flags, platform.machine())
    folder = cache_folder() / "bin" / key
    if not folder.exists():
        with locked(beside(folder, ".lock"), progress):
            if not folder.exists():
                _build(go, gomod.tools(go_mod), flags, folder, progress)
    return Binaries(folder, version)


def _build(
    go: Go, packages: Sequence[str], flags: Sequence[str], folder: Path, progress: Progress
) -> None:
    progress(
        f"building {len(packages)} programs of Kubernetes with Go {go.version} into {folder}: "
        "about 6 minutes on 2 cores the first time"
    )
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=".building-", dir=folder.parent) as temporary:
        building = Path(temporary) / "bin"
        building.mkdir()
        for number, package in enumerate(packages, start=1):
            name = gomod.binary_name(package)
            _compile(go, package, flags, building / name, progress)
            spent = time.monotonic() - started
            progress(f"[{number}/{len(packages)}] {name} built after {spent:.0f} s")
        shutil.move(building, folder)


def _compile(go: Go, package: str, flags: Sequence[str], output: Path, progress: Progress) -> None:
    process = subprocess.Popen(
        [go.command, "build", "-v", *flags, "-o", output, package],
        cwd=GO_FOLDER,
        env=go.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines: list[str] = []
    finished = threading.Event()

    def heartbeat() -> None:
        while not finished.wait(HEARTBEAT):
            progress(f"  {output.name}: {len(lines)} packages fetched and compiled so far")

    reporter = threading.Thread(target=heartbeat, daemon=True)
    reporter.start()
    try:
        with process:
            lines.extend(process.stderr or ())
    except BaseException:
        process.kill()
        raise
    finally:
        finished.set()
        reporter.join()
    if process.returncode != 0:
        raise TestClusterError(
            f"building {package} with {go.command} failed with exit code {process.returncode}:\n"
            f"{tail(''.join(lines))}\n"
            "If the Go module proxy cannot be reached, set GOPROXY to one that can."
        )
