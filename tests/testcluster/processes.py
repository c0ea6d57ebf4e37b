"""Start long-running programs in sessions of their own, and stop exactly those.

A process is known by its pid and its start time, so that a pid the kernel has given to somebody
else is never signalled. Each also carries a marker in its environment: what a crash left
unrecorded is found by that.
"""

import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from testcluster.commands import tail
from testcluster.errors import TestClusterError

MARKER = "COMPUTEPOOL_TESTCLUSTER"
POLL = 0.02


@dataclass(frozen=True)
class Process:
    """A started program: its name, pid, start time in clock ticks since boot, and log file."""

    name: str
    pid: int
    started: int
    log: str

    def to_json(self) -> dict[str, Any]:
        """Return the record as kept in the state folder."""
        return asdict(self)


def from_json(record: Mapping[str, Any]) -> Process:
    """Read a record of the state folder."""
    return Process(record["name"], record["pid"], record["started"], record["log"])


def this_process() -> Process:
    """Return the record of the running Python process, as the owner of a cluster."""
    return Process("owner", os.getpid(), _start_time(os.getpid()) or 0, "")


def start(name: str, argv: Sequence[str | Path], log: Path, marker: str) -> Process:
    """Start ``argv`` in a new session with its output appended to ``log``.

    Raises TestClusterError when the program cannot be executed.
    """
    environment = dict(os.environ) | {MARKER: marker}
    writing = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    words = [str(word) for word in argv]
    try:
        pid = os.posix_spawnp(
            words[0],
            words,
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), writing, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
    except OSError as error:
        raise TestClusterError(f"cannot start {name} ({words[0]}): {error}") from error
    return Process(name, pid, _start_time(pid) or 0, str(log))


def only_child(name: str, parent: Process) -> Process:
    """Return the one child of ``parent``; TestClusterError if it has none or several."""
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    if len(children) != 1:
        raise TestClusterError(died(parent, f"it should have one child, and has {len(children)}"))
    pid = int(children[0])
    return Process(name, pid, _start_time(pid) or 0, parent.log)


def is_alive(process: Process) -> bool:
    """Tell whether that very process still runs; a dead child of ours is reaped on the way."""
    _reap(process.pid)
    return _start_time(process.pid) == process.started


def stop(processes: Iterable[Process], *, grace: float = 10.0) -> None:
    """Terminate the processes together; kill what is still there after ``grace`` seconds.

    Without grace they are killed at once.

    Raises TestClusterError if one survives even that.
    """
    remaining = [process for process in processes if is_alive(process)]
    gently = [(signal.SIGTERM, grace)] if grace else []
    for number, patience in (*gently, (signal.SIGKILL, 10.0)):
        for process in remaining:
            _signal(process, number)
        deadline = time.monotonic() + patience
        while remaining and time.monotonic() < deadline:
            remaining = [process for process in remaining if is_alive(process)]
            time.sleep(POLL if remaining else 0)
    if remaining:
        names = ", ".join(f"{process.name} (pid {process.pid})" for process in remaining)
        raise TestClusterError(f"still running after SIGKILL: {names}")


def marked(marker: str) -> list[Process]:
    """Return the processes that carry ``marker`` in their environment."""
    wanted = f"{MARKER}={marker}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        pid = int(entry.name)
        try:
            carries = wanted in (entry / "environ").read_bytes().split(b"\0")
        except OSError:  # gone in the meantime, or somebody else's
            continue
        started = _start_time(pid)
        if carries and started is not None and pid != os.getpid():
            found.append(Process("unrecorded", pid, started, ""))
    return found


def wait_until(
    condition: Callable[[], bool],
    what: str,
    *,
    timeout: float,
    watched: Sequence[Process] = (),
    poll: float = 0.05,
) -> None:
    """Wait until ``condition`` holds.

    Raises TestClusterError, with the end of the log, when a watched process dies meanwhile, and
    with the names of all logs when ``timeout`` seconds have passed.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        for process in watched:
            if not is_alive(process):
                raise TestClusterError(died(process, f"while waiting for {what}"))
        if time.monotonic() > deadline:
            logs = "".join(f"\n  {process.log}" for process in watched)
            raise TestClusterError(f"{what}: not so after {timeout:.0f} s. The logs are:{logs}")
        time.sleep(poll)


def died(process: Process, remark: str) -> str:
    """Return the message for a process that has ended although it should not."""
    log = Path(process.log)
    said = tail(log.read_text(errors="replace")) if log.is_file() else "(no log)"
    return f"{process.name} died ({remark}). The end of {log}:\n{said}"


def _signal(process: Process, number: signal.Signals) -> None:
    if is_alive(process):
        try:
            os.kill(process.pid, number)
        except ProcessLookupError:
            return


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def _start_time(pid: int) -> int | None:
    """Return the start time of a process in clock ticks since boot; None if dead or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # proc(5): the command name is in parentheses and may itself contain spaces and parentheses.
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in {"Z", "X"} else int(fields[18])
