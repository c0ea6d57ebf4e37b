"""What holds of every plan, whatever is observed and remembered."""

import math
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from unit.operator.builders import NOON, make_worker
from unit.operator.strategies import situations

from computepool_api.models import OkInstruction, ShutdownInstruction, SkipInstruction
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
from computepool_operator.reasons import HEALTH
from computepool_operator.workers import Worker, WorkerState, count

Situation = tuple[PoolSpec, Observation, Memory]


def planned(situation: Situation) -> Plan:
    spec, observation, memory = situation
    return plan(spec, observation, memory, NOON)


def halted(situation: Situation) -> bool:
    _spec, observation, memory = situation
    return is_halted(memory, observation.generation)


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
    assert decided.saturation is None
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
    assert (decided.create_workers, decided.reap, decided.prune) == (0, (), ())


@given(situations())
def test_only_registered_services_of_ended_workers_are_reaped(situation: Situation) -> None:
    _spec, observation, _memory = situation
    ended = {w.service_id for w in observation.workers if w.finished}
    registered: tuple[str, ...] = ()
    if isinstance(observation.instruction, OkInstruction | SkipInstruction):
        registered = observation.instruction.compute_service_ids
    reaped = planned(situation).reap
    if halted(situation):
        assert reaped == ()
    else:
        assert set(reaped) == ended & set(registered)


@given(situations())
def test_pruning_keeps_the_newest_and_never_what_is_active(situation: Situation) -> None:
    spec, observation, _memory = situation
    pruned = planned(situation).prune
    if not pruned:
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
    assert all(worker.finished for worker in pruned)


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
