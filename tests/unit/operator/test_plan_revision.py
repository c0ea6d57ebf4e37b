"""A corrected spec is a new beginning: what failed was made from the former one."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from unit.operator.builders import (
    HOUR,
    MINUTE,
    SECOND,
    PlannedPool,
    ended,
    fleet,
    make_spec,
    make_worker,
    ok,
)

from computepool_api.outcomes import Outcome
from computepool_operator.reasons import Reason
from computepool_operator.revision import revision_of
from computepool_operator.workers import Worker

POLICY: dict[str, Any] = {"max_consecutive_failures": 3, "retry_after": timedelta(minutes=10)}
FORMER = make_spec(failure_policy=POLICY)
CORRECTED = make_spec(failure_policy=POLICY, worker={"image": "registry.example.org/worker:v2"})
ELSEWHERE = make_spec(failure_policy=POLICY, scopes=["org-*-*"])
BAD_IMAGE = 'ImagePullBackOff: Back-off pulling image "worker:v1"'


def former(workers: Sequence[Worker]) -> tuple[Worker, ...]:
    return tuple(replace(worker, revision=revision_of(FORMER)) for worker in workers)


def failed(*names: str) -> tuple[Worker, ...]:
    return former(ended(Outcome.TASK_CRASHED, *names))


@pytest.fixture
def pool() -> PlannedPool:
    pool = PlannedPool(spec=FORMER)
    pool.cycle(5, former(fleet(running=3)))
    return pool


class TestFailures:
    def test_the_circuit_closes(self, pool: PlannedPool) -> None:
        ends = failed("w0", "w1", "w2")
        assert pool.cycle(5, ends).verdict.reason is Reason.WORKERS_FAILING
        pool.spec = CORRECTED
        decided = pool.cycle(5, ends)
        assert decided.create_workers == 5
        assert decided.error is None
        assert decided.memory.consecutive_failures == 0

    def test_another_number_of_workers_closes_nothing(self, pool: PlannedPool) -> None:
        ends = failed("w0", "w1", "w2")
        pool.cycle(5, ends)
        pool.spec = make_spec(failure_policy=POLICY, max_compute_services=3)
        assert pool.cycle(5, ends).verdict.reason is Reason.WORKERS_FAILING

    def test_nodes_and_tasks_get_another_chance(self, pool: PlannedPool) -> None:
        unfit = former([make_worker("Failed", "w0", outcome=Outcome.DEVICE_UNFIT)])
        crash = former([make_worker("Failed", "w1", outcome=Outcome.TASK_CRASHED, task="Task-1")])
        memory = pool.cycle(5, (*unfit, *crash)).memory
        assert memory.quarantined
        assert memory.crashes
        pool.spec = CORRECTED
        memory = pool.cycle(5, (*unfit, *crash)).memory
        assert not memory.quarantined
        assert not memory.crashes

    def test_late_failures_of_former_workers_count_for_nothing(self, pool: PlannedPool) -> None:
        pool.spec = CORRECTED
        pool.cycle(5)
        memory = pool.cycle(5, failed("w0", "w1", "w2")).memory
        assert memory.consecutive_failures == 0
        assert not memory.crashes
        assert len(memory.judged) == 3

    def test_nor_do_their_successes(self, pool: PlannedPool) -> None:
        pool.spec = CORRECTED
        new = replace(ended(Outcome.TASK_CRASHED, "new")[0], revision=revision_of(CORRECTED))
        pool.cycle(5, [new])
        good = former(ended(Outcome.DONE, "old", at=pool.now))
        assert pool.cycle(5, (new, *good)).memory.consecutive_failures == 1

    def test_a_worker_of_which_nothing_is_known_counts(self, pool: PlannedPool) -> None:
        pool.spec = CORRECTED
        pool.cycle(5)
        assert pool.cycle(5, ended(None, "w0")).memory.consecutive_failures == 1

    def test_an_operator_that_never_saw_a_revision_forgives_nothing(
        self, pool: PlannedPool
    ) -> None:
        ends = failed("w0", "w1", "w2")
        memory = pool.cycle(5, ends).memory
        pool.memory = replace(memory, revision=None)
        assert pool.cycle(5, ends).verdict.reason is Reason.WORKERS_FAILING


class TestClaims:
    FRUITLESS = former(ended(Outcome.NOTHING_TO_DO, "w0"))

    def test_other_scopes_are_tried_at_once(self, pool: PlannedPool) -> None:
        assert pool.cycle(5, self.FRUITLESS).verdict.reason is Reason.NOTHING_CLAIMABLE
        pool.spec = ELSEWHERE
        assert pool.cycle(5, self.FRUITLESS).create_workers == 5

    def test_they_do_not_close_the_circuit(self, pool: PlannedPool) -> None:
        ends = failed("w0", "w1", "w2")
        pool.cycle(5, ends)
        pool.spec = ELSEWHERE
        assert pool.cycle(5, ends).verdict.reason is Reason.WORKERS_FAILING

    def test_what_found_nothing_in_the_former_scopes_says_nothing(self, pool: PlannedPool) -> None:
        pool.spec = ELSEWHERE
        pool.cycle(5)
        assert pool.cycle(5, self.FRUITLESS).memory.futile is None


class TestHeldUp:
    """Workers that were created before the correction and have not started."""

    def stuck(self, name: str = "w0", **more: Any) -> Worker:
        since = {"created_at": PlannedPool().now - MINUTE, "trouble": BAD_IMAGE, **more}
        return former([make_worker("Starting", name, **since)])[0]

    def test_they_go_at_once(self, pool: PlannedPool) -> None:
        stuck = [self.stuck("w0"), self.stuck("w1", trouble="Unschedulable: no such node")]
        assert pool.cycle(2, stuck).remove == ()
        pool.spec = CORRECTED
        assert {worker.name for worker in pool.cycle(2, stuck).remove} == {"w0", "w1"}

    @pytest.mark.parametrize(
        "more",
        [
            pytest.param({"trouble": ""}, id="nothing holds it up"),
            pytest.param({"suspended": True, "trouble": "Suspended: so"}, id="suspended"),
        ],
    )
    def test_others_stay(self, pool: PlannedPool, more: dict[str, Any]) -> None:
        pool.spec = CORRECTED
        assert pool.cycle(1, [self.stuck(**more)]).remove == ()

    def test_one_that_the_server_knows_has_started(self, pool: PlannedPool) -> None:
        pool.spec = CORRECTED
        stuck = self.stuck()
        assert pool.cycle(ok(1, [str(stuck.service_id)]), [stuck]).remove == ()

    def test_those_that_may_claim_other_tasks_go(self, pool: PlannedPool) -> None:
        pool.spec = ELSEWHERE
        waits = self.stuck(trouble="")
        assert pool.cycle(1, [waits]).remove == (waits,)
        assert pool.cycle(1, [replace(waits, started=True)]).remove == ()
        assert pool.cycle(1, [replace(waits, suspended=True)]).remove == ()

    def test_one_that_is_late_is_no_failure_of_the_corrected_spec(self, pool: PlannedPool) -> None:
        pool.spec = CORRECTED
        late = self.stuck(trouble="", created_at=pool.now - HOUR)
        decided = pool.cycle(1, [late], after=SECOND)
        assert decided.memory.consecutive_failures == 0
        assert pool.cycle(1, [late]).remove == (late,)
