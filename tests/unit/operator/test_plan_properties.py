"""What holds of every plan, whatever is observed and remembered."""

import math
from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from unit.operator.builders import NOON, make_worker
from unit.operator.strategies import FORMER, PREFIX, PRESENT, situations

from computepool_api.models import OkInstruction, ShutdownInstruction, SkipInstruction
from computepool_api.outcomes import Outcome
from computepool_operator.blame import Blame, blame
from computepool_operator.judging import forgive
from computepool_operator.memory import Memory
from computepool_operator.plan import (
    MANAGER_EXPIRY,
    Observation,
    Plan,
    Unknown,
    is_halted,
    plan,
    tasks_per_worker,
)
from computepool_operator.pool import PoolSpec
from computepool_operator.reaping import PUSH_SETTLES
from computepool_operator.reasons import HEALTH
from computepool_operator.workers import Worker, WorkerState, count

Situation = tuple[PoolSpec, Observation, Memory]


def planned(situation: Situation) -> Plan:
    spec, observation, memory = situation
    return plan(spec, observation, memory, NOON)


def resumed(situation: Situation) -> bool:
    _spec, observation, memory = situation
    news = observation.resume != memory.resume and memory.resume is not None
    return news and bool(observation.resume)


def halted(situation: Situation) -> bool:
    _spec, observation, memory = situation
    return is_halted(memory, observation.generation) and not resumed(situation)


def registered(situation: Situation) -> tuple[str, ...]:
    """Services that the server lists, in an answer that lists any."""
    _spec, observation, _memory = situation
    if isinstance(observation.instruction, OkInstruction | SkipInstruction):
        return observation.instruction.compute_service_ids
    return ()


def with_workers(situation: Situation, *more: Worker) -> Situation:
    spec, observation, memory = situation
    return spec, replace(observation, workers=(*observation.workers, *more)), memory


@given(situations())
def test_never_over(situation: Situation) -> None:
    spec, observation, _memory = situation
    active = count(observation.workers).active
    created = planned(situation).create_workers
    assert created >= 0
    assert active + created <= max(active, spec.max_compute_services)
    assert created <= spec.max_submit_per_cycle


@given(situations())
def test_no_worker_for_a_task_that_another_covers(situation: Situation) -> None:
    spec, observation, _memory = situation
    created = planned(situation).create_workers
    if not isinstance(observation.instruction, OkInstruction):
        assert created == 0
        return
    per_worker = tasks_per_worker(spec)
    unclaimed = [w for w in observation.workers if w.state in ("Pending", "Starting")]
    uncovered = max(0, observation.instruction.num_tasks - per_worker * len(unclaimed))
    assert created <= math.ceil(uncovered / per_worker)


@given(situations())
def test_every_uncovered_task_gets_a_worker_unless_there_is_a_reason(situation: Situation) -> None:
    spec, observation, _memory = situation
    decided = planned(situation)
    resting = decided.memory.futile or decided.memory.failing or spec.suspend
    if halted(situation) or resting or not isinstance(observation.instruction, OkInstruction):
        return
    per_worker = tasks_per_worker(spec)
    unclaimed = [w for w in observation.workers if w.state in ("Pending", "Starting")]
    uncovered = max(0, observation.instruction.num_tasks - per_worker * len(unclaimed))
    room = max(0, spec.max_compute_services - count(observation.workers).active)
    wanted = math.ceil(uncovered / per_worker)
    assert decided.create_workers == min(wanted, room, spec.max_submit_per_cycle)


@given(situations())
def test_nothing_on_unknown(situation: Situation) -> None:
    _spec, observation, _memory = situation
    if halted(situation) or not isinstance(observation.instruction, Unknown):
        return
    decided = planned(situation)
    assert (decided.create_workers, decided.reap, decided.prune) == (0, (), ())
    assert (decided.remove, decided.saturation, decided.error) == ((), None, None)
    assert not decided.renew


@given(situations())
def test_every_ok_and_skip_is_answered_with_what_the_server_takes(situation: Situation) -> None:
    _spec, observation, _memory = situation
    decided = planned(situation)
    if halted(situation) or not isinstance(
        observation.instruction, OkInstruction | SkipInstruction
    ):
        assert (decided.saturation, decided.error) == (None, None)
    elif decided.error is not None:
        assert decided.saturation is None
        assert decided.memory.failing is not None
        assert decided.create_workers == 0
    else:
        assert decided.saturation is not None
        assert 0.0 <= decided.saturation <= 1.0


@given(situations())
def test_shutdown_either_halts_or_renews_and_does_nothing_else(situation: Situation) -> None:
    _spec, observation, memory = situation
    decided = planned(situation)
    if halted(situation) or not isinstance(observation.instruction, ShutdownInstruction):
        assert not decided.renew
        return
    lapsed = memory.reported_at is None or NOON - memory.reported_at >= MANAGER_EXPIRY
    assert decided.renew is lapsed
    assert is_halted(decided.memory, observation.generation) is not lapsed
    assert (decided.create_workers, decided.remove, decided.prune) == (0, (), ())


@given(situations())
def test_no_service_of_a_live_worker_is_reaped(situation: Situation) -> None:
    _spec, observation, _memory = situation
    alive = {w.service_id for w in observation.workers if w.end is None}
    assert not alive & set(planned(situation).reap)


@given(situations())
def test_only_registered_services_of_our_own_are_reaped_each_once(situation: Situation) -> None:
    reaped = planned(situation).reap
    assert len(set(reaped)) == len(reaped)
    if planned(situation).memory.halt is not None:
        # Nobody lists services to a manager that was shut down; those of our pods are known.
        _spec, observation, _memory = situation
        pods = {worker.service_id for worker in observation.workers}
        pods |= {gone.service_id for gone in observation.departed}
        assert set(reaped) <= pods | {service for service, _since in _memory.left_since}
    else:
        assert set(reaped) <= set(registered(situation))
        assert all(service.startswith(PREFIX) for service in reaped)


@given(situations())
def test_every_registered_service_of_an_ended_worker_is_reaped(situation: Situation) -> None:
    _spec, observation, _memory = situation
    certain = {
        worker.service_id
        for worker in observation.workers
        if worker.end is not None and not worker.sending
    }
    if not halted(situation):
        assert certain & set(registered(situation)) <= set(planned(situation).reap)


@given(situations())
def test_no_service_is_reaped_that_may_still_be_sending(situation: Situation) -> None:
    _spec, observation, memory = situation
    left_since = dict(memory.left_since)
    sending = {
        worker.service_id
        for worker in observation.workers
        if worker.message is not None
        and worker.message.outcome in (Outcome.PUSHING, Outcome.PUSH_AMBIGUOUS)
        and NOON - left_since.get(str(worker.service_id), NOON) < PUSH_SETTLES
    }
    assert not sending & set(planned(situation).reap)


@given(situations())
def test_new_workers_keep_off_every_quarantined_node(situation: Situation) -> None:
    decided = planned(situation)
    if decided.create_workers:
        assert set(decided.avoid_nodes) == {q.node for q in decided.memory.quarantined}
        assert all(q.until > NOON for q in decided.memory.quarantined)


@given(situations())
def test_a_node_that_is_to_blame_is_quarantined_at_once_and_once(situation: Situation) -> None:
    _spec, observation, memory = situation
    nodes = [q.node for q in planned(situation).memory.quarantined]
    assert len(set(nodes)) == len(nodes)
    for worker in observation.workers:
        new = worker.end is not None and (worker.name, worker.end) not in memory.judged
        if new and blame(worker) is Blame.NODE and not worker.is_former(PRESENT):
            assert worker.node in nodes


@given(situations())
def test_new_workers_are_told_of_exactly_the_poison_tasks(situation: Situation) -> None:
    spec, _observation, _memory = situation
    decided = planned(situation)
    if decided.create_workers:
        limit = spec.failure_policy.task_crash_limit
        assert decided.poison == tuple(c for c in decided.memory.crashes if c.number >= limit)


@given(situations())
def test_crashes_are_held_against_tasks_only_when_a_worker_died_of_them(
    situation: Situation,
) -> None:
    _spec, observation, memory = situation
    after = {c.task: c.number for c in planned(situation).memory.crashes}
    before = {} if resumed(situation) else {c.task: c.number for c in memory.crashes}
    died = Counter(
        worker.message.task
        for worker in observation.workers
        if worker.end is not None and worker.message is not None and blame(worker) is Blame.TASK
    )
    for task, number in after.items():
        assert number <= before.get(task, 0) + died[task]


@given(situations())
def test_only_workers_that_never_started_are_removed(situation: Situation) -> None:
    _spec, observation, memory = situation
    removed = planned(situation).remove
    late = {w for w in removed if NOON - w.created_at >= situation[0].job.startup_deadline}
    assert {worker.name for worker in late} <= memory.given_up
    assert all(w.state.may_claim_first and not w.started for w in removed)
    assert not {w.service_id for w in removed if w.service_id} & set(registered(situation))
    assert isinstance(observation.instruction, OkInstruction | SkipInstruction) or removed == ()


@given(situations())
def test_a_new_word_of_a_person_frees_the_pool(situation: Situation) -> None:
    _spec, observation, _memory = situation
    memory = planned(situation).memory
    assert memory.resume == observation.resume
    if resumed(situation):
        ends = sum(worker.end is not None for worker in observation.workers)
        assert memory.consecutive_failures <= ends + len(memory.given_up)
        assert memory.halt is None or isinstance(observation.instruction, ShutdownInstruction)


@given(situations())
def test_a_corrected_spec_frees_the_pool(situation: Situation) -> None:
    spec, observation, memory = situation
    decided = planned((spec, observation, replace(memory, revision=FORMER)))
    clean = replace(forgive(memory), revision=PRESENT)
    assert decided == planned((spec, observation, clean))


@given(situations())
def test_the_end_of_a_former_worker_is_held_against_nobody(situation: Situation) -> None:
    spec, observation, memory = situation
    ended = [w for w in observation.workers if w.end is not None]
    former = [replace(w, revision=FORMER) for w in ended]
    others = [w for w in observation.workers if w.end is None]
    decided = planned((spec, replace(observation, workers=(*former, *others)), memory))
    without = planned((spec, replace(observation, workers=tuple(others)), memory))
    told = ("failing", "consecutive_failures", "quarantined", "crashes", "futile")
    assert [getattr(decided.memory, name) for name in told] == [
        getattr(without.memory, name) for name in told
    ]


@given(situations())
def test_pruning_keeps_the_newest_and_never_what_is_active(situation: Situation) -> None:
    spec, observation, memory = situation
    pruned = planned(situation).prune
    assert {(worker.name, worker.end) for worker in pruned} <= memory.judged
    known = {w for w in observation.workers if (w.name, w.end) in memory.judged}
    lingering = {w for w in known if w.state is WorkerState.LINGERING}
    if not isinstance(observation.instruction, Unknown | ShutdownInstruction):
        assert lingering <= set(pruned), "nobody else frees their GPUs"
    if not set(pruned) - lingering or any(
        w.finished and w not in known for w in observation.workers
    ):
        return
    for state, keep in (
        (WorkerState.SUCCEEDED, spec.job.keep_succeeded),
        (WorkerState.FAILED, spec.job.keep_failed),
    ):
        gone = [w.finished_at or NOON for w in pruned if w.state is state]
        kept = [
            w.finished_at or NOON
            for w in observation.workers
            if w.state is state and w not in pruned
        ]
        assert len(kept) <= keep
        assert not gone or len(kept) == keep
        assert not gone or not kept or max(gone) <= min(kept)
    assert all(worker.finished or worker in lingering for worker in pruned)


@given(situations(), st.randoms(use_true_random=False))
def test_the_order_of_workers_does_not_matter(situation: Situation, random: object) -> None:
    spec, observation, memory = situation
    shuffled = list(observation.workers)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = (
        planned(situation),
        planned((spec, replace(observation, workers=tuple(shuffled)), memory)),
    )
    assert set(one.reap) == set(other.reap)
    assert replace(one, reap=()) == replace(other, reap=())


@given(situations())
def test_the_same_again_is_the_same_plan(situation: Situation) -> None:
    assert planned(situation) == planned(situation)


@given(situations())
def test_a_plan_that_was_carried_out_creates_nothing_more(situation: Situation) -> None:
    spec, observation, _memory = situation
    spec = spec.model_copy(update={"max_submit_per_cycle": 1000})
    decided = plan(spec, observation, situation[2], NOON)
    created = [
        make_worker("Pending", f"new-{number}", created_at=NOON)
        for number in range(decided.create_workers)
    ]
    after = with_workers((spec, observation, decided.memory), *created)
    assert planned(after).create_workers == 0


@given(situations(), st.sampled_from([WorkerState.PENDING, WorkerState.STARTING]))
def test_one_more_worker_on_its_way_never_creates_more(
    situation: Situation, state: WorkerState
) -> None:
    more = with_workers(situation, make_worker(state, "one-more", created_at=NOON))
    assert planned(more).create_workers <= planned(situation).create_workers


@given(situations())
def test_an_end_is_judged_once(situation: Situation) -> None:
    spec, observation, _memory = situation
    once = planned(situation)
    again = planned((spec, observation, once.memory))
    assert again.memory == once.memory


@given(situations())
def test_the_reason_is_one_that_ready_can_give(situation: Situation) -> None:
    verdict = planned(situation).verdict
    assert verdict.reason in HEALTH
    assert verdict.message or halted(situation)
