"""When the next cycle begins."""

from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st
from unit.operator.builders import make_worker, table

from computepool_operator.cadence import (
    CALM_SPACING,
    JITTER,
    LONGEST_ERROR_DELAY,
    URGENT_SPACING,
    delay_after,
    is_urgent,
    spacing,
)
from computepool_operator.workers import Worker, WorkerState


@dataclass(frozen=True)
class Delay:
    interval: float
    errors: int
    seconds: float


DELAYS = {
    "the interval after a good cycle": Delay(30, 0, 30),
    "twice the interval after an error": Delay(10, 1, 20),
    "twice that after another": Delay(10, 2, 40),
    "no more than a minute however many": Delay(10, 50, LONGEST_ERROR_DELAY),
    "never less than the interval": Delay(600, 3, 600),
}


@table(DELAYS)
def test_the_delay_is(case: Delay) -> None:
    assert delay_after(case.interval, case.errors, spread=0.5) == case.seconds


@given(st.floats(1, 1200), st.integers(0, 100), st.floats(0, 1, exclude_max=True))
def test_pools_drift_apart_but_not_far(interval: float, errors: int, spread: float) -> None:
    middle = delay_after(interval, errors, spread=0.5)
    assert abs(delay_after(interval, errors, spread) - middle) <= JITTER * middle * 1.001


def test_a_finished_worker_is_replaced_well_within_a_second() -> None:
    assert spacing(urgent=True) == URGENT_SPACING <= 0.5
    assert spacing(urgent=False) == CALM_SPACING


def workers(**states: str) -> dict[str, Worker]:
    return {name: make_worker(state, name) for name, state in states.items()}


@dataclass(frozen=True)
class Change:
    before: dict[str, Worker]
    after: dict[str, Worker]
    urgent: bool


CHANGES = {
    "a worker that has ended": Change(workers(a="Running"), workers(a="Succeeded"), urgent=True),
    "a worker that has failed": Change(workers(a="Starting"), workers(a="Failed"), urgent=True),
    "a worker that has claimed": Change(workers(a="Starting"), workers(a="Running"), urgent=True),
    "a worker that is told to go": Change(workers(a="Running"), workers(a="Ending"), urgent=True),
    "a worker that has ended, its pod not": Change(
        workers(a="Starting"), workers(a="Lingering"), urgent=True
    ),
    "a worker that has ended after it was told to go, its pod not": Change(
        workers(a="Ending"),
        {"a": make_worker("Ending", "a", lingering_end=WorkerState.SUCCEEDED)},
        urgent=True,
    ),
    "a worker that is gone": Change(
        workers(a="Running", b="Running"), workers(a="Running"), urgent=True
    ),
    "an ended worker that was not seen before": Change({}, workers(a="Failed"), urgent=True),
    "a new worker": Change({}, workers(a="Pending"), urgent=False),
    "a worker that got a node": Change(workers(a="Pending"), workers(a="Starting"), urgent=False),
    "a worker whose image is late": Change(
        workers(a="Pending"),
        {"a": replace(make_worker("Pending", "a"), trouble="ImagePullBackOff")},
        urgent=False,
    ),
    "nothing": Change(workers(a="Running"), workers(a="Running"), urgent=False),
}


@table(CHANGES)
def test_what_is_urgent(case: Change) -> None:
    assert is_urgent(case.before, case.after) is case.urgent
