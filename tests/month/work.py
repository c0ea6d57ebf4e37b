"""What the Tasks are like, and each attempt at one."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Nature(StrEnum):
    """How executing a Task goes, wherever it is executed."""

    FINE = "fine"
    FAILS = "fails"
    """Its protocol raises: a failed result is the right end."""
    POISON = "poison"
    """It takes down every process that executes it."""


@dataclass(slots=True)
class Attempt:
    """A stretch of a GPU's time spent on a Task. `counted`: its result is the Task's."""

    work: Work
    began: float
    ended: float | None = None
    counted: bool = False

    def seconds(self, now: float) -> float:
        return (now if self.ended is None else self.ended) - self.began


@dataclass(slots=True)
class Work:
    """A Task as its user knows it, and what became of it. Times are in seconds since the epoch."""

    key: str
    seconds: float
    nature: Nature
    submitted: float
    parent: str | None = None
    ended: float | None = None
    attempts: list[Attempt] = field(default_factory=list)
    crashes: int = 0
    results: int = 0
