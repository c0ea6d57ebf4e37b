"""Arbitrary specs, workers, instructions and memories, also such as no pool will meet."""

from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from typing import TypeVar

from hypothesis import strategies as st
from unit.operator.builders import NOON, make_service_id, make_spec, make_worker

from computepool_api.models import (
    Instruction,
    OkInstruction,
    ShutdownInstruction,
    SkipInstruction,
)
from computepool_api.outcomes import Outcome
from computepool_operator.memory import Backoff, Halt, Memory
from computepool_operator.plan import Observation, Unknown
from computepool_operator.pool import PoolSpec
from computepool_operator.reasons import HEALTH
from computepool_operator.workers import Worker, WorkerState

T = TypeVar("T")

NAMES = [f"w{number:02}" for number in range(12)]
IDS = [make_service_id(name) for name in NAMES]
HOURS_AGO = [timedelta(hours=ago) for ago in (0, 0.5, 1, 2)]

# One draw per worker: what it is like (its state, how it ended, when), the name aside.
LIKE = [
    *((state, None, ago) for state in WorkerState if not state.finished for ago in HOURS_AGO[:2]),
    *(
        (state, outcome, ago)
        for state in (WorkerState.SUCCEEDED, WorkerState.FAILED)
        for outcome in (None, Outcome.DONE, Outcome.NOTHING_TO_DO, Outcome.TERMINATED)
        for ago in HOURS_AGO
    ),
]


@cache
def worker_like(name: str, like: int) -> Worker:
    state, outcome, ago = LIKE[like]
    return make_worker(state, name, outcome=outcome, created_at=NOON - ago, finished_at=NOON - ago)


@cache
def _spec(most: int, submit: int, tasks: int, failures: int, suspend: bool, keep: int) -> PoolSpec:
    return make_spec(
        max_compute_services=most,
        max_submit_per_cycle=submit,
        suspend=suspend,
        worker={"max_tasks": tasks},
        job={"keep_succeeded": keep, "keep_failed": 3 - keep},
        failure_policy={"max_consecutive_failures": failures},
    )


specs = st.builds(
    _spec,
    st.integers(0, 14),
    st.sampled_from([1, 3, 14]),
    st.integers(1, 4),
    st.integers(1, 4),
    st.sampled_from([*[False] * 5, True]),
    st.integers(0, 3),
)
fleets = st.lists(st.integers(0, len(LIKE) - 1), max_size=len(NAMES)).map(
    lambda likes: tuple(map(worker_like, NAMES, likes))
)


def subsets(things: Sequence[T]) -> st.SearchStrategy[tuple[T, ...]]:
    """Some of the things, drawn as the bits of one number."""
    return st.integers(0, 2 ** len(things) - 1).map(
        lambda bits: tuple(thing for place, thing in enumerate(things) if bits >> place & 1)
    )


@st.composite
def instructions(draw: st.DrawFn) -> Instruction | Unknown:
    match draw(st.sampled_from(["OK", "OK", "OK", "SKIP", "SHUTDOWN", "unknown"])):
        case "OK":
            return OkInstruction(draw(st.integers(0, 40)), draw(subsets(IDS)))
        case "SKIP":
            return SkipInstruction(draw(subsets(IDS)))
        case "SHUTDOWN":
            return ShutdownInstruction("not registered")
        case _:
            return Unknown(draw(st.sampled_from(sorted(HEALTH))), "could not be asked")


BACKOFFS = [
    Backoff(rounds, NOON + timedelta(seconds=seconds), tasks)
    for rounds in (1, 6)
    for seconds in (-60, 0, 60)
    for tasks in (0, 1, 3, 20)
]
HALTS = [Halt(generation, "told to", NOON - timedelta(hours=2)) for generation in (1, 2)]
REPORTED = [None, *(NOON - ago for ago in HOURS_AGO)]


@st.composite
def memories(draw: st.DrawFn, fleet: tuple[Worker, ...]) -> Memory:
    """A memory that has judged some of the finished workers, and others that are gone."""
    judged = None
    if draw(st.booleans()):
        finished = [(worker.uid, worker.state) for worker in fleet if worker.finished]
        gone = [("uid-gone-1", WorkerState.FAILED), ("uid-gone-2", WorkerState.SUCCEEDED)]
        judged = frozenset(draw(subsets([*finished, *gone])))
    return Memory(
        judged=judged,
        waiting_tasks=draw(st.sampled_from([None, 0, 1, 2, 5, 20])),
        futile=draw(st.sampled_from([None] * 72 + BACKOFFS)),
        consecutive_failures=draw(st.integers(0, 5)),
        failing=draw(st.sampled_from([None] * 168 + BACKOFFS)),
        halt=draw(st.sampled_from([*[None] * 8, *HALTS])),
        reported_at=draw(st.sampled_from(REPORTED)),
        gone_succeeded=7,
        gone_failed=2,
    )


@st.composite
def situations(draw: st.DrawFn) -> tuple[PoolSpec, Observation, Memory]:
    """Everything that `plan` looks at but the time, which is noon."""
    fleet = draw(fleets)
    observation = Observation(fleet, draw(instructions()), draw(st.integers(1, 2)))
    return draw(specs), observation, draw(memories(fleet))
