"""What the execution of a Task uses at most: memory of all its processes, memory of the device.

A thread looks once a second. What comes and goes in between is not seen, except that the kernel
itself keeps the largest memory of each single process.
"""

import contextlib
import os
import re
import resource
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from computepool_worker.child.nvml import DeviceMemory

_INTERVAL = 1.0
# A driver that hangs must not keep a finished result.
_PATIENCE = 2.0
_WHOSE = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
_PROC = Path("/proc")
_PSS = re.compile(rb"^Pss:\s+(\d+) kB$", re.MULTILINE)


@dataclass(slots=True)
class Peaks:
    """The largest sizes seen, in bytes; ``device_memory`` None: nobody can tell."""

    memory: int = 0
    device_memory: int | None = None


@contextlib.contextmanager
def watched(device: DeviceMemory | None, interval: float = _INTERVAL) -> Iterator[Peaks]:
    """Look every ``interval`` seconds what this process and its descendants use.

    The peaks are complete when the block has ended.
    """
    peaks, over = Peaks(), threading.Event()
    thread = threading.Thread(
        target=_watch, args=(device, interval, peaks, over), name="usage", daemon=True
    )
    thread.start()
    try:
        yield peaks
    finally:
        over.set()
        thread.join(_PATIENCE)
        peaks.memory = max(peaks.memory, largest_process())


def cpu_seconds() -> float:
    """Return the time on processors of this process and of what it has started and seen end."""
    usages = [resource.getrusage(who) for who in _WHOSE]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def largest_process() -> int:
    """Return the largest resident memory of any of these processes so far, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return max(resource.getrusage(who).ru_maxrss for who in _WHOSE) * unit


def tree(root: int, proc: Path = _PROC) -> list[int]:
    """Return the numbers of the process ``root`` and of its descendants, where Linux lists them."""
    found = [root]
    for children in proc.glob(f"{root}/task/*/children"):
        with contextlib.suppress(OSError):
            for child in children.read_bytes().split():
                found += tree(int(child), proc)
    return found


def memory_of(processes: Sequence[int], proc: Path = _PROC) -> int:
    """Return how much memory these processes use together, in bytes.

    Pages that several of them share count once (proportional set size), where the kernel tells
    that, and else for each. What can't be read counts nothing.
    """
    return sum(_memory(proc / str(process)) for process in processes)


def _watch(
    device: DeviceMemory | None, interval: float, peaks: Peaks, over: threading.Event
) -> None:
    if device is not None and not device.open():
        device = None
    while True:
        last = over.is_set()
        processes = tree(os.getpid())
        if len(processes) > 1:
            # What a single one has used at most, the kernel knows better.
            peaks.memory = max(peaks.memory, memory_of(processes))
        used = None if device is None else device.used()
        if used is not None:
            peaks.device_memory = max(peaks.device_memory or 0, used)
        if last:
            break
        over.wait(interval)
    if device is not None:
        device.close()


def _memory(process: Path) -> int:
    with contextlib.suppress(OSError):
        found = _PSS.search((process / "smaps_rollup").read_bytes())
        if found is not None:
            return int(found[1]) * 1024
    with contextlib.suppress(OSError, IndexError):
        return int((process / "statm").read_bytes().split()[1]) * resource.getpagesize()
    return 0
