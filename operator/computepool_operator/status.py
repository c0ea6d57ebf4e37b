"""What the pool shows: conditions, counters and the one-line reason. Pure.

Conditions follow the Kubernetes API conventions and kstatus: `Reconciling` and `Stalled` are
abnormal when True, `lastTransitionTime` moves only when a status changes, and each condition says
for which generation it was found.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from .memory import Backoff, Crashes, Halt, Memory, Quarantine
from .plan import Verdict, is_halted
from .pool import (
    CircuitStatus,
    Condition,
    ConditionStatus,
    CountedJobs,
    InstructionName,
    LeftService,
    PoisonTask,
    PoolStatus,
    QuarantinedNode,
    TasksStatus,
    WorkersStatus,
)
from .reasons import HEALTH, Health, Reason
from .revision import Revision
from .workers import WorkerCounts, WorkerState

ConditionType = Literal["Ready", "Registered", "Reconciling", "Stalled", "Saturated"]

_LONG_AGO = datetime.fromtimestamp(0, UTC)

_READY: dict[Health, ConditionStatus] = {
    Health.GOOD: "True",
    Health.WAITING: "False",
    Health.UNKNOWN: "Unknown",
    Health.STALLED: "False",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What a cycle has found out, for the status.

    Fields that are None were not found out this time; the status keeps what it said before.
    `registered` is None while it is not known. `completed` tells a whole cycle (the server was
    asked and answered) from one that broke off.
    """

    generation: int
    verdict: Verdict
    memory: Memory
    manager_id: str
    selector: str
    counts: WorkerCounts | None = None
    max_workers: int = 0
    registered: bool | None = None
    instruction: InstructionName | None = None
    saturation: float | None = None
    deleting: bool = False
    completed: bool = False


def build_status(before: PoolStatus, facts: Facts, now: datetime) -> PoolStatus:
    """Write the status of a pool after a cycle.

    Args:
        before: the status so far; what was not found out again is taken from it.
        facts: what this cycle found.
        now: the present, in UTC.

    """
    memory = facts.memory
    failing = memory.failing
    changes: dict[str, object] = {
        "conditions": _conditions(before, facts, now),
        "observed_generation": facts.generation,
        "reason": facts.verdict.reason.value,
        "message": facts.verdict.message[:4096],
        "compute_manager_id": facts.manager_id,
        "selector": facts.selector,
        "consecutive_failures": memory.consecutive_failures,
        "last_failure": memory.last_failure,
        "resume": memory.resume,
        "worker_revision": str(memory.revision or ""),
        "quarantined_nodes": tuple(
            QuarantinedNode(
                name=q.node, reason=q.reason, since=q.since, until=q.until, in_a_row=q.in_a_row
            )
            for q in sorted(memory.quarantined, key=lambda q: q.since, reverse=True)
        ),
        "poison_tasks": tuple(
            PoisonTask(
                task=c.task,
                crashes=c.number,
                last_crash_time=c.last_at,
                message=c.story,
                in_a_row=c.in_a_row,
            )
            for c in sorted(memory.crashes, key=lambda c: c.last_at, reverse=True)
        ),
        "left_services": tuple(
            LeftService(id=service, since=since) for service, since in memory.left_since
        ),
        "given_up_jobs": tuple(sorted(memory.given_up)),
        "counted_jobs": CountedJobs(
            succeeded=_names(memory, WorkerState.SUCCEEDED),
            failed=_names(memory, WorkerState.FAILED),
        ),
        "tasks": TasksStatus(
            waiting=memory.waiting_tasks,
            unclaimable=memory.futile.tasks if memory.futile else 0,
        ),
        "consecutive_empty_claims": memory.futile.rounds if memory.futile else 0,
        "backoff_until": memory.futile.retry_at if memory.futile else None,
        "circuit": CircuitStatus(
            open=failing is not None,
            since=(before.circuit.since or now) if failing else None,
            retry_at=failing.retry_at if failing else None,
            retries=failing.rounds - 1 if failing else 0,
        ),
        "last_report_time": memory.reported_at,
    }
    if facts.completed:
        changes["last_cycle_time"] = now
    if facts.counts is not None:
        changes["workers"] = _workers(facts.counts, memory)
    if facts.instruction is not None:
        changes["instruction"] = facts.instruction
    if facts.saturation is not None:
        changes["saturation"] = f"{facts.saturation:.2f}"
    return before.model_copy(update=changes)


def recall(status: PoolStatus) -> Memory:
    """Read back what an operator before us left in the status (invariant 11: stateless)."""
    futile = failing = halt = None
    if status.backoff_until is not None and status.consecutive_empty_claims:
        futile = Backoff(
            rounds=status.consecutive_empty_claims,
            retry_at=status.backoff_until,
            tasks=status.tasks.unclaimable,
        )
    if status.circuit.open and status.circuit.retry_at is not None:
        failing = Backoff(rounds=status.circuit.retries + 1, retry_at=status.circuit.retry_at)
    stalled = _find(status, "Stalled")
    if stalled is not None and stalled.reason == Reason.SHUT_DOWN_BY_SERVER:
        halt = Halt(
            generation=stalled.observed_generation or 0,
            message=stalled.message,
            since=stalled.last_transition_time,
        )
    counted = status.counted_jobs
    return Memory(
        judged=frozenset(
            {(name, WorkerState.SUCCEEDED) for name in counted.succeeded}
            | {(name, WorkerState.FAILED) for name in counted.failed}
        ),
        waiting_tasks=status.tasks.waiting,
        left_since=tuple((left.id, left.since) for left in status.left_services),
        given_up=frozenset(status.given_up_jobs),
        futile=futile,
        consecutive_failures=status.consecutive_failures,
        last_failure=status.last_failure,
        failing=failing,
        resume=status.resume,
        revision=Revision.parse(status.worker_revision),
        quarantined=tuple(
            Quarantine(
                node=q.name,
                reason=q.reason,
                since=q.since or q.until,
                until=q.until,
                in_a_row=q.in_a_row,
            )
            for q in status.quarantined_nodes
        ),
        crashes=tuple(
            Crashes(
                task=p.task,
                number=p.crashes,
                last_at=p.last_crash_time or _LONG_AGO,
                story=p.message,
                in_a_row=p.in_a_row,
            )
            for p in status.poison_tasks
        ),
        halt=halt,
        reported_at=status.last_report_time,
        gone_succeeded=max(0, status.workers.succeeded - len(counted.succeeded)),
        gone_failed=max(0, status.workers.failed - len(counted.failed)),
    )


def worth_an_event(before: PoolStatus, after: PoolStatus) -> bool:
    """Whether people should be told: Ready or its health changed, not merely who is at work."""
    return _health(before) is not _health(after) or (
        before.reason != after.reason and _health(after) is not Health.GOOD
    )


@dataclass(frozen=True, slots=True)
class News:
    """Something that people should be told by a warning event; `reason` is in the runbook."""

    reason: Literal["NodeQuarantined", "TaskGivenUp"]
    message: str


def news(before: PoolStatus, after: PoolStatus, task_crash_limit: int) -> list[News]:
    """What has been held against a node or a Task since: each is told once."""
    nodes = {node.name for node in before.quarantined_nodes}
    tasks = {task.task for task in before.poison_tasks if task.crashes >= task_crash_limit}
    return [
        *(
            News(
                "NodeQuarantined",
                f"Node {node.name} gets no workers of this pool until "
                f"{node.until:%Y-%m-%d %H:%M:%S} UTC: {node.reason}",
            )
            for node in after.quarantined_nodes
            if node.name not in nodes
        ),
        *(
            News(
                "TaskGivenUp",
                f"{task.task} has taken {task.crashes} workers down and is failed instead of run "
                f"from now on. Last: {task.message}",
            )
            for task in after.poison_tasks
            if task.crashes >= task_crash_limit and task.task not in tasks
        ),
    ]


def is_warning(status: PoolStatus) -> bool:
    """Whether the event about this status is a warning."""
    return _health(status) in (Health.STALLED, Health.UNKNOWN)


def _health(status: PoolStatus) -> Health | None:
    try:
        return HEALTH[Reason(status.reason)]
    except ValueError:
        return None


def _workers(counts: WorkerCounts, memory: Memory) -> WorkersStatus:
    return WorkersStatus(
        pending=counts.pending,
        starting=counts.starting,
        running=counts.running + counts.lingering + counts.ending,
        active=counts.active,
        succeeded=memory.finished(WorkerState.SUCCEEDED),
        failed=memory.finished(WorkerState.FAILED),
    )


def _names(memory: Memory, state: WorkerState) -> tuple[str, ...]:
    return tuple(sorted(name for name, judged in memory.judged if judged is state))


def _conditions(before: PoolStatus, facts: Facts, now: datetime) -> tuple[Condition, ...]:
    verdict, health = facts.verdict, HEALTH[facts.verdict.reason]
    halt = facts.memory.halt if is_halted(facts.memory, facts.generation) else None
    # Whatever else is wrong meanwhile, a restart must find that the pool waits for a person.
    obstacle = Verdict(Reason.SHUT_DOWN_BY_SERVER, halt.message) if halt else verdict
    stalled = HEALTH[obstacle.reason] is Health.STALLED
    reconciling = facts.deleting or health in (Health.WAITING, Health.UNKNOWN)
    found: list[tuple[ConditionType, ConditionStatus, Reason, str]] = [
        ("Ready", _READY[health], verdict.reason, verdict.message),
        _registered(facts),
        (
            "Reconciling",
            "True" if reconciling else "False",
            verdict.reason if reconciling else Reason.UP_TO_DATE,
            verdict.message if reconciling else "",
        ),
        (
            "Stalled",
            "True" if stalled else "False",
            obstacle.reason if stalled else Reason.NOT_STALLED,
            obstacle.message if stalled else "",
        ),
    ]
    if facts.counts is not None:
        full = facts.counts.active >= facts.max_workers
        found.append(
            (
                "Saturated",
                "True" if full else "False",
                Reason.SATURATED if full else Reason.ROOM_LEFT,
                f"{facts.counts.active} of {facts.max_workers} workers in use.",
            )
        )
    kept = [
        condition
        for condition in before.conditions
        if condition.type not in {kind for kind, *_ in found}
    ]
    return (
        *(
            _condition(before, kind, status, reason, message, facts.generation, now)
            for kind, status, reason, message in found
        ),
        *kept,
    )


def _registered(
    facts: Facts,
) -> tuple[ConditionType, ConditionStatus, Reason, str]:
    if facts.registered:
        message = f"The server knows this manager as {facts.manager_id}."
        return "Registered", "True", Reason.REGISTERED, message
    status: ConditionStatus = "Unknown" if facts.registered is None else "False"
    reason = facts.verdict.reason
    if HEALTH[reason] is Health.GOOD:
        reason = Reason.NOT_REGISTERED
    return "Registered", status, reason, facts.verdict.message


def _condition(
    before: PoolStatus,
    kind: ConditionType,
    status: ConditionStatus,
    reason: Reason,
    message: str,
    generation: int,
    now: datetime,
) -> Condition:
    old = _find(before, kind)
    since = old.last_transition_time if old is not None and old.status == status else now
    return Condition(
        type=kind,
        status=status,
        reason=reason.value,
        message=message[:4096],
        last_transition_time=since,
        observed_generation=generation,
    )


def _find(status: PoolStatus, kind: str) -> Condition | None:
    return next((c for c in status.conditions if c.type == kind), None)
