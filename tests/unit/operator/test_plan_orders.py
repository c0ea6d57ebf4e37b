"""What new workers are told, and workers that never start."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from unit.operator.builders import (
    HOUR,
    MINUTE,
    NOON,
    SECOND,
    PlannedPool,
    fleet,
    having_judged,
    make_service_id,
    make_spec,
    make_worker,
    ok,
    plan_once,
)

from computepool_api.outcomes import Outcome
from computepool_operator.memory import Crashes, Memory, Quarantine
from computepool_operator.plan import PATIENCE
from computepool_operator.reasons import Reason
from computepool_operator.revision import Revision, revision_of
from computepool_operator.workers import Departed, Ending, Worker

DEADLINE = timedelta(minutes=30)
TASK = "Task-1-org-campaign-project"


class TestOrders:
    def test_quarantined_nodes_are_avoided(self) -> None:
        quarantined = tuple(
            Quarantine(node, "unfit", NOON, NOON + HOUR) for node in ("node-1", "node-2")
        )
        memory = Memory(judged=frozenset(), reported_at=NOON, quarantined=quarantined)
        decided = plan_once(ok(2), memory=memory)
        assert (decided.create_workers, decided.avoid_nodes) == (2, ("node-1", "node-2"))

    def test_the_quarantine_that_a_worker_has_just_caused_counts_at_once(self) -> None:
        unfit = make_worker("Failed", outcome=Outcome.DEVICE_UNFIT, node="node-7")
        decided = plan_once(ok(1), [unfit])
        assert (decided.create_workers, decided.avoid_nodes) == (1, ("node-7",))

    def test_one_that_is_over_does_not(self) -> None:
        over = Quarantine("node-1", "unfit", NOON - HOUR, NOON)
        memory = Memory(judged=frozenset(), reported_at=NOON, quarantined=(over,))
        assert plan_once(ok(1), memory=memory).avoid_nodes == ()

    def test_tasks_that_took_down_as_many_workers_as_they_may_are_named(self) -> None:
        crashes = tuple(
            Crashes(f"Task-{number}-a-b-c", number, NOON, "killed") for number in (1, 2, 3, 4)
        )
        memory = Memory(judged=frozenset(), reported_at=NOON, crashes=crashes)
        decided = plan_once(ok(1), memory=memory, failure_policy={"task_crash_limit": 3})
        assert decided.poison == crashes[2:]

    def test_the_crash_that_makes_a_task_poison_counts_at_once(self) -> None:
        pool = PlannedPool(spec=make_spec(failure_policy={"task_crash_limit": 2}))
        pool.cycle(1)
        seen: tuple[Worker, ...] = ()
        for number, poison in enumerate((False, True)):
            seen += (make_worker("Failed", f"w{number}", outcome=Outcome.HOLDING, task=TASK),)
            decided = pool.cycle(1, seen)
            assert decided.create_workers == 1
            assert bool(decided.poison) is poison


def waiting(name: str, ago: timedelta = 30 * SECOND, trouble: str = "") -> Worker:
    return make_worker("Starting", name, created_at=NOON - ago, trouble=trouble)


class TestStartupDeadline:
    SPEC = make_spec(job={"startup_deadline": DEADLINE})

    @pytest.mark.parametrize("state", ["Pending", "Starting"])
    def test_a_worker_that_has_not_started_by_then_is_removed(self, state: str) -> None:
        pool = PlannedPool(spec=self.SPEC)
        late = make_worker(state, "late", created_at=NOON - DEADLINE)
        pool.cycle(1, [late])
        assert pool.cycle(1, [late]).remove == (late,)

    def test_not_a_second_before(self) -> None:
        worker = waiting("w0", DEADLINE - SECOND)
        assert plan_once(ok(1), [worker], job={"startup_deadline": DEADLINE}).remove == ()

    @pytest.mark.parametrize("state", ["Running", "Ending", "Succeeded", "Failed"])
    def test_none_that_has_ever_started(self, state: str) -> None:
        old = make_worker(state, "old", created_at=NOON - 9 * DEADLINE)
        assert plan_once(ok(1), [old]).remove == ()

    def test_none_whose_container_runs(self) -> None:
        slow = replace(waiting("w0", 2 * DEADLINE), started=True)
        assert plan_once(ok(1), [slow]).remove == ()

    def test_none_that_the_server_knows(self) -> None:
        # The kubelet tells of a start a second or two after the worker has registered.
        worker = waiting("w0", 2 * DEADLINE)
        assert plan_once(ok(0, [make_service_id("w0")]), [worker]).remove == ()

    def test_it_counts_as_a_failure_once(self) -> None:
        pool = PlannedPool(spec=self.SPEC)
        late = waiting("late", DEADLINE, trouble="ErrImagePull: no such image")
        pool.cycle(1, [late])
        for _ in range(4):
            decided = pool.cycle(1, [late])
            assert decided.remove == (late,)
        assert decided.memory.consecutive_failures == 1
        assert decided.memory.last_failure == (
            "late did not start in time: ErrImagePull: no such image"
        )

    @pytest.mark.parametrize("trouble", ["Unschedulable: no GPU", "SchedulingGated: "])
    def test_one_that_waits_for_a_machine_has_not_failed(self, trouble: str) -> None:
        pool = PlannedPool(spec=self.SPEC)
        late = waiting("late", DEADLINE, trouble=trouble)
        pool.cycle(1, [late])
        decided = pool.cycle(1, [late])
        assert decided.remove == (late,)
        assert decided.memory.consecutive_failures == 0

    def test_one_whose_pod_has_gone_is_not_late(self) -> None:
        # Its Job says so only later.
        pool = PlannedPool(spec=self.SPEC)
        pool.departed = (Departed(make_service_id("gone"), NOON, ended=True),)
        gone = make_worker("Pending", "gone", created_at=NOON - DEADLINE)
        decided = pool.cycle(1, [gone])
        assert decided.memory.consecutive_failures == 0
        assert decided.remove == ()

    def test_one_whose_end_has_been_judged_is_not_late(self) -> None:
        pool = PlannedPool(spec=self.SPEC)
        pool.memory = having_judged([make_worker("Failed", "w0", outcome=Outcome.TERMINATED)])
        gone = make_worker("Pending", "w0", created_at=NOON - DEADLINE)
        assert pool.cycle(1, [gone]).memory.consecutive_failures == 0

    def test_each_of_several_counts(self) -> None:
        pool = PlannedPool(spec=self.SPEC)
        late = [waiting(f"w{number}", DEADLINE) for number in range(3)]
        pool.cycle(3, late)
        decided = pool.cycle(3, late)
        assert len(decided.remove) == 3
        assert decided.memory.failing is not None
        assert decided.error is not None

    def test_when_it_is_gone_it_is_forgotten(self) -> None:
        pool = PlannedPool(spec=self.SPEC)
        pool.cycle(1, [waiting("late", DEADLINE)])
        decided = pool.cycle(1, [])
        assert decided.memory.given_up == frozenset()
        assert decided.memory.consecutive_failures == 1

    def test_while_it_goes_no_other_takes_its_place(self) -> None:
        assert plan_once(ok(1), [waiting("late", DEADLINE)]).create_workers == 0


class TestSurplus:
    def test_workers_that_wait_for_tasks_which_are_gone_are_removed_the_newest_first(self) -> None:
        workers = [waiting(f"w{ago}", ago * MINUTE) for ago in (3, 1, 2)]
        decided = plan_once(ok(1), workers)
        assert [worker.name for worker in decided.remove] == ["w1", "w2"]
        assert decided.memory.consecutive_failures == 0

    def test_all_of_them_where_no_task_is_left(self) -> None:
        assert len(plan_once(ok(0), fleet(pending=2, starting=1)).remove) == 3

    def test_none_while_there_are_enough_tasks(self) -> None:
        assert plan_once(ok(3), fleet(pending=3)).remove == ()

    def test_as_many_stay_as_the_tasks_need(self) -> None:
        decided = plan_once(ok(3), fleet(pending=4), worker={"max_tasks": 2})
        assert len(decided.remove) == 2

    def test_none_whose_container_runs_which_leaves_by_itself(self) -> None:
        started = replace(waiting("w0"), started=True)
        assert plan_once(ok(0), [started, *fleet(running=2)]).remove == ()


REFUSED = "Unschedulable: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
NO_IMAGE = 'ErrImagePull: pull access denied for "registry.example.org/worker:v1"'


class TestNoneCanStart:
    """A worker whose image can't be had says that the next one's can't either."""

    def stuck(self, number: int = 1, trouble: str = NO_IMAGE) -> list[Worker]:
        return [waiting(f"stuck-{n}", 2 * MINUTE, trouble) for n in range(number)]

    def test_no_more_are_created(self) -> None:
        decided = plan_once(ok(9), self.stuck())
        assert decided.create_workers == 0
        assert decided.verdict.reason is Reason.WORKERS_NOT_STARTING
        assert "until one of those that exist has started" in decided.verdict.message
        assert NO_IMAGE in decided.verdict.message

    def test_within_the_first_minute_it_may_yet_start(self) -> None:
        assert plan_once(ok(9), [waiting("w0", 50 * SECOND, NO_IMAGE)]).create_workers == 8

    @pytest.mark.parametrize("trouble", [REFUSED, "Suspended: a queue holds it", ""])
    def test_one_that_waits_for_a_machine_keeps_none(self, trouble: str) -> None:
        assert plan_once(ok(9), self.stuck(1, trouble)).create_workers == 8

    def test_one_that_is_as_young_and_has_started_shows_that_others_can(self) -> None:
        runs = replace(make_worker("Running", created_at=NOON - 2 * MINUTE), started=True)
        assert plan_once(ok(9), [*self.stuck(), runs]).create_workers == 8

    @pytest.mark.parametrize(("number", "created"), [(1, 8), (2, 8), (3, 0)])
    def test_beside_older_ones_that_have_started_it_takes_as_many_as_open_the_circuit(
        self, number: int, created: int
    ) -> None:
        # Fewer may be on one bad node, and would keep all others idle.
        older = replace(make_worker("Running", created_at=NOON - 9 * MINUTE), started=True)
        seen = [*self.stuck(number), older]
        assert plan_once(ok(20), seen).create_workers == created

    def test_older_ones_of_a_former_spec_show_nothing(self) -> None:
        former = Revision("former", revision_of(make_spec()).reach)
        older = make_worker("Running", created_at=NOON - 9 * MINUTE, revision=former)
        older = replace(older, started=True)
        assert plan_once(ok(9), [*self.stuck(), older]).create_workers == 0


class TestTrouble:
    @pytest.mark.parametrize(
        ("trouble", "reason"),
        [
            (REFUSED, Reason.WORKERS_UNSCHEDULABLE),
            ("Suspended: a queue holds it", Reason.WORKERS_UNSCHEDULABLE),
            (NO_IMAGE, Reason.WORKERS_NOT_STARTING),
        ],
    )
    def test_after_a_minute_it_is_the_reason(self, trouble: str, reason: Reason) -> None:
        stuck = waiting("w0", PATIENCE, trouble=trouble)
        verdict = plan_once(ok(1), [stuck]).verdict
        assert verdict.reason is reason
        assert verdict.message.endswith(f"1 worker can't start: {trouble}")

    def test_before_that_it_is_only_mentioned(self) -> None:
        stuck = waiting("w0", PATIENCE - SECOND, trouble=REFUSED)
        verdict = plan_once(ok(1), [stuck]).verdict
        assert verdict.reason is Reason.WORKERS_STARTING
        assert REFUSED in verdict.message

    def test_the_commonest_is_told(self) -> None:
        stuck = [
            waiting("w0", MINUTE, trouble=NO_IMAGE),
            *(waiting(f"w{n}", MINUTE, trouble=REFUSED) for n in (1, 2)),
        ]
        verdict = plan_once(ok(3), stuck).verdict
        assert verdict.reason is Reason.WORKERS_UNSCHEDULABLE
        assert f"2 workers can't start: {REFUSED}" in verdict.message

    def test_it_overrules_that_the_pool_is_full(self) -> None:
        stuck = [waiting(f"w{n}", MINUTE, trouble=REFUSED) for n in range(2)]
        decided = plan_once(ok(9), stuck, max_compute_services=2)
        assert decided.verdict.reason is Reason.WORKERS_UNSCHEDULABLE

    @pytest.mark.parametrize(
        ("spec", "reason"),
        [({"suspend": True}, Reason.SUSPENDED), ({}, Reason.WORKERS_UNSCHEDULABLE)],
    )
    def test_it_does_not_overrule_what_a_person_decided(
        self, spec: dict[str, Any], reason: Reason
    ) -> None:
        stuck = waiting("w0", MINUTE, trouble=REFUSED)
        assert plan_once(ok(1), [stuck], **spec).verdict.reason is reason

    def test_it_does_not_overrule_that_workers_fail(self) -> None:
        broken = [
            make_worker("Failed", f"w{n}", ending=Ending(reason="Error", exit_code=1))
            for n in range(3)
        ]
        stuck = waiting("stuck", MINUTE, trouble=NO_IMAGE)
        verdict = plan_once(ok(9), [*broken, stuck]).verdict
        assert verdict.reason is Reason.WORKERS_FAILING
        assert NO_IMAGE in verdict.message
