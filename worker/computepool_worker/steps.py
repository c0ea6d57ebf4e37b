"""What a worker does next. Pure: the whole order of a worker's life is decided here."""

from dataclasses import dataclass
from typing import TypeAlias

from computepool_api.outcomes import Outcome


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a worker takes on; None: no limit. ``max_time`` is in seconds."""

    claim_limit: int
    max_tasks: int | None
    max_time: float | None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a worker has come.

    ``held`` are the Tasks in hand that are still to be run, ``done`` and ``failed`` count the Tasks
    whose result the server has taken. ``found_nothing``: the last claim brought no Task.
    ``unusable``: a Task that cannot be run or pushed and that only leaving gives back.
    ``elapsed`` is in seconds since registration.
    """

    held: tuple[str, ...] = ()
    done: int = 0
    failed: int = 0
    found_nothing: bool = False
    unusable: str | None = None
    elapsed: float = 0.0

    @property
    def finished(self) -> int:
        """How many Tasks are off this worker's hands."""
        return self.done + self.failed


@dataclass(frozen=True, slots=True)
class Claim:
    """Claim at most ``count`` Tasks."""

    count: int


@dataclass(frozen=True, slots=True)
class Run:
    """Run the Task, from fetching it to pushing its result."""

    task: str


@dataclass(frozen=True, slots=True)
class Leave:
    """Deregister and exit."""

    outcome: Outcome


Step: TypeAlias = Claim | Run | Leave


def next_step(progress: Progress, limits: Limits) -> Step:
    """Decide what a registered worker with a fit device does next.

    ``max_time`` is looked at between Tasks, as in the stock service: it ends no Task, but once it
    has passed, claimed Tasks that were not begun go back to waiting.
    """
    time_is_up = limits.max_time is not None and progress.elapsed >= limits.max_time
    if progress.held and not (time_is_up and progress.finished):
        return Run(progress.held[0])
    if progress.unusable is not None:
        return Leave(Outcome.TASK_UNUSABLE)
    room = _room(progress, limits)
    if progress.found_nothing or time_is_up or room < 1:
        return Leave(Outcome.DONE if progress.finished else Outcome.NOTHING_TO_DO)
    return Claim(room)


def _room(progress: Progress, limits: Limits) -> int:
    if limits.max_tasks is None:
        return limits.claim_limit
    return min(limits.claim_limit, limits.max_tasks - progress.finished)


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait until ``until`` (monotonic, s), then deregister, or leave the registration standing."""

    until: float
    deregister: bool


def pause_after_ambiguous_push(*, since: float, pause: float, killed_at: float | None) -> Pause:
    """Decide how long a worker waits that does not know whether its result was stored.

    Deregistering puts the Task back to waiting, exactly right if nothing was stored and wrong if
    the server is still storing: hence ``pause`` seconds from ``since``. A worker that will be
    killed before (``killed_at``) stays as long as it can and leaves its registration to whoever
    cleans up after it, which is later still.
    """
    enough = since + pause
    if killed_at is None or enough <= killed_at:
        return Pause(until=enough, deregister=True)
    return Pause(until=killed_at, deregister=False)
