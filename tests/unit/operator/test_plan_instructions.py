"""What each instruction of the server leads to, and what no instruction does."""

from dataclasses import replace
from datetime import timedelta

import pytest
from unit.operator.builders import (
    HOUR,
    NOON,
    SECOND,
    PlannedPool,
    fleet,
    having_judged,
    make_service_id,
    make_spec,
    make_worker,
    plan_once,
)

from computepool_api.models import ShutdownInstruction, SkipInstruction
from computepool_operator.memory import Halt, Memory
from computepool_operator.plan import MANAGER_EXPIRY, Unknown, is_halted, saturation
from computepool_operator.reasons import Reason

SKIP = SkipInstruction(())
SHUTDOWN = ShutdownInstruction("this manager is not registered")


def reported(ago: timedelta | None) -> Memory:
    return Memory(judged=frozenset(), reported_at=None if ago is None else NOON - ago)


class TestSkip:
    def test_skip_creates_nothing_and_still_answers(self) -> None:
        decided = plan_once(SKIP, fleet(running=4), max_compute_services=8)
        assert decided.create_workers == 0
        assert decided.saturation == 0.5
        assert decided.verdict.reason is Reason.SKIPPED_BY_SERVER

    def test_skip_says_nothing_about_waiting_tasks_so_their_number_is_kept(self) -> None:
        pool = PlannedPool()
        pool.cycle(5)
        pool.cycle(SKIP)
        assert pool.memory.waiting_tasks == 5

    def test_skip_cleans_up_all_the_same(self) -> None:
        dead = fleet(failed=1)
        instruction = SkipInstruction((make_service_id(dead[0].name),))
        decided = plan_once(instruction, dead, having_judged(dead), job={"keep_failed": 0})
        assert decided.reap == (make_service_id(dead[0].name),)
        assert decided.prune == dead

    def test_what_does_not_start_in_time_is_given_up_under_skip_as_well(self) -> None:
        pool = PlannedPool()
        late = [make_worker("Pending", created_at=NOON - timedelta(hours=1))]
        assert pool.cycle(SKIP, late).remove == ()
        decided = pool.cycle(SKIP, late)
        assert decided.remove == tuple(late)
        assert decided.memory.consecutive_failures == 1

    def test_after_skip_an_ok_creates_at_once(self) -> None:
        pool = PlannedPool()
        pool.cycle(SKIP)
        assert pool.cycle(3).create_workers == 3


class TestShutdown:
    @pytest.mark.parametrize(
        "ago",
        [
            pytest.param(SECOND, id="a moment ago"),
            pytest.param(MANAGER_EXPIRY - SECOND, id="not quite an hour ago"),
        ],
    )
    def test_shutdown_soon_after_a_report_halts(self, ago: timedelta) -> None:
        decided = plan_once(SHUTDOWN, fleet(running=2), reported(ago), generation=3)
        assert not decided.renew
        assert decided.verdict.reason is Reason.SHUT_DOWN_BY_SERVER
        assert is_halted(decided.memory, 3)

    @pytest.mark.parametrize(
        "ago",
        [
            pytest.param(MANAGER_EXPIRY, id="after an hour's silence"),
            pytest.param(30 * HOUR, id="after a long absence"),
            pytest.param(None, id="when it has never been registered"),
        ],
    )
    def test_shutdown_of_a_registration_that_plainly_lapsed_renews(
        self, ago: timedelta | None
    ) -> None:
        decided = plan_once(SHUTDOWN, fleet(running=2), reported(ago), generation=3)
        assert decided.renew
        assert decided.verdict.reason is Reason.NOT_REGISTERED
        assert not is_halted(decided.memory, 3)

    def test_shutdown_creates_removes_and_answers_nothing(self) -> None:
        decided = plan_once(SHUTDOWN, fleet(failed=40), reported(SECOND))
        assert (decided.create_workers, decided.remove, decided.prune) == (0, (), ())
        assert decided.saturation is None

    def test_the_tasks_of_workers_that_have_just_died_wait_again(self) -> None:
        decided = plan_once(SHUTDOWN, fleet(failed=1, running=1), reported(SECOND))
        assert decided.reap == (make_service_id("failed-0"),)

    def test_the_message_says_what_happened_and_how_to_resume(self) -> None:
        decided = plan_once(SHUTDOWN, memory=reported(SECOND))
        assert "(this manager is not registered)" in decided.verdict.message
        assert "To resume" in decided.verdict.message

    def test_a_halted_pool_stays_so_whatever_is_observed(self) -> None:
        pool = PlannedPool(generation=3)
        pool.cycle(SHUTDOWN)
        for instruction in (5, SKIP, Unknown(Reason.COMPUTE_API_UNAVAILABLE, "down")):
            decided = pool.cycle(instruction, fleet(running=1))
            assert decided.create_workers == 0
            assert decided.saturation is None
            assert decided.verdict.reason is Reason.SHUT_DOWN_BY_SERVER

    def test_a_halted_pool_prunes_what_has_finished(self) -> None:
        pool = PlannedPool(spec=make_spec(job={"keep_succeeded": 0}))
        done = fleet(succeeded=1)
        pool.cycle(SHUTDOWN, done)
        unasked = Unknown(Reason.SHUT_DOWN_BY_SERVER, "not asked")
        assert pool.cycle(unasked, done).prune == done

    def test_a_halted_pool_returns_the_tasks_of_workers_that_died(self) -> None:
        # Nobody else knows them: who has the manager's name now has other pods.
        pool = PlannedPool()
        pool.cycle(SHUTDOWN, fleet(running=1))
        dead = fleet(failed=1, succeeded=1, running=1)
        unasked = Unknown(Reason.SHUT_DOWN_BY_SERVER, "not asked")
        assert pool.cycle(unasked, dead).reap == (make_service_id("failed-0"),)

    def test_a_changed_spec_resumes(self) -> None:
        pool = PlannedPool(generation=3)
        pool.cycle(SHUTDOWN)
        pool.generation = 4
        decided = pool.cycle(2)
        assert decided.create_workers == 2
        assert decided.memory.halt is None

    def test_what_changed_before_the_shutdown_does_not_resume(self) -> None:
        memory = replace(reported(SECOND), halt=Halt(generation=4, message="", since=NOON))
        assert is_halted(memory, 4)
        assert not is_halted(memory, 5)


class TestUnknown:
    UNKNOWN = Unknown(Reason.COMPUTE_API_UNAVAILABLE, "POST instruction: timed out")

    def test_an_unknown_instruction_does_nothing(self) -> None:
        workers = fleet(failed=40, succeeded=40, running=1)
        decided = plan_once(self.UNKNOWN, workers, max_compute_services=80)
        assert (decided.create_workers, decided.reap, decided.prune) == (0, (), ())
        assert decided.saturation is None
        assert not decided.renew

    def test_it_gives_its_own_reason(self) -> None:
        decided = plan_once(self.UNKNOWN)
        assert decided.verdict.reason is Reason.COMPUTE_API_UNAVAILABLE
        assert decided.verdict.message == "POST instruction: timed out"

    def test_it_is_not_zero_the_number_of_waiting_tasks_is_kept(self) -> None:
        pool = PlannedPool()
        pool.cycle(5)
        assert pool.cycle(self.UNKNOWN).memory.waiting_tasks == 5

    def test_what_is_there_is_counted_all_the_same(self) -> None:
        decided = plan_once(self.UNKNOWN, fleet(running=2, failed=1))
        assert (decided.counts.active, decided.counts.failed) == (2, 1)


@pytest.mark.parametrize(
    ("active", "most", "expected"),
    [(0, 4, 0.0), (1, 4, 0.25), (4, 4, 1.0), (9, 4, 1.0), (0, 0, 1.0), (3, 0, 1.0)],
)
def test_saturation_is_within_what_the_server_accepts(
    active: int, most: int, expected: float
) -> None:
    assert saturation(active, most) == expected
