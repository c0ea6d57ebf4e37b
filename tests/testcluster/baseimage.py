"""The base image where no registry can be reached: Debian with Python, made by debootstrap."""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from testcluster.cache import beside, cache_folder, locked
from testcluster.commands import run
from testcluster.progress import Progress, timed

SUITE = "bookworm"
PACKAGES = ("python3", "python3-venv", "ca-certificates")
# Not needed in a container, and a third of the size.
DROPPED = (
    "usr/share/doc",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/man",
    "var/cache/apt",
    "var/lib/apt/lists",
    "var/log",
)
KEPT_EMPTY = ("var/cache/apt/archives/partial", "var/lib/apt/lists/partial", "var/log")
DOCKERFILE = "FROM scratch\nADD rootfs.tar /\nENV PATH=/usr/local/bin:/usr/bin:/usr/sbin\n"


def key() -> str:
    """Return what distinguishes this base from one made another way."""
    recipe = repr((SUITE, PACKAGES, DROPPED, KEPT_EMPTY, DOCKERFILE))
    return f"{SUITE}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"


def rootfs(progress: Progress) -> Path:
    """Return a folder that holds ``rootfs.tar`` and a Dockerfile for it, made once (a minute).

    Raises TestClusterError when debootstrap fails. COMPUTEPOOL_DEBIAN_MIRROR names a mirror other
    than debootstrap's own default.
    """
    folder = cache_folder() / "base" / key()
    with locked(beside(folder, ".lock"), progress):
        if not folder.exists():
            with timed(progress, f"base image (Debian {SUITE} with Python)"):
                progress(f"making a base image by debootstrap into {folder}: about a minute")
                _make(folder)
    return folder


def _make(folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=".making-", dir=folder.parent) as temporary:
        root, ready = Path(temporary) / "root", Path(temporary) / "ready"
        ready.mkdir()
        mirror = os.environ.get("COMPUTEPOOL_DEBIAN_MIRROR")
        words = ["--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, str(root)]
        run(["debootstrap", *words, *([mirror] if mirror else [])], timeout=1200)
        for name in DROPPED:
            shutil.rmtree(root / name, ignore_errors=True)
        for name in KEPT_EMPTY:
            (root / name).mkdir(parents=True)
        run(["tar", "--create", "--file", ready / "rootfs.tar", "--directory", root, "."])
        (ready / "Dockerfile").write_text(DOCKERFILE)
        ready.rename(folder)
