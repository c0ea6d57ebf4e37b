"""Whose fault the death of a child is, and how it is told. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from computepool_worker.memory import Shortages

# With less than this nothing that writes files works any more.
_NEXT_TO_NOTHING = 1024 * 1024
# The whole story has to pass the pipe to the child that writes it down, and people have to read it.
_STORY_LENGTH = 7000


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the machine says; ``memory`` None: it does not say. ``free_scratch`` is in bytes."""

    memory: Shortages | None
    free_scratch: int


@dataclass(frozen=True, slots=True)
class Crash:
    """One death of a child that executed a Task.

    ``what`` happened, the ``last_lines`` of its stderr, its ``peak_memory`` in bytes (None: not
    known), and how many ``seconds`` after it was given the Task.
    """

    what: str
    last_lines: tuple[str, ...]
    peak_memory: int | None
    seconds: float


def host_fault(before: Surroundings, after: Surroundings) -> str | None:
    """Return what this machine is to blame for, or None if it is not.

    Such a crash says nothing about the Task: a process that the kernel killed since the machine had
    no more memory may have been the victim of a neighbour.
    """
    if _was_killed(before, after) and not reached_limit(before, after):
        return "the kernel has killed a process of this container for want of memory"
    if after.free_scratch < _NEXT_TO_NOTHING:
        return "the scratch space is full"
    return None


def reached_limit(before: Surroundings, after: Surroundings) -> bool:
    """Return whether the kernel has killed a process since the container came to its own limit."""
    if before.memory is None or after.memory is None:
        return False
    return _was_killed(before, after) and after.memory.at_limit != before.memory.at_limit


def _was_killed(before: Surroundings, after: Surroundings) -> bool:
    if before.memory is None or after.memory is None:
        return False
    return after.memory.kills != before.memory.kills


def story(crashes: Sequence[Crash]) -> str:
    """Tell of the deaths as the traceback of a failed result: the last one with all its words."""
    *earlier, last = crashes
    lines = [
        "This Task was executed by a process that died, so there is no traceback of Python's own.",
        *(f"Attempt {number}: {_in_a_line(crash)}" for number, crash in enumerate(earlier, 1)),
        f"Attempt {len(crashes)}: {_in_a_line(last)}",
    ]
    head = "\n".join(lines)
    tail = "\n".join(last.last_lines)
    room = _STORY_LENGTH - len(head)
    if not tail or room < 200:
        return f"{head}\n"[:_STORY_LENGTH]
    return f"{head}\nThe end of its stderr:\n{tail[-room:]}\n"


def _in_a_line(crash: Crash) -> str:
    memory = (
        ""
        if crash.peak_memory is None
        else f", after using at most {crash.peak_memory / 2**20:.0f} MiB of memory"
    )
    return f"the process {crash.what} after {crash.seconds:.1f} s{memory}."
