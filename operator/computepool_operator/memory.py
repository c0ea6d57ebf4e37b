"""What a pool remembers from one cycle to the next. Pure values; `status.py` writes them down."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from .revision import Revision
from .workers import WorkerState


@dataclass(frozen=True, slots=True)
class Backoff:
    """A pause in creating workers that ends with one trial worker.

    `rounds` counts pauses in a row (each twice as long as the one before), `retry_at` is when the
    trial worker may be created, `tasks` how many waiting Tasks the pause is about.
    """

    rounds: int
    retry_at: datetime
    tasks: int = 0


@dataclass(frozen=True, slots=True)
class Halt:
    """The server told the pool to shut down, at this generation of the pool; a person resumes."""

    generation: int
    message: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Quarantine:
    """A node that gets no workers of the pool until a time, and why.

    `in_a_row`: no worker has succeeded since, anywhere.
    """

    node: str
    reason: str
    since: datetime
    until: datetime
    in_a_row: bool = False


@dataclass(frozen=True, slots=True)
class Crashes:
    """A Task that workers died of: how many, when the last, and how that one ended.

    `in_a_row`: it is among the pool's `consecutive_failures`, in which a Task counts once.
    """

    task: str
    number: int
    last_at: datetime
    story: str
    in_a_row: bool = False


@dataclass(frozen=True, slots=True)
class Memory:
    """What a cycle leaves to the next. All of it survives in the pool's status (invariant 11).

    `judged` holds the names of the workers that are still there and whose end has been taken into
    account, and how they ended. `waiting_tasks` is the server's last count. `left_since`: services
    that are registered although no worker at work has them, and when that was first seen.
    `given_up`: names of workers that did not start in time and whose failure is counted.
    `revision`: what new workers were created from.
    `resume`: the value of the resume annotation that has been acted upon. `gone_succeeded` and
    `gone_failed` count finished workers whose Jobs have been removed.
    """

    judged: frozenset[tuple[str, WorkerState]] = frozenset()
    waiting_tasks: int | None = None
    left_since: tuple[tuple[str, datetime], ...] = ()
    given_up: frozenset[str] = frozenset()
    futile: Backoff | None = None
    consecutive_failures: int = 0
    last_failure: str = ""
    failing: Backoff | None = None
    halt: Halt | None = None
    reported_at: datetime | None = None
    resume: str | None = None
    revision: Revision | None = None
    quarantined: tuple[Quarantine, ...] = ()
    crashes: tuple[Crashes, ...] = ()
    gone_succeeded: int = 0
    gone_failed: int = 0

    def finished(self, state: WorkerState) -> int:
        """How many workers have ever ended in a state, those that are still kept among them."""
        gone = self.gone_succeeded if state is WorkerState.SUCCEEDED else self.gone_failed
        return gone + sum(1 for _name, judged in self.judged if judged is state)
