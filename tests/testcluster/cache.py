"""The cache folder, and locks that keep two builders of one thing apart."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testcluster.progress import Progress, silent


def cache_folder() -> Path:
    """Return the folder that outlives clusters: binaries, base image, image archives.

    ``$COMPUTEPOOL_CACHE``, else ``computepool`` below ``$XDG_CACHE_HOME`` or ``~/.cache``.
    """
    if own := os.environ.get("COMPUTEPOOL_CACHE"):
        return Path(own).absolute()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache").absolute() / "computepool"


@contextmanager
def locked(path: Path, progress: Progress = silent) -> Iterator[None]:
    """Hold an exclusive lock on ``path`` (made if absent); say so once when it must be waited for.

    The kernel drops the lock with the process, so a killed builder blocks nobody.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"another process holds {path}; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def beside(path: Path, suffix: str) -> Path:
    """Return the path next to ``path`` whose name has ``suffix`` appended (versions have dots)."""
    return path.with_name(path.name + suffix)
