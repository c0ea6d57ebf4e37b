"""Progress for a person who waits: one line per step, on standard error."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[str], None]


def to_stderr(line: str) -> None:
    """Write one progress line to standard error, at once."""
    print(f"[testcluster] {line}", file=sys.stderr, flush=True)


def silent(_line: str) -> None:
    """Swallow progress lines."""


@contextmanager
def timed(progress: Progress, what: str) -> Iterator[None]:
    """Report ``what`` and the seconds it took once the block has ended without an error."""
    started = time.monotonic()
    yield
    progress(f"{what}: {time.monotonic() - started:.1f} s")
