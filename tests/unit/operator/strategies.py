"""Arbitrary specs, workers, instructions and memories, also such as no pool will meet."""

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

from hypothesis import strategies as st
from unit.operator.builders import NOON, make_service_id, make_spec, make_worker

from computepool_api.models import (
    Instruction,
    OkInstruction,
    ShutdownInstruction,
    SkipInstruction,
)
from computepool_api.outcomes import Outcome
from computepool_operator.memory import Backoff, Crashes, Halt, Memory, Quarantine
from computepool_operator.plan import Observation, Unknown
from computepool_operator.pool import PoolSpec
from computepool_operator.reasons import HEALTH, Reason
from computepool_operator.revision import Revision, revision_of
from computepool_operator.workers import Departed, Ending, Worker, WorkerState

T = TypeVar("T")

NAMES = [f"w{number:02}" for number in range(12)]
IDS = [make_service_id(name) for name in NAMES]
HOURS_AGO = [timedelta(hours=ago) for ago in (0, 0.5, 1, 2)]

TASKS = [f"Task-{number}-org-campaign-project" for number in range(3)]
NODES = [f"node-{number}" for number in range(3)]
PREFIX = "w"
STRANGERS = [make_service_id("somebody-else"), make_service_id("w-unknown"), "of.another.form"]

# Ends that are not told by a good outcome, each with what Kubernetes says of it.
FAILURES: list[tuple[Outcome | None, Ending | None]] = [
    (None, None),
    (None, Ending(reason="Error", exit_code=1)),
    (None, Ending(reason="OOMKilled", exit_code=137)),
    (None, Ending(pod_reason="OutOfnvidia.com/gpu")),
    (Outcome.HOLDING, Ending(reason="OOMKilled", exit_code=137)),
    (Outcome.HOLDING, Ending(exit_code=137, pod_reason="Evicted")),
    (Outcome.PUSHING, Ending(reason="Error", exit_code=137)),
    *((outcome, None) for outcome in Outcome if outcome.is_end and outcome.exit_code),
]

AT_WORK = [s for s in WorkerState if not s.finished and s is not WorkerState.LINGERING]

# What a worker is like (its state, how it ended, when), the name aside; half of them are active.
LIKE: list[tuple[WorkerState, Outcome | None, Ending | None, timedelta]] = [
    *((state, None, None, ago) for state in AT_WORK * 4 for ago in HOURS_AGO[:2]),
    *(
        (WorkerState.LINGERING, outcome, ending, HOURS_AGO[0])
        for outcome, ending in ((Outcome.DONE, None), *FAILURES[4:])
    ),
    *(
        (WorkerState.SUCCEEDED, outcome, None, ago)
        for outcome in (None, Outcome.DONE, Outcome.NOTHING_TO_DO)
        for ago in HOURS_AGO
    ),
    *(
        (WorkerState.FAILED, outcome, ending, ago)
        for outcome, ending in FAILURES
        for ago in (timedelta(), timedelta(hours=1))
    ),
]


@cache
def worker_like(name: str, like: int) -> Worker:
    """A worker like that; its Task and its node follow from both."""
    state, outcome, ending, ago = LIKE[like]
    return make_worker(
        state,
        name,
        outcome=outcome,
        created_at=NOON - ago,
        finished_at=NOON - ago,
        task=None if outcome is None else TASKS[like % len(TASKS)],
        node=NODES[int(name[1:]) % len(NODES)],
        ending=ending,
        trouble="Unschedulable: no GPU" if state is WorkerState.PENDING and ago else "",
        revision=REVISIONS[like % len(REVISIONS)],
    )


def choose(draw: st.DrawFn, *lists: Sequence[Any]) -> list[Any]:
    """One thing of each list, drawn as one number: a draw for each would take most of the time.

    What stands first in a list is taken for the simplest.
    """
    number = draw(st.integers(0, math.prod(map(len, lists)) - 1))
    chosen = []
    for things in lists:
        number, place = divmod(number, len(things))
        chosen.append(things[place])
    return chosen


def members(things: Sequence[T], bits: int) -> tuple[T, ...]:
    """Those of the things whose bit is set."""
    return tuple(thing for place, thing in enumerate(things) if bits >> place & 1)


def subset(draw: st.DrawFn, things: Sequence[T]) -> tuple[T, ...]:
    """Some of the things."""
    return members(things, draw(st.integers(0, 2 ** len(things) - 1)))


@cache
def _spec(most: int, submit: int, tasks: int, failures: int, suspend: bool, keep: int) -> PoolSpec:
    return make_spec(
        max_compute_services=most,
        max_submit_per_cycle=submit,
        suspend=suspend,
        worker={"max_tasks": tasks},
        job={"keep_succeeded": keep, "keep_failed": 3 - keep},
        failure_policy={"max_consecutive_failures": failures, "task_crash_limit": failures},
    )


@st.composite
def specs(draw: st.DrawFn) -> PoolSpec:
    some = range(1, 5)
    return _spec(*choose(draw, range(15), [1, 3, 14], some, some, [*[False] * 5, True], range(4)))


@st.composite
def fleets(draw: st.DrawFn) -> tuple[Worker, ...]:
    size = draw(st.integers(0, len(NAMES)))
    likes: list[int] = []
    while len(likes) < size:
        likes += choose(draw, *[range(len(LIKE))] * min(4, size - len(likes)))
    return tuple(map(worker_like, NAMES, likes))


@st.composite
def instructions(draw: st.DrawFn) -> Instruction | Unknown:
    kind, number = choose(draw, ["OK", "OK", "OK", "SKIP", "SHUTDOWN", "unknown"], range(41))
    match kind:
        case "OK":
            return OkInstruction(number, subset(draw, [*IDS, *STRANGERS]))
        case "SKIP":
            return SkipInstruction(subset(draw, [*IDS, *STRANGERS]))
        case "SHUTDOWN":
            return ShutdownInstruction("not registered")
        case _:
            # That one is given where the server is not asked, which a halt alone can cause.
            reasons = sorted(HEALTH.keys() - {Reason.SHUT_DOWN_BY_SERVER})
            return Unknown(reasons[number % len(reasons)], "could not be asked")


BACKOFFS = [
    Backoff(rounds, NOON + timedelta(seconds=seconds), tasks)
    for rounds in (1, 6)
    for seconds in (-60, 0, 60)
    for tasks in (0, 1, 3, 20)
]
HALTS = [Halt(generation, "told to", NOON - timedelta(hours=2)) for generation in (1, 2)]
REPORTED = [None, *(NOON - ago for ago in HOURS_AGO)]
RESUME = ["", "", "", "now", "again"]
PRESENT = revision_of(make_spec())
FORMER = Revision("former", PRESENT.reach)
REVISIONS = [None, PRESENT, PRESENT, FORMER]
QUARANTINES = [
    Quarantine(node, "unfit", NOON - timedelta(hours=1), NOON + timedelta(minutes=minutes))
    for node, minutes in zip(NODES, (-1, 0, 30), strict=True)
]
CRASHES = [
    Crashes(task, number, NOON - timedelta(days=days), "killed")
    for task, number, days in zip(TASKS, (1, 3, 5), (0, 6, 7), strict=True)
]
DEPARTED = [
    Departed(service, NOON - timedelta(minutes=minutes), ended=ended)
    for service, minutes, ended in zip(IDS, (0, 1, 2, 3) * 3, (True, False, False) * 4, strict=True)
]


UNCLAIMED = (str(STRANGERS[1]), NOON - HOURS_AGO[1])
GONE = [("gone-1", WorkerState.FAILED), ("gone-2", WorkerState.SUCCEEDED)]


@st.composite
def memories(draw: st.DrawFn, fleet: tuple[Worker, ...] = ()) -> Memory:
    """A memory that has judged some of the ended workers, and others that are gone."""
    waiting, futile, failures, failing = choose(
        draw,
        [None, 0, 1, 2, 5, 20],
        [None] * 72 + BACKOFFS,
        range(6),
        [None] * 168 + BACKOFFS,
    )
    some = range(8)
    halt, reported, resume, nodes, crashed, counted, unclaimed, revision = choose(
        draw,
        [*[None] * 8, *HALTS],
        REPORTED,
        [None, *RESUME],
        some,
        some,
        some,
        [False, True],
        REVISIONS,
    )
    ended = [(worker.name, worker.end) for worker in fleet if worker.end is not None]
    return Memory(
        judged=frozenset(subset(draw, [*ended, *GONE])),
        waiting_tasks=waiting,
        futile=futile,
        consecutive_failures=failures,
        last_failure="w9 failed" if failures else "",
        failing=failing,
        halt=halt,
        reported_at=reported,
        resume=resume,
        revision=revision,
        quarantined=members(QUARANTINES, nodes),
        crashes=tuple(
            replace(crash, in_a_row=bool(counted >> place & 1))
            for place, crash in enumerate(members(CRASHES, crashed))
        ),
        given_up=frozenset(subset(draw, [w.name for w in fleet if not w.started])),
        left_since=(UNCLAIMED, *((str(id_), NOON - HOURS_AGO[1]) for id_ in IDS[:6]))
        if unclaimed
        else (),
        gone_succeeded=7,
        gone_failed=2,
    )


@st.composite
def situations(draw: st.DrawFn) -> tuple[PoolSpec, Observation, Memory]:
    """Everything that `plan` looks at but the time, which is noon."""
    fleet = draw(fleets())
    departed, resume, generation = choose(draw, range(2 ** len(DEPARTED)), RESUME, (1, 2))
    observation = Observation(
        fleet,
        draw(instructions()),
        generation,
        departed=members(DEPARTED, departed),
        resume=resume,
        service_prefix=PREFIX,
    )
    return draw(specs()), observation, draw(memories(fleet))
