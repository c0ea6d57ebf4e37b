"""What a worker does next. Pure: the whole order of a worker's life is decided here."""

from dataclasses import dataclass
from typing import TypeAlias

from computepool_api.outcomes import Outcome


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a worker takes on, and what it does then; None: no limit. Times are in seconds.

    An ``ephemeral`` worker leaves where any other sleeps: for ``sleep_interval`` when there was
    nothing to claim, for ``deep_sleep_interval`` when it was denied. ``max_failures`` is how many
    failed results it pushes within ``forgive_time``.
    """

    claim_limit: int
    max_tasks: int | None
    max_time: float | None
    ephemeral: bool = True
    sleep_interval: float = 30.0
    deep_sleep_interval: float = 300.0
    max_failures: int = 3
    forgive_time: float = 600.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a worker has come.

    ``held`` are the Tasks in hand that are still to be run, ``done`` and ``failed`` count the Tasks
    whose result the server has taken. ``found_nothing``: the last claim brought no Task,
    ``denied``: the server refused to give any. ``unusable``: a Task that cannot be run or pushed
    and that only leaving gives back. ``elapsed`` is in seconds since registration, and so is
    ``failed_at``, when each failed result was pushed.
    """

    held: tuple[str, ...] = ()
    done: int = 0
    failed: int = 0
    found_nothing: bool = False
    denied: bool = False
    unusable: str | None = None
    elapsed: float = 0.0
    failed_at: tuple[float, ...] = ()

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
class Sleep:
    """Wait for ``seconds``, and because of what. Tasks in hand are given back before."""

    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class Leave:
    """Deregister and exit."""

    outcome: Outcome
    detail: str = ""


Step: TypeAlias = Claim | Run | Sleep | Leave


def next_step(progress: Progress, limits: Limits) -> Step:
    """Decide what a registered worker with a fit device does next.

    ``max_time`` is looked at between Tasks, as in the stock service: it ends no Task, but once it
    has passed, claimed Tasks that were not begun go back to waiting.

    The server denies Tasks to a service with more than ``max_failures`` failures within
    ``forgive_time``, and puts the whole manager on hold for it. So nothing is begun that could fail
    once more before then.
    """
    time_is_up = limits.max_time is not None and progress.elapsed >= limits.max_time
    finish = Leave(Outcome.DONE if progress.finished else Outcome.NOTHING_TO_DO)
    room = _room(progress, limits)
    if not progress.held and (progress.unusable is not None or time_is_up or room < 1):
        return _blaming(progress, finish)
    forgiven_in = _forgiven_in(progress, limits)
    if forgiven_in > 0:
        if limits.ephemeral or time_is_up:
            return _blaming(progress, Leave(Outcome.DONE, "one failure more would be too many"))
        return _sleep(forgiven_in, "failures", progress, limits)
    if progress.held:
        return finish if time_is_up and progress.finished else Run(progress.held[0])
    if progress.denied:
        if limits.ephemeral:
            return Leave(
                Outcome.DENIED,
                "the server denies this service Tasks: too many of its Tasks failed within a "
                "short time",
            )
        return _sleep(limits.deep_sleep_interval, "denied", progress, limits)
    if progress.found_nothing:
        if limits.ephemeral:
            return finish
        return _sleep(limits.sleep_interval, "nothing to claim", progress, limits)
    return Claim(room)


def _blaming(progress: Progress, otherwise: Leave) -> Leave:
    """Leave; a Task that only leaving gives back is what has to be told."""
    return otherwise if progress.unusable is None else Leave(Outcome.TASK_UNUSABLE)


def _sleep(seconds: float, reason: str, progress: Progress, limits: Limits) -> Sleep:
    if limits.max_time is not None:
        seconds = min(seconds, limits.max_time - progress.elapsed)
    return Sleep(seconds, reason)


def _forgiven_in(progress: Progress, limits: Limits) -> float:
    """Return in how many seconds another Task may fail; 0 or less: now."""
    if len(progress.failed_at) < limits.max_failures:
        return 0.0
    return progress.failed_at[-limits.max_failures] + limits.forgive_time - progress.elapsed


def _room(progress: Progress, limits: Limits) -> int:
    if limits.max_tasks is None:
        return limits.claim_limit
    return min(limits.claim_limit, limits.max_tasks - progress.finished)


# What is over with the registration, or passes: a new one may fare better.
_PASSING = (
    Outcome.TASK_UNUSABLE,
    Outcome.TASK_CRASHED,
    Outcome.PUSH_AMBIGUOUS,
    Outcome.REGISTRATION_LOST,
    Outcome.API_UNREACHABLE,
)


def pause_before_next_life(outcome: Outcome, troubles: int, limits: Limits) -> float | None:
    """Return after how many seconds a standing service registers anew; None: it leaves for good.

    A Task that only deregistering gives back comes back, so a service that had ``troubles`` in a
    row, this one included, slows down.
    """
    if outcome not in _PASSING:
        return None
    pause = limits.sleep_interval * 2.0 ** min(troubles - 1, 30)
    return min(pause, max(limits.deep_sleep_interval, limits.sleep_interval))


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
