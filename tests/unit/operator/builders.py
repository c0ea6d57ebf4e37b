"""Plain values for tests of the operator: specs, workers, and a pool planned cycle by cycle."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from computepool_api.ids import ComputeServiceID, to_alchemiscale_name
from computepool_api.models import Instruction, OkInstruction
from computepool_api.outcomes import Outcome, TerminationMessage
from computepool_operator.memory import Memory
from computepool_operator.plan import Observation, Plan, Unknown, plan
from computepool_operator.pool import PoolSpec
from computepool_operator.revision import Revision
from computepool_operator.workers import Departed, Ending, Worker, WorkerState

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


def make_spec(**fields: Any) -> PoolSpec:
    """A spec with the defaults of the CRD; `worker`, `job` and the like are merged over them."""
    body: dict[str, Any] = {
        "compute_api": {
            "url": "https://compute.example.org",
            "credentials_secret_ref": {"name": "alchemiscale-compute"},
        },
        "worker": {"image": "registry.example.org/worker:v1"},
    }
    for name, value in fields.items():
        below = body.get(name)
        merge = isinstance(below, dict) and isinstance(value, Mapping)
        body[name] = {**below, **value} if merge else value  # type: ignore[dict-item]
    return PoolSpec.model_validate(body)


def make_worker(
    state: WorkerState | str,
    name: str = "a100-x",
    *,
    outcome: Outcome | None = None,
    finished_at: datetime | None = None,
    created_at: datetime = NOON - 30 * SECOND,
    trouble: str = "",
    task: str | None = None,
    node: str = "node-1",
    ending: Ending | None = None,
    lingering_end: WorkerState | None = None,
    suspended: bool = False,
    released_at: datetime | None = None,
    revision: Revision | None = None,
) -> Worker:
    """A worker of a state, with the fields that a worker of that state has.

    One that lingers has failed, unless its last word is another.
    """
    state = WorkerState(state)
    on_a_node = state is not WorkerState.PENDING
    if state is WorkerState.LINGERING:
        good = outcome is not None and outcome.is_end and outcome.exit_code == 0
        lingering_end = WorkerState.SUCCEEDED if good else WorkerState.FAILED
    has_ended = state.finished or lingering_end is not None
    return Worker(
        name=name,
        uid=f"uid-{name}",
        state=state,
        created_at=created_at,
        pod=f"{name}-pod" if on_a_node else None,
        node=node if on_a_node else None,
        service_id=make_service_id(name) if on_a_node else None,
        trouble=trouble,
        suspended=suspended,
        released_at=released_at,
        finished_at=(finished_at or NOON) if has_ended else None,
        started=has_ended or state in (WorkerState.RUNNING, WorkerState.ENDING),
        ending=ending if has_ended else None,
        message=None if outcome is None else TerminationMessage(outcome, task),
        lingering_end=lingering_end,
        revision=revision,
    )


def make_service_id(name: str) -> ComputeServiceID:
    """The id under which the pod of a Job registers."""
    return ComputeServiceID.new(to_alchemiscale_name(name), uuid.uuid5(uuid.NAMESPACE_DNS, name))


def fleet(**numbers: int) -> tuple[Worker, ...]:
    """So many workers of each state: `fleet(pending=2, running=1)`."""
    return tuple(
        make_worker(state.capitalize(), f"{state}-{number}")
        for state, count in numbers.items()
        for number in range(count)
    )


def ended(outcome: Outcome | None, *names: str, at: datetime = NOON) -> tuple[Worker, ...]:
    """Workers that ended so: with exit code 0 they have succeeded, without a word they failed."""
    good = outcome is not None and outcome.exit_code == 0
    state = WorkerState.SUCCEEDED if good else WorkerState.FAILED
    return tuple(make_worker(state, name, outcome=outcome, finished_at=at) for name in names)


def having_judged(workers: Iterable[Worker]) -> Memory:
    """What a cycle left that has taken the ends of these workers into account, a minute ago."""
    ends = frozenset((worker.name, worker.end) for worker in workers if worker.end is not None)
    return Memory(judged=ends, reported_at=NOON - MINUTE)


def ok(num_tasks: int, services: Iterable[str] = ()) -> OkInstruction:
    return OkInstruction(num_tasks, tuple(services))


def plan_once(
    instruction: Instruction | Unknown,
    workers: Sequence[Worker] = (),
    memory: Memory | None = None,
    *,
    now: datetime = NOON,
    generation: int = 1,
    **spec: Any,
) -> Plan:
    """One cycle, of a pool that has reported a minute ago unless `memory` says otherwise."""
    memory = memory or Memory(reported_at=now - MINUTE)
    return plan(
        make_spec(**spec), Observation(tuple(workers), instruction, generation), memory, now
    )


@dataclass
class PlannedPool:
    """A pool whose cycles follow one another: each leaves its memory to the next."""

    spec: PoolSpec = field(default_factory=make_spec)
    now: datetime = NOON
    generation: int = 1
    resume: str = ""
    departed: tuple[Departed, ...] = ()
    service_prefix: str = ""
    memory: Memory = field(default_factory=lambda: Memory(reported_at=NOON))

    def cycle(
        self,
        instruction: Instruction | Unknown | int,
        workers: Sequence[Worker] = (),
        *,
        after: timedelta = SECOND,
    ) -> Plan:
        """One cycle, so much later; a number stands for OK with so many Tasks waiting."""
        self.now += after
        if isinstance(instruction, int):
            instruction = ok(instruction)
        observation = Observation(
            tuple(workers),
            instruction,
            self.generation,
            departed=self.departed,
            resume=self.resume,
            service_prefix=self.service_prefix,
        )
        decided = plan(self.spec, observation, self.memory, self.now)
        self.memory = decided.memory
        if decided.saturation is not None or decided.error is not None:
            self.memory = replace(self.memory, reported_at=self.now)
        return decided


def table(cases: Mapping[str, Any]) -> pytest.MarkDecorator:
    """Run a test for each case of a table whose keys are sentences."""
    return pytest.mark.parametrize("case", [pytest.param(c, id=name) for name, c in cases.items()])
