"""A person's word: the resume annotation; and what the server is told while the circuit is open."""

from dataclasses import replace
from datetime import timedelta

import pytest
from unit.operator.builders import (
    HOUR,
    MINUTE,
    NOON,
    SECOND,
    PlannedPool,
    ended,
    fleet,
    make_spec,
    make_worker,
)

from computepool_api.models import ShutdownInstruction, SkipInstruction
from computepool_api.outcomes import Outcome
from computepool_operator.memory import Backoff, Crashes, Halt, Memory, Quarantine
from computepool_operator.plan import Unknown
from computepool_operator.reasons import Reason

RETRY = timedelta(minutes=10)
HELD_UP = Memory(
    judged=frozenset(),
    waiting_tasks=5,
    futile=Backoff(3, NOON + HOUR, 5),
    consecutive_failures=3,
    last_failure="w2 failed",
    failing=Backoff(2, NOON + HOUR),
    halt=Halt(1, "told to", NOON),
    reported_at=NOON,
    resume="",
    quarantined=(Quarantine("node-1", "unfit", NOON, NOON + HOUR),),
    crashes=(Crashes("Task-1-a-b-c", 9, NOON, "killed"),),
)


@pytest.fixture
def pool() -> PlannedPool:
    """A pool that is held up in every way there is."""
    return PlannedPool(memory=HELD_UP)


class TestResume:
    def test_a_new_value_forgets_all_that_holds_the_pool_up(self, pool: PlannedPool) -> None:
        pool.resume = "now"
        decided = pool.cycle(5)
        assert decided.create_workers == 5
        assert (decided.avoid_nodes, decided.poison, decided.error) == ((), (), None)
        assert decided.saturation is not None
        memory = decided.memory
        assert (memory.halt, memory.failing, memory.futile) == (None, None, None)
        assert (memory.quarantined, memory.crashes, memory.consecutive_failures) == ((), (), 0)
        assert memory.resume == "now"

    def test_without_one_it_is_held_up(self, pool: PlannedPool) -> None:
        decided = pool.cycle(5)
        assert decided.create_workers == 0
        assert decided.verdict.reason is Reason.SHUT_DOWN_BY_SERVER

    def test_each_value_counts_once(self, pool: PlannedPool) -> None:
        pool.resume = "now"
        pool.cycle(5)
        pool.memory = replace(pool.memory, failing=HELD_UP.failing, crashes=HELD_UP.crashes)
        decided = pool.cycle(5)
        assert decided.create_workers == 0
        assert decided.memory.crashes == HELD_UP.crashes

    def test_another_value_counts_again(self, pool: PlannedPool) -> None:
        pool.resume = "now"
        pool.cycle(5)
        pool.memory = replace(pool.memory, failing=HELD_UP.failing)
        pool.resume = "now, please"
        assert pool.cycle(5).create_workers == 5

    def test_taking_it_away_does_not_count(self, pool: PlannedPool) -> None:
        pool.memory = replace(HELD_UP, resume="long ago")
        decided = pool.cycle(5)
        assert decided.create_workers == 0
        assert decided.memory.resume == ""

    def test_after_it_was_taken_away_the_same_value_counts_again(self, pool: PlannedPool) -> None:
        pool.memory = replace(HELD_UP, resume="now")
        pool.cycle(5)
        pool.resume = "now"
        assert pool.cycle(5).create_workers == 5

    def test_what_stands_there_at_first_sight_does_not_count(self, pool: PlannedPool) -> None:
        pool.memory, pool.resume = replace(HELD_UP, resume=None, halt=None), "from a manifest"
        decided = pool.cycle(5)
        assert decided.memory.failing == HELD_UP.failing
        assert decided.memory.resume == "from a manifest"

    def test_it_counts_also_while_the_server_does_not_answer(self, pool: PlannedPool) -> None:
        pool.resume = "now"
        decided = pool.cycle(Unknown(Reason.COMPUTE_API_UNAVAILABLE, "down"))
        assert decided.memory.halt is None
        assert decided.verdict.reason is Reason.COMPUTE_API_UNAVAILABLE

    def test_a_shutdown_after_it_halts_again(self, pool: PlannedPool) -> None:
        pool.resume = "now"
        assert pool.cycle(ShutdownInstruction("cleared")).memory.halt is not None

    def test_failures_after_it_count_from_one(self, pool: PlannedPool) -> None:
        pool.resume = "now"
        pool.cycle(5)
        assert pool.cycle(5, ended(None, "w0")).memory.consecutive_failures == 1


class TestOpenCircuit:
    """What the server is told: ERROR during the pause, OK again with the canary."""

    @pytest.fixture
    def pool(self) -> PlannedPool:
        """A pool whose last three workers have failed."""
        pool = PlannedPool(spec=make_spec(failure_policy={"retry_after": RETRY}))
        pool.cycle(5, fleet(running=3))
        pool.cycle(5, self.FAILED)
        return pool

    FAILED = ended(None, "w0", "w1", "w2")

    @pytest.mark.parametrize("instruction", [5, 0, SkipInstruction(())])
    def test_error_and_no_saturation(
        self, pool: PlannedPool, instruction: int | SkipInstruction
    ) -> None:
        decided = pool.cycle(instruction, self.FAILED, after=MINUTE)
        assert decided.saturation is None
        assert decided.error is not None
        assert decided.error.startswith("3 workers in a row failed; one tries again at 2026-03-01")
        assert "w2-pod on node-1: it left no word" in decided.error

    def test_until_the_pause_is_over(self, pool: PlannedPool) -> None:
        assert pool.cycle(5, self.FAILED, after=RETRY - SECOND).error is not None

    def test_ok_again_with_the_canary(self, pool: PlannedPool) -> None:
        decided = pool.cycle(5, self.FAILED, after=RETRY)
        assert (decided.create_workers, decided.error) == (1, None)
        assert decided.saturation == 1 / 16

    def test_ok_while_the_canary_is_at_work(self, pool: PlannedPool) -> None:
        pool.cycle(5, self.FAILED, after=RETRY)
        canary = make_worker("Running", "canary", created_at=pool.now)
        decided = pool.cycle(4, (*self.FAILED, canary), after=HOUR)
        assert (decided.create_workers, decided.error) == (0, None)

    def test_error_again_when_the_canary_has_failed(self, pool: PlannedPool) -> None:
        pool.cycle(5, self.FAILED, after=RETRY)
        decided = pool.cycle(5, (*self.FAILED, *ended(Outcome.SETTINGS_INVALID, "canary")))
        assert decided.create_workers == 0
        assert decided.error is not None
        assert "4 workers in a row" in decided.error

    def test_ok_when_it_has_succeeded(self, pool: PlannedPool) -> None:
        pool.cycle(5, self.FAILED, after=RETRY)
        decided = pool.cycle(5, (*self.FAILED, *ended(Outcome.DONE, "canary")))
        assert (decided.create_workers, decided.error) == (5, None)
