"""Whose fault the death of a child is, and how it is told. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

# With less than this nothing that writes files works any more.
_NEXT_TO_NOTHING = 1024 * 1024
# The whole story has to pass the pipe to the child that writes it down, and people have to read it.
_STORY_LENGTH = 7000


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the machine says; ``memory_kills`` None: it does not say.

    ``memory_kills`` counts processes killed for want of memory, ``free_scratch`` is in bytes.
    """

    memory_kills: int | None
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

    Such a crash says nothing about the Task. A process that the kernel killed for want of memory
    may have been the victim of a neighbour.
    """
    if None not in (before.memory_kills, after.memory_kills) and after.memory_kills != (
        before.memory_kills
    ):
        return "the kernel has killed a process of this container for want of memory"
    if after.free_scratch < _NEXT_TO_NOTHING:
        return "the scratch space is full"
    return None


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
