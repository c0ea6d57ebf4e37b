"""How many workers a pool creates: for uncovered Tasks only, and never more than allowed."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from unit.operator.builders import fleet, make_spec, make_worker, ok, plan_once, table

from computepool_operator.plan import Plan, tasks_per_worker
from computepool_operator.reasons import Reason
from computepool_operator.workers import Worker


@dataclass(frozen=True)
class Case:
    """So many Tasks wait, these workers exist: so many are created, for this reason."""

    tasks: int
    create: int
    reason: Reason
    workers: tuple[Worker, ...] = ()
    spec: dict[str, Any] = field(default_factory=dict)

    def plan(self) -> Plan:
        return plan_once(ok(self.tasks), self.workers, **self.spec)


def most(services: int, **more: Any) -> dict[str, Any]:
    return {"max_compute_services": services, **more}


COVERED = {
    "each waiting Task gets a worker": Case(3, 3, Reason.WORKERS_CREATED),
    "no Task gets none": Case(0, 0, Reason.NO_TASKS),
    "a pending worker covers the Task it will claim": Case(
        1, 0, Reason.WORKERS_STARTING, fleet(pending=1)
    ),
    "a starting worker covers the Task it will claim": Case(
        1, 0, Reason.WORKERS_STARTING, fleet(starting=1)
    ),
    "only the Tasks that no starting worker covers get workers": Case(
        5, 2, Reason.WORKERS_CREATED, fleet(pending=2, starting=1)
    ),
    "a worker that has claimed covers nothing": Case(
        2, 2, Reason.WORKERS_CREATED, fleet(running=1)
    ),
    "a worker that is told to go covers nothing": Case(
        1, 1, Reason.WORKERS_CREATED, fleet(ending=1)
    ),
    "finished workers cover nothing": Case(
        2, 2, Reason.WORKERS_CREATED, fleet(succeeded=3, failed=2)
    ),
    "more workers than Tasks wait for later ones": Case(
        1, 0, Reason.WORKERS_STARTING, fleet(starting=4)
    ),
    "running workers alone are no reason to create": Case(
        0, 0, Reason.WORKERS_RUNNING, fleet(running=2)
    ),
    "a starting worker for whom nothing waits any more is at work all the same": Case(
        0, 0, Reason.WORKERS_RUNNING, fleet(starting=1)
    ),
}


@table(COVERED)
def test_only_uncovered_tasks_cause_workers(case: Case) -> None:
    decided = case.plan()
    assert (decided.create_workers, decided.verdict.reason) == (case.create, case.reason)


LIMITED = {
    "no more than maxComputeServices": Case(9, 4, Reason.WORKERS_CREATED, spec=most(4)),
    "no more than there is room for": Case(9, 1, Reason.WORKERS_CREATED, fleet(running=3), most(4)),
    "no more than maxSubmitPerCycle": Case(
        9, 2, Reason.WORKERS_CREATED, spec=most(4, max_submit_per_cycle=2)
    ),
    "none in a full pool": Case(9, 0, Reason.SATURATED, fleet(running=4), most(4)),
    "a worker that is told to go still has its place": Case(
        9, 0, Reason.SATURATED, fleet(running=3, ending=1), most(4)
    ),
    "a pending worker has its place": Case(
        9, 0, Reason.SATURATED, fleet(running=1, pending=3), most(4)
    ),
    "a finished worker has left its place, whether it succeeded or failed": Case(
        9, 2, Reason.WORKERS_CREATED, fleet(running=2, succeeded=5, failed=5), most(4)
    ),
    "a lowered maximum creates nothing": Case(9, 0, Reason.SATURATED, fleet(running=8), most(2)),
    "a maximum of zero creates nothing": Case(9, 0, Reason.SATURATED, spec=most(0)),
    "a suspended pool creates nothing": Case(9, 0, Reason.SUSPENDED, spec=most(4, suspend=True)),
    "a suspended pool without Tasks says that it is suspended": Case(
        0, 0, Reason.SUSPENDED, spec=most(4, suspend=True)
    ),
}


@table(LIMITED)
def test_never_over(case: Case) -> None:
    decided = case.plan()
    assert (decided.create_workers, decided.verdict.reason) == (case.create, case.reason)


def per_job(tasks: int, **more: Any) -> dict[str, Any]:
    return {"worker": {"max_tasks": tasks}, **more}


SEVERAL_TASKS_PER_WORKER = {
    "as many workers as the Tasks fill": Case(6, 2, Reason.WORKERS_CREATED, spec=per_job(3)),
    "the last worker may be filled in part": Case(7, 3, Reason.WORKERS_CREATED, spec=per_job(3)),
    "a single Task gets a worker": Case(1, 1, Reason.WORKERS_CREATED, spec=per_job(3)),
    "a starting worker covers as many as it may claim": Case(
        7, 2, Reason.WORKERS_CREATED, fleet(starting=1), per_job(3)
    ),
    "what a starting worker covers beyond the Tasks is not counted against others": Case(
        2, 0, Reason.WORKERS_STARTING, fleet(starting=1), per_job(3)
    ),
    "the room is in workers, not in Tasks": Case(
        100, 4, Reason.WORKERS_CREATED, spec=per_job(4, max_compute_services=4)
    ),
    "the limit of a cycle is in workers, not in Tasks": Case(
        100, 8, Reason.WORKERS_CREATED, spec=per_job(4, max_submit_per_cycle=8)
    ),
}


@table(SEVERAL_TASKS_PER_WORKER)
def test_units_are_not_mixed(case: Case) -> None:
    decided = case.plan()
    assert (decided.create_workers, decided.verdict.reason) == (case.create, case.reason)


def test_a_new_worker_is_counted_on_for_as_many_tasks_as_it_may_execute() -> None:
    assert tasks_per_worker(make_spec(worker={"max_tasks": 5, "claim_limit": 2})) == 5


def test_a_lowered_maximum_removes_nothing() -> None:
    decided = plan_once(ok(9), fleet(running=8), max_compute_services=2)
    assert (decided.prune, decided.reap) == ((), ())


MESSAGES = {
    "how many were created, and how full the pool is": (
        Case(3, 2, Reason.WORKERS_CREATED, fleet(running=1), most(3)),
        "3 Tasks waiting: 2 workers created, 3 of 3 in use.",
    ),
    "one of a thing is not many": (
        Case(1, 1, Reason.WORKERS_CREATED),
        "1 Task waiting: 1 worker created, 1 of 16 in use.",
    ),
    "a full pool": (
        Case(5, 0, Reason.SATURATED, fleet(running=2, starting=1), most(3)),
        (
            "5 Tasks waiting, and all 3 workers allowed by spec.maxComputeServices are in use "
            "(2 running)."
        ),
    ),
    "a pool of nothing does not pretend to be at work": (
        Case(5, 0, Reason.SATURATED, spec=most(0)),
        "5 Tasks waiting, and spec.maxComputeServices is 0: no worker is created.",
    ),
    "workers on their way": (
        Case(1, 0, Reason.WORKERS_STARTING, fleet(pending=1, starting=1)),
        "1 Task waiting; 2 workers starting.",
    ),
    "what Kubernetes says about workers that do not start, the commonest of it": (
        Case(
            3,
            0,
            Reason.WORKERS_STARTING,
            (
                make_worker("Pending", "a", trouble="Unschedulable: 0/3 nodes are available"),
                make_worker("Pending", "b", trouble="Unschedulable: 0/3 nodes are available"),
                make_worker("Starting", "c", trouble="ImagePullBackOff: no such image"),
            ),
        ),
        (
            "3 Tasks waiting; 3 workers starting. 2 workers can't start: "
            "Unschedulable: 0/3 nodes are available"
        ),
    ),
}


@table(MESSAGES)
def test_the_message_tells(case: tuple[Case, str]) -> None:
    what, message = case
    decided = what.plan()
    assert (decided.verdict.reason, decided.verdict.message) == (what.reason, message)


@pytest.mark.parametrize(
    ("workers", "maximum", "expected"),
    [
        pytest.param((), 4, 0.25, id="what is created now is in use"),
        pytest.param(fleet(running=3), 4, 1.0, id="a full pool"),
        pytest.param(fleet(running=8), 4, 1.0, id="a lowered maximum is no more than full"),
        pytest.param((), 0, 1.0, id="a pool of nothing has no room"),
    ],
)
def test_the_server_is_told_the_share_in_use(
    workers: tuple[Worker, ...], maximum: int, expected: float
) -> None:
    decided = plan_once(ok(1), workers, max_compute_services=maximum)
    assert decided.saturation == expected
