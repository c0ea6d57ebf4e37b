"""Workers that fail in a row: the circuit opens, and one canary at a time tries to close it."""

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
    make_worker,
)

from computepool_api.outcomes import Outcome
from computepool_operator.judging import LONGEST_BACKOFF
from computepool_operator.reasons import Reason
from computepool_operator.workers import Worker, WorkerState

RETRY = timedelta(minutes=10)


def failed(*names: str) -> tuple[Worker, ...]:
    return ended(Outcome.TASK_CRASHED, *names)


THREE = failed("w0", "w1", "w2")


@pytest.fixture
def pool() -> PlannedPool:
    """A pool that allows 3 failures in a row and has seen no end yet."""
    policy = {"max_consecutive_failures": 3, "retry_after": RETRY}
    pool = PlannedPool(spec=make_spec(failure_policy=policy))
    pool.cycle(5, fleet(running=3))
    return pool


@pytest.fixture
def open_circuit(pool: PlannedPool) -> PlannedPool:
    """The same after three failures in a row."""
    pool.cycle(5, THREE)
    return pool


def canary(pool: PlannedPool, state: str = "Pending") -> tuple[Worker, ...]:
    """The worker that the last plan of `pool` has created."""
    return (make_worker(state, "canary", created_at=pool.now),)


class TestOpening:
    def test_one_failure_is_replaced(self, pool: PlannedPool) -> None:
        decided = pool.cycle(2, failed("w0"))
        assert decided.create_workers == 2
        assert decided.memory.consecutive_failures == 1

    def test_three_failures_pause(self, pool: PlannedPool) -> None:
        decided = pool.cycle(5, THREE)
        assert decided.create_workers == 0
        assert decided.verdict.reason is Reason.WORKERS_FAILING
        assert decided.memory.failing is not None
        assert decided.memory.failing.retry_at == pool.now + RETRY

    def test_it_does_not_matter_whether_they_come_together(self, pool: PlannedPool) -> None:
        pool.cycle(5, failed("w0"))
        pool.cycle(5, failed("w0", "w1"))
        assert pool.cycle(5, THREE).create_workers == 0

    def test_a_success_in_between_begins_the_count_anew(self, pool: PlannedPool) -> None:
        pool.cycle(5, failed("w0", "w1"))
        decided = pool.cycle(5, (*failed("w0", "w1", "w3"), *ended(Outcome.DONE, "w2")))
        assert decided.memory.consecutive_failures <= 1
        assert decided.create_workers == 5

    def test_what_finished_last_counts_last(self, pool: PlannedPool) -> None:
        # Seen in one cycle, the success came after the failures.
        later = ended(Outcome.DONE, "a-good-one", at=pool.now + MINUTE)
        assert pool.cycle(5, (*THREE, *later)).memory.consecutive_failures == 0

    def test_a_worker_without_a_word_counts(self, pool: PlannedPool) -> None:
        decided = pool.cycle(5, ended(None, "w0", "w1", "w2"))
        assert decided.memory.consecutive_failures == 3

    def test_a_worker_that_was_told_to_go_has_not_failed(self, pool: PlannedPool) -> None:
        gone = ended(Outcome.TERMINATED, "w0", "w1", "w2")
        assert pool.cycle(5, gone).memory.consecutive_failures == 0

    def test_a_worker_that_found_nothing_proves_nothing(self, pool: PlannedPool) -> None:
        pool.cycle(5, failed("w0", "w1"))
        seen = (*failed("w0", "w1"), *ended(Outcome.NOTHING_TO_DO, "w2"))
        assert pool.cycle(5, seen).memory.consecutive_failures == 2

    def test_an_end_is_judged_once(self, pool: PlannedPool) -> None:
        for _ in range(5):
            decided = pool.cycle(5, failed("w0"))
        assert decided.memory.consecutive_failures == 1

    def test_an_end_that_is_out_of_sight_for_a_moment_is_judged_once(
        self, pool: PlannedPool
    ) -> None:
        # The pod of a failed worker is deleted before its Job is marked as failed.
        for workers in (failed("w0"), (make_worker("Pending", "w0"),), failed("w0")):
            decided = pool.cycle(5, workers)
        assert decided.memory.consecutive_failures == 1
        assert decided.memory.gone_failed == 0

    def test_what_the_operator_before_us_has_judged_does_not_open_it_again(self) -> None:
        pool = PlannedPool(memory=having_judged(THREE))
        assert pool.cycle(5, THREE).create_workers == 5

    def test_the_message_says_how_many_and_when_the_next_worker_tries(
        self, open_circuit: PlannedPool
    ) -> None:
        message = open_circuit.cycle(5, THREE).verdict.message
        assert "The last 3 workers failed" in message
        assert "One worker tries again at 12:10:02 UTC" in message

    def test_the_running_are_left_alone_and_the_server_is_told_error(
        self, pool: PlannedPool
    ) -> None:
        decided = pool.cycle(5, (*THREE, *fleet(running=4)))
        assert (decided.prune, decided.remove, decided.saturation) == ((), (), None)
        assert decided.error is not None
        assert "3 workers in a row failed" in decided.error


class TestCanary:
    def test_none_before_the_pause_is_over(self, open_circuit: PlannedPool) -> None:
        assert open_circuit.cycle(5, THREE, after=RETRY - SECOND).create_workers == 0

    def test_one_when_it_is_over(self, open_circuit: PlannedPool) -> None:
        assert open_circuit.cycle(5, THREE, after=RETRY).create_workers == 1

    def test_none_while_no_task_waits(self, open_circuit: PlannedPool) -> None:
        assert open_circuit.cycle(0, THREE, after=RETRY).create_workers == 0

    def test_none_in_a_suspended_pool(self, open_circuit: PlannedPool) -> None:
        open_circuit.spec = make_spec(suspend=True)
        assert open_circuit.cycle(5, THREE, after=RETRY).create_workers == 0

    @pytest.mark.parametrize("state", ["Pending", "Starting", "Running"])
    def test_one_at_a_time_until_it_has_ended(self, open_circuit: PlannedPool, state: str) -> None:
        open_circuit.cycle(5, THREE, after=RETRY)
        workers = (*THREE, *canary(open_circuit, state))
        for _ in range(3):
            assert open_circuit.cycle(5, workers, after=MINUTE).create_workers == 0

    def test_one_that_has_been_told_to_go_proves_nothing(self, open_circuit: PlannedPool) -> None:
        # On a node that is gone its pod may stay so for days.
        open_circuit.cycle(5, THREE, after=RETRY)
        workers = (*THREE, *canary(open_circuit, "Ending"))
        assert open_circuit.cycle(5, workers, after=MINUTE).create_workers == 1

    def test_one_beside_workers_that_have_been_running_all_along(self, pool: PlannedPool) -> None:
        workers = (*THREE, *fleet(running=2))
        pool.cycle(5, workers)
        assert pool.cycle(5, workers, after=RETRY).create_workers == 1

    def test_its_success_closes_the_circuit(self, open_circuit: PlannedPool) -> None:
        open_circuit.cycle(5, THREE, after=RETRY)
        decided = open_circuit.cycle(4, (*THREE, *ended(Outcome.DONE, "canary")))
        assert decided.memory.failing is None
        assert decided.create_workers == 4

    def test_one_that_has_ended_in_a_pod_that_has_not_is_no_canary_any_more(
        self, open_circuit: PlannedPool
    ) -> None:
        open_circuit.cycle(5, THREE, after=RETRY)
        (worker,) = canary(open_circuit)
        lingering = make_worker(
            "Ending",
            worker.name,
            outcome=Outcome.TERMINATED,
            created_at=worker.created_at,
            lingering_end=WorkerState.FAILED,
        )
        assert open_circuit.cycle(5, (*THREE, lingering)).create_workers == 1

    def test_its_failure_doubles_the_pause(self, open_circuit: PlannedPool) -> None:
        seen, pauses = THREE, []
        for number in range(3):
            assert open_circuit.memory.failing is not None
            until = open_circuit.memory.failing.retry_at
            assert open_circuit.cycle(5, seen, after=until - open_circuit.now).create_workers == 1
            seen += failed(f"canary-{number}")
            failing = open_circuit.cycle(5, seen).memory.failing
            assert failing is not None
            pauses.append(failing.retry_at - open_circuit.now)
        assert pauses == [2 * RETRY, 4 * RETRY, HOUR]

    def test_a_retry_after_of_more_than_the_longest_backoff_is_kept(self) -> None:
        policy = {"max_consecutive_failures": 1, "retry_after": 3 * LONGEST_BACKOFF}
        pool = PlannedPool(spec=make_spec(failure_policy=policy))
        pool.cycle(5)
        failing = pool.cycle(5, failed("w0")).memory.failing
        assert failing is not None
        assert failing.retry_at == pool.now + 3 * LONGEST_BACKOFF

    def test_failures_of_workers_from_before_do_not_prolong_the_pause(
        self, open_circuit: PlannedPool
    ) -> None:
        before = open_circuit.memory.failing
        decided = open_circuit.cycle(5, (*THREE, *failed("w3", "w4")), after=MINUTE)
        assert decided.memory.failing == before

    def test_canaries_that_find_nothing_back_off_as_well(self, open_circuit: PlannedPool) -> None:
        seen = THREE
        for number in range(5):
            created = open_circuit.cycle(5, seen, after=RETRY).create_workers
            assert created == 1
            seen += ended(Outcome.NOTHING_TO_DO, f"canary-{number}")
            assert open_circuit.cycle(5, seen).create_workers == 0
            assert open_circuit.cycle(5, seen).create_workers == 0
