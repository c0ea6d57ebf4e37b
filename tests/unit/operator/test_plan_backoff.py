"""Workers that find nothing to claim although the server counts Tasks (invariant 3)."""

from datetime import timedelta

import pytest
from unit.operator.builders import (
    HOUR,
    MINUTE,
    SECOND,
    PlannedPool,
    ended,
    fleet,
    having_judged,
    make_spec,
)

from computepool_api.models import SkipInstruction
from computepool_api.outcomes import Outcome
from computepool_operator.judging import LONGEST_BACKOFF
from computepool_operator.plan import Plan
from computepool_operator.reasons import Reason
from computepool_operator.workers import Worker

INTERVAL = timedelta(seconds=30)


def in_vain(*names: str) -> tuple[Worker, ...]:
    return ended(Outcome.NOTHING_TO_DO, *names)


@pytest.fixture
def pool() -> PlannedPool:
    """A pool of `INTERVAL` that has created workers for 3 Tasks, which nobody can claim."""
    pool = PlannedPool(spec=make_spec(cycle_interval=INTERVAL))
    assert pool.cycle(3).create_workers == 3
    return pool


@pytest.fixture
def backing_off(pool: PlannedPool) -> PlannedPool:
    """The same after all three workers have left in vain."""
    pool.cycle(3, in_vain("w0", "w1", "w2"))
    return pool


OLD = in_vain("w0", "w1", "w2")


def test_workers_that_find_nothing_make_the_pool_back_off(pool: PlannedPool) -> None:
    decided = pool.cycle(3, in_vain("w0", "w1", "w2"))
    assert decided.create_workers == 0
    assert decided.verdict.reason is Reason.NOTHING_CLAIMABLE
    assert decided.memory.futile is not None
    assert decided.memory.futile.retry_at == pool.now + INTERVAL


def test_the_message_counts_the_tasks_and_says_when_the_next_worker_tries(
    pool: PlannedPool,
) -> None:
    message = pool.cycle(3, OLD).verdict.message
    assert "counts 3 Tasks as waiting" in message
    assert f"tries again at {pool.now + INTERVAL:%H:%M:%S} UTC" in message


def test_one_worker_in_vain_is_enough(pool: PlannedPool) -> None:
    decided = pool.cycle(3, (*in_vain("w0"), *fleet(starting=2)))
    assert decided.create_workers == 0


def test_the_pool_answers_the_server_as_ever(backing_off: PlannedPool) -> None:
    assert backing_off.cycle(3, OLD).saturation == 0.0


def test_nothing_is_created_before_the_pause_is_over(backing_off: PlannedPool) -> None:
    decided = backing_off.cycle(3, OLD, after=INTERVAL - SECOND)
    assert decided.create_workers == 0


def test_one_trial_worker_is_created_when_it_is_over(backing_off: PlannedPool) -> None:
    assert backing_off.cycle(3, OLD, after=INTERVAL).create_workers == 1


def test_there_is_one_trial_worker_at_a_time(backing_off: PlannedPool) -> None:
    backing_off.cycle(3, OLD, after=INTERVAL)
    for _ in range(3):
        decided = backing_off.cycle(3, (*OLD, *fleet(pending=1)), after=MINUTE)
        assert decided.create_workers == 0


def test_the_trial_waits_for_room(backing_off: PlannedPool) -> None:
    backing_off.spec = make_spec(cycle_interval=INTERVAL, max_compute_services=2)
    decided = backing_off.cycle(3, (*OLD, *fleet(running=2)), after=INTERVAL)
    assert decided.create_workers == 0


def test_each_trial_in_vain_doubles_the_pause(backing_off: PlannedPool) -> None:
    seen, pauses = OLD, []
    for number in range(4):
        assert backing_off.memory.futile is not None
        until = backing_off.memory.futile.retry_at
        assert backing_off.cycle(3, seen, after=until - backing_off.now).create_workers == 1
        seen += in_vain(f"trial-{number}")
        decided = backing_off.cycle(3, seen)
        assert decided.create_workers == 0
        assert decided.memory.futile is not None
        pauses.append(decided.memory.futile.retry_at - backing_off.now)
    assert pauses == [2 * INTERVAL, 4 * INTERVAL, 8 * INTERVAL, 16 * INTERVAL]


def test_the_pause_grows_to_an_hour_and_no_further(backing_off: PlannedPool) -> None:
    seen, longest = OLD, timedelta()
    for number in range(12):
        backing_off.cycle(3, seen, after=2 * HOUR)
        seen += in_vain(f"trial-{number}")
        futile = backing_off.cycle(3, seen).memory.futile
        assert futile is not None
        longest = max(longest, futile.retry_at - backing_off.now)
    assert longest == LONGEST_BACKOFF


def test_stragglers_of_the_same_wave_do_not_double_the_pause(pool: PlannedPool) -> None:
    pool.cycle(3, in_vain("w0"))
    first = pool.memory.futile
    decided = pool.cycle(3, in_vain("w0", "w1", "w2"), after=5 * SECOND)
    assert decided.memory.futile == first


def test_new_tasks_beyond_those_get_workers_at_once(backing_off: PlannedPool) -> None:
    decided = backing_off.cycle(5, OLD)
    assert decided.create_workers == 2
    assert decided.verdict.reason is Reason.WORKERS_CREATED


def test_workers_for_the_new_tasks_cover_them(backing_off: PlannedPool) -> None:
    backing_off.cycle(5, OLD)
    assert backing_off.cycle(5, (*OLD, *fleet(pending=2))).create_workers == 0


def test_new_tasks_that_are_claimed_leave_the_pause_as_it_is(backing_off: PlannedPool) -> None:
    backing_off.cycle(5, OLD)
    decided = backing_off.cycle(3, (*OLD, *fleet(running=2)))
    assert decided.create_workers == 0
    assert decided.verdict.reason is Reason.NOTHING_CLAIMABLE


def test_a_claim_of_one_of_those_tasks_ends_the_pause(backing_off: PlannedPool) -> None:
    decided = backing_off.cycle(2, OLD)
    assert decided.memory.futile is None
    assert decided.create_workers == 2


def test_after_such_a_claim_the_next_pause_is_short_again(backing_off: PlannedPool) -> None:
    backing_off.cycle(2, OLD)
    futile = backing_off.cycle(2, OLD + in_vain("w3")).memory.futile
    assert futile is not None
    assert futile.retry_at - backing_off.now == INTERVAL


def test_no_waiting_task_ends_the_pause(backing_off: PlannedPool) -> None:
    decided = backing_off.cycle(0, OLD)
    assert decided.memory.futile is None
    assert decided.verdict.reason is Reason.NO_TASKS


def test_a_worker_that_came_too_late_for_the_last_task_is_no_reason_to_back_off(
    pool: PlannedPool,
) -> None:
    decided = pool.cycle(0, in_vain("w0"))
    assert decided.memory.futile is None


def test_a_task_submitted_since_deserves_a_worker_of_its_own(pool: PlannedPool) -> None:
    # Of the 4 Tasks that wait now, 3 did so before: the worker in vain never saw the fourth.
    assert pool.cycle(4, in_vain("w0", "w1", "w2")).create_workers == 1


def test_when_tasks_went_elsewhere_only_the_rest_is_held_to_be_unclaimable(
    pool: PlannedPool,
) -> None:
    futile = pool.cycle(1, in_vain("w0", "w1", "w2")).memory.futile
    assert futile is not None
    assert futile.tasks == 1


def test_a_worker_that_did_something_is_no_reason(pool: PlannedPool) -> None:
    decided = pool.cycle(3, ended(Outcome.DONE, "w0"))
    assert decided.memory.futile is None
    assert decided.create_workers == 3


def test_an_end_is_judged_once(backing_off: PlannedPool) -> None:
    def pause() -> object:
        return backing_off.memory.futile

    before = pause()
    for _ in range(5):
        backing_off.cycle(3, OLD, after=2 * SECOND)
    assert pause() == before


def test_what_the_operator_before_us_has_judged_is_no_reason() -> None:
    pool = PlannedPool(memory=having_judged(OLD))
    decided: Plan = pool.cycle(3, OLD)
    assert decided.memory.futile is None
    assert decided.create_workers == 3


def test_an_end_under_skip_is_no_reason(pool: PlannedPool) -> None:
    # SKIP does not say how many Tasks wait, so nobody knows whether there was anything to claim.
    decided = pool.cycle(SkipInstruction(()), in_vain("w0"))
    assert decided.memory.futile is None
