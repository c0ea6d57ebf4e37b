"""What is cleaned up: services of ended workers, finished Jobs beyond those kept; the counts."""

from dataclasses import dataclass, replace
from datetime import timedelta

from unit.operator.builders import (
    HOUR,
    MINUTE,
    NOON,
    PlannedPool,
    ended,
    fleet,
    having_judged,
    make_service_id,
    make_worker,
    ok,
    plan_once,
    table,
)

from computepool_api.outcomes import Outcome
from computepool_operator.memory import Halt, Memory
from computepool_operator.plan import Unknown
from computepool_operator.reasons import Reason
from computepool_operator.workers import Worker, WorkerCounts, WorkerState, count


@dataclass(frozen=True)
class Reaping:
    """This worker exists, the service of its pod is registered or not: it is reaped or not."""

    worker: Worker
    registered: bool
    reaped: bool


REAPED = {
    "a failed worker's service": Reaping(make_worker("Failed"), registered=True, reaped=True),
    "a succeeded worker's, should its deregistration have been lost": Reaping(
        make_worker("Succeeded"), registered=True, reaped=True
    ),
    "none that is not registered": Reaping(make_worker("Failed"), registered=False, reaped=False),
    "none of a running worker": Reaping(make_worker("Running"), registered=True, reaped=False),
    "none of a starting worker": Reaping(make_worker("Starting"), registered=True, reaped=False),
    "none of a worker on its way out": Reaping(
        make_worker("Ending"), registered=True, reaped=False
    ),
}


@table(REAPED)
def test_reaped_is(case: Reaping) -> None:
    service = make_service_id(case.worker.name)
    decided = plan_once(ok(0, [service] if case.registered else []), [case.worker])
    assert decided.reap == ((service,) if case.reaped else ())


def test_services_of_no_worker_of_this_pool_are_left_alone() -> None:
    strangers = [make_service_id("somebody-else"), "a.name.of.another.form", "x-y-z"]
    assert plan_once(ok(0, strangers), fleet(failed=2)).reap == ()


@dataclass(frozen=True)
class Pruning:
    """Of these finished workers, those named are removed."""

    workers: tuple[Worker, ...]
    pruned: tuple[str, ...]
    succeeded: int = 2
    failed: int = 2


def at(state: str, **hours_ago: float) -> tuple[Worker, ...]:
    return tuple(
        make_worker(state, name, finished_at=NOON - timedelta(hours=ago))
        for name, ago in hours_ago.items()
    )


PRUNED = {
    "none while there are no more than are kept": Pruning(at("Succeeded", a=2, b=1), ()),
    "the oldest, so that the newest are kept": Pruning(at("Succeeded", a=1, b=3, c=2), ("b",)),
    "all but the newest two": Pruning(at("Failed", a=1, b=4, c=2, d=3), ("b", "d")),
    "of each kind by its own number": Pruning(
        (*at("Succeeded", a=3, b=2, c=1), *at("Failed", d=9, e=8)), ("a",)
    ),
    "all where none is kept": Pruning(at("Succeeded", a=2, b=1), ("a", "b"), succeeded=0),
    "no worker that has not finished": Pruning(fleet(pending=4, running=4, ending=4), ()),
    "of several that finished at once, the first by name": Pruning(
        at("Succeeded", b=1, a=1, c=1), ("a",)
    ),
}


@table(PRUNED)
def test_pruned_is(case: Pruning) -> None:
    kept = {"keep_succeeded": case.succeeded, "keep_failed": case.failed}
    known = having_judged(case.workers)
    decided = plan_once(ok(0), case.workers, known, job=kept, max_compute_services=20)
    assert tuple(worker.name for worker in decided.prune) == case.pruned


def test_none_is_pruned_before_its_end_stands_in_the_status() -> None:
    # An operator that is killed in between would never learn how it ended.
    dead = fleet(failed=1)
    decided = plan_once(ok(0), dead, job={"keep_failed": 0})
    assert decided.prune == ()
    assert plan_once(ok(0), dead, decided.memory, job={"keep_failed": 0}).prune == dead


def test_a_worker_is_reaped_before_it_is_pruned() -> None:
    # Its Job is what the service's id leads back to.
    dead = fleet(failed=1)
    instruction = ok(0, [make_service_id(dead[0].name)])
    decided = plan_once(instruction, dead, having_judged(dead), job={"keep_failed": 0})
    assert decided.reap == (make_service_id(dead[0].name),)
    assert decided.prune == dead


class TestLingering:
    """Workers that have ended in pods that have not."""

    def test_one_goes_once_its_end_stands_in_the_status(self) -> None:
        lingering = fleet(lingering=1)
        decided = plan_once(ok(0), lingering)
        assert (decided.prune, decided.again) == ((), True)
        decided = plan_once(ok(0), lingering, decided.memory)
        assert (decided.prune, decided.again) == (lingering, False)

    def test_one_that_has_been_told_to_go_is_not_told_again(self) -> None:
        going = (make_worker("Ending", lingering_end=WorkerState.FAILED),)
        decided = plan_once(ok(0), going)
        assert (decided.prune, decided.again) == ((), False)
        assert decided.memory.judged == {(going[0].name, WorkerState.FAILED)}

    def test_it_covers_no_task_and_keeps_its_place(self) -> None:
        lingering = fleet(lingering=2)
        decided = plan_once(ok(5), lingering, max_compute_services=3)
        assert decided.create_workers == 1
        assert decided.counts.active == 2

    def test_its_service_is_reaped_at_once(self) -> None:
        (lingering,) = fleet(lingering=1)
        service = make_service_id(lingering.name)
        assert plan_once(ok(0, [service]), [lingering]).reap == (service,)

    def test_a_pool_that_is_shut_down_removes_it_too(self) -> None:
        lingering = fleet(lingering=1)
        halt = Halt(generation=1, message="stolen", since=NOON)
        memory = replace(having_judged(lingering), halt=halt)
        unasked = Unknown(Reason.SHUT_DOWN_BY_SERVER, "not asked")
        assert plan_once(unasked, lingering, memory).prune == lingering


class TestCounts:
    def test_each_worker_is_counted_once(self) -> None:
        numbers = dict(zip(map(str.lower, WorkerState), range(1, 9), strict=False))
        assert count(fleet(**numbers)) == WorkerCounts(**numbers)

    def test_active_are_all_that_have_not_finished(self) -> None:
        counts = WorkerCounts(1, 2, 3, lingering=4, ending=5, succeeded=6, failed=7)
        assert counts.active == 15

    def test_every_state_is_finished_or_active(self) -> None:
        for state in WorkerState:
            counts = count([make_worker(state)])
            assert (counts.active == 0) is state.finished

    def test_only_what_has_claimed_nothing_may_claim_first(self) -> None:
        assert {state for state in WorkerState if state.may_claim_first} == {"Pending", "Starting"}


class TestTotals:
    def total(self, memory: Memory) -> tuple[int, int]:
        return memory.finished(WorkerState.SUCCEEDED), memory.finished(WorkerState.FAILED)

    def test_a_pruned_worker_is_still_counted(self) -> None:
        pool = PlannedPool()
        for workers in (
            ended(Outcome.DONE, "a", "b"),
            (*ended(Outcome.DONE, "b", "c"), *ended(None, "d")),
            ended(Outcome.DONE, "c"),
        ):
            decided = pool.cycle(0, workers, after=MINUTE)
        assert self.total(decided.memory) == (3, 1)

    def test_what_ended_while_no_operator_ran_is_counted_once(self) -> None:
        kept, new = ended(Outcome.DONE, "a", "b"), ended(Outcome.DONE, "c")
        memory = replace(having_judged(kept), gone_succeeded=38, reported_at=NOON)
        pool = PlannedPool(memory=memory)
        for _ in range(2):
            decided = pool.cycle(0, (*kept, *new), after=HOUR)
            assert self.total(decided.memory) == (41, 0)

    def test_totals_grow_while_the_server_cannot_be_asked(self) -> None:
        pool = PlannedPool()
        pool.cycle(0, fleet(succeeded=1))
        decided = pool.cycle(0, ())
        assert self.total(decided.memory) == (1, 0)


class TestNeverStarted:
    """Workers that wait for a machine while nothing is left for them to claim."""

    def test_one_is_removed_when_its_task_is_gone(self) -> None:
        pending = fleet(pending=1)
        assert plan_once(ok(0), pending).remove == pending

    def test_as_many_are_kept_as_tasks_wait_the_oldest_of_them(self) -> None:
        workers = (
            make_worker("Pending", "old", created_at=NOON - 2 * MINUTE),
            make_worker("Pending", "new", created_at=NOON - MINUTE),
        )
        assert plan_once(ok(1), workers).remove == workers[1:]

    def test_none_that_has_started_is_removed(self) -> None:
        started = replace(make_worker("Starting"), started=True)
        assert plan_once(ok(0), [started]).remove == ()

    def test_none_whose_service_is_registered_it_may_hold_the_task(self) -> None:
        # The kubelet reports a start a second or two late; by then the worker may have claimed.
        starting = make_worker("Starting")
        registered = [make_service_id(starting.name)]
        assert plan_once(ok(0, registered), [starting]).remove == ()

    def test_nor_where_its_pod_has_not_even_been_seen(self) -> None:
        pending = make_worker("Pending", "a100-x")
        assert pending.service_id is None
        assert plan_once(ok(0, [make_service_id("a100-x")]), [pending]).remove == ()

    def test_a_suspended_worker_is_never_late_and_covers_its_task(self) -> None:
        """One that is preempted after hours of work is not to blame for it."""
        held = make_worker("Pending", created_at=NOON - 50 * HOUR, suspended=True)
        decided = plan_once(ok(1), [held])
        assert (decided.remove, decided.create_workers) == ((), 0)
        assert decided.memory.consecutive_failures == 0

    def test_a_suspended_worker_goes_when_no_task_is_left_for_it(self) -> None:
        held = make_worker("Pending", created_at=NOON - 50 * HOUR, suspended=True)
        assert plan_once(ok(0), [held]).remove == (held,)

    def test_the_startup_deadline_counts_from_when_it_was_resumed(self) -> None:
        resumed = make_worker("Pending", created_at=NOON - 50 * HOUR, released_at=NOON)
        for passed, late in ((29 * MINUTE, False), (30 * MINUTE, True)):
            decided = plan_once(ok(1), [resumed], now=NOON + passed)
            assert decided.memory.consecutive_failures == int(late)

    def test_past_the_startup_deadline_it_goes_and_counts_as_failed(self) -> None:
        late = make_worker("Pending", created_at=NOON - HOUR, trouble="ImagePullBackOff: no such")
        deadline = {"startup_deadline": timedelta(minutes=30)}
        decided = plan_once(ok(5), [late], job=deadline)
        assert (decided.remove, decided.again) == ((), True)
        assert decided.memory.consecutive_failures == 1
        assert "ImagePullBackOff: no such" in decided.memory.last_failure
        decided = plan_once(ok(5), [late], decided.memory, job=deadline)
        assert (decided.remove, decided.again) == ((late,), False)
        assert decided.memory.consecutive_failures == 1
