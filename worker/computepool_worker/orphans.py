"""Processes that have left the session of the child that they descend from.

A process group can be killed as one. But whatever has called ``setsid`` is in another (launchers of
MPI and dask, daemons); it survives the child and keeps its memory on the GPU. Linux lets this
process take the place of init for its descendants: when the child ends, they become its own
children, are found among them, and can be killed without mistaking a number for another's.

A session can be left, but not be entered. So a child in this process's session was started by this
process, and is spared; so are those that it has started in a session of their own, of which
`start_apart` keeps the list, and those that were there before.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_PROCESSES = Path("/proc")
_PR_SET_CHILD_SUBREAPER = 36
_LOOK_INTERVAL = 0.02

_lock = threading.Lock()
_spared: set[int] = set()


def adopt() -> bool:
    """Become the parent of what descends from this process; False where that can't be had."""
    if sys.platform != "linux":
        return False
    try:
        return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
    except (AttributeError, OSError):
        return False


def start_apart(start: "Callable[[], subprocess.Popen[bytes]]") -> "subprocess.Popen[bytes]":
    """Start a process in a session of its own; it is spared, and so is what was there before."""
    with _lock:
        _spared.update(_found())
        process = start()
        _spared.add(process.pid)
    return process


def forget(pid: int) -> None:
    """Spare the number no longer: the process that had it is reaped."""
    with _lock:
        _spared.discard(pid)


def end_all(patience: float) -> tuple[list[int], list[int]]:
    """Kill and reap them, and theirs; return which have ended and which have not in time (s)."""
    deadline = time.monotonic() + patience
    ended: list[int] = []
    while True:
        with _lock:
            left = [pid for pid in _found() if pid not in _spared]
            for pid in left:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
                if _reaped(pid):
                    ended.append(pid)
        if not left or time.monotonic() > deadline:
            return ended, [pid for pid in left if pid not in ended]
        # One that is dead may leave others behind, which are found only then.
        time.sleep(_LOOK_INTERVAL)


def _reaped(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def _found() -> list[int]:
    """Return this process's children in other sessions than its own; none where /proc is not."""
    own = os.getpid(), os.getsid(0)
    try:
        numbers = [int(path.name) for path in _PROCESSES.iterdir() if path.name.isdigit()]
    except OSError:
        return []
    return [pid for pid in numbers if _is_child_apart(pid, *own)]


def _is_child_apart(pid: int, parent: int, session: int) -> bool:
    try:
        stat = (_PROCESSES / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    # The command's name comes before, in parentheses, and may hold anything.
    _state, its_parent, _group, its_session = stat.rpartition(")")[2].split()[:4]
    return int(its_parent) == parent and int(its_session) != session
