"""What a pool does next: the heart of the operator, and pure.

`plan(spec, observation, memory, now)` looks at what the server said and at the workers that
exist, and answers with what to create, what to clean up, and why nothing more is created. It does
no I/O, reads no clock and draws no random number; a reader can learn the product here.

Units are in the names: *tasks* are alchemiscale Tasks, *workers* are compute services (one Job,
one pod, one registration each).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from computepool_api.ids import ComputeServiceID, to_alchemiscale_name
from computepool_api.models import Instruction, OkInstruction, ShutdownInstruction, SkipInstruction

from .judging import count_failure, forgive, judge
from .memory import Backoff, Crashes, Halt, Memory
from .pool import RESUME_ANNOTATION, PoolSpec
from .reaping import Fleet, Reaping, ended_services, services_to_reap
from .reasons import Reason
from .revision import Revision, revision_of
from .workers import Departed, Worker, WorkerCounts, WorkerState, count

MANAGER_EXPIRY = timedelta(hours=1)
"""After this long without a status report the server may sweep a manager (server default)."""

PATIENCE = timedelta(minutes=1)
"""How long a worker may be held up before the pool's reason says so."""

_CLOCK_SLACK = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Unknown:
    """Something that could not be observed. Never read as zero: nothing is decided on it."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Observation:
    """The world as seen at the start of a cycle.

    `workers` must have been read *before* the instruction was asked for: a worker seen to have
    claimed is then certainly out of the server's count, and one that claims in between is counted
    as still covering a Task, which errs towards creating less. `generation` is the pool's
    `metadata.generation`, `resume` the value of its resume annotation. `departed` are pods that are
    gone from the cluster, `orphans` are services at work that belong to no worker any more, and
    names of services that begin with `service_prefix` are the pool's.
    """

    workers: tuple[Worker, ...]
    instruction: Instruction | Unknown
    generation: int
    departed: tuple[Departed, ...] = ()
    orphans: tuple[ComputeServiceID, ...] = ()
    resume: str = ""
    service_prefix: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The one reason that matters now, and a sentence for people."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do in this cycle.

    `create_workers`: how many Jobs to create, off the nodes `avoid_nodes` and told of the Tasks
    `poison`. `reap`: registered services whose process has ended, to be deregistered so that their
    Tasks wait again. `remove`: workers that never started and are to go, `prune`: finished ones
    beyond what the spec keeps, and those whose pod outlives their process. `saturation`: what to
    report OK with; `error`: the detail of an ERROR instead; neither: no report. `renew`: register
    the manager again, under the id it had. `settling`: services are left behind that must wait a
    while before they may be deregistered. `again`: once the memory is written down there is more
    to do, so the next cycle begins at once.
    """

    verdict: Verdict
    memory: Memory
    counts: WorkerCounts
    create_workers: int = 0
    avoid_nodes: tuple[str, ...] = ()
    poison: tuple[Crashes, ...] = ()
    reap: tuple[ComputeServiceID, ...] = ()
    remove: tuple[Worker, ...] = ()
    prune: tuple[Worker, ...] = ()
    saturation: float | None = None
    error: str | None = None
    renew: bool = False
    settling: bool = False
    again: bool = False


def tasks_per_worker(spec: PoolSpec) -> int:
    """How many Tasks a new worker is counted on to take, in Tasks.

    It may take `maxTasks` in all; what it takes after its first claim, it takes from the queue
    only while Tasks wait there, so counting on all of them never leaves a Task uncovered.
    """
    return spec.worker.max_tasks


def saturation(active_workers: int, max_workers: int) -> float:
    """The share of the pool in use, as the server wants it: within [0, 1].

    A maximum lowered below what runs gives more than one, which the server refuses (400); a
    maximum of zero is a pool that can take nothing, hence 1.
    """
    if max_workers <= 0:
        return 1.0
    return min(1.0, max(0.0, active_workers / max_workers))


def is_halted(memory: Memory, generation: int) -> bool:
    """Whether the server shut the pool down and nobody has changed the spec since."""
    return memory.halt is not None and memory.halt.generation == generation


def plan(spec: PoolSpec, observation: Observation, memory: Memory, now: datetime) -> Plan:
    """Decide one cycle of a pool.

    Args:
        spec: the pool's spec, defaults filled in.
        observation: the workers, then the server's instruction, in that order of time.
        memory: what the previous plan left.
        now: the present, in UTC.

    """
    workers = observation.workers
    counts = count(workers)
    # What the status says survives; a worker may go once its end stands there (invariant 11).
    written = memory
    memory = _heed_revision(spec, _heed_resume(observation, memory))
    instruction = observation.instruction
    known = None if isinstance(instruction, Unknown) else instruction
    memory = judge(spec, workers, known, memory, now)
    if memory.halt is not None and is_halted(memory, observation.generation):
        verdict = Verdict(Reason.SHUT_DOWN_BY_SERVER, memory.halt.message)
        decided = Plan(verdict, memory, counts)
        decided = _with_reaping_unlisted(observation, decided, written, now)
        return _with_pruning(spec, workers, decided, written)
    memory = replace(memory, halt=None)
    present = _not_gone(observation, memory)

    match instruction:
        case Unknown(reason, message):
            return Plan(Verdict(reason, message), memory, counts)
        case ShutdownInstruction(message=message):
            decided = _shut_down(observation.generation, memory, counts, message, now)
            if decided.renew:
                return decided
            return _with_reaping_unlisted(observation, decided, written, now)
        case SkipInstruction():
            verdict = Verdict(
                Reason.SKIPPED_BY_SERVER,
                "The server skips this manager because one of its services failed too many "
                "Tasks lately; it goes on when those failures are forgiven.",
            )
            late, memory = _late(spec, present, instruction, memory, now)
            remove = _given_up(late, written)
            decided = _answered(spec, Plan(verdict, memory, counts, remove=remove), now)
        case OkInstruction(num_tasks=num_tasks):
            late, memory = _late(spec, present, instruction, memory, now)
            surplus = _surplus(spec, present, instruction, late, memory.revision)
            remove = (*_given_up(late, written), *surplus)
            create, verdict, memory = _size(spec, workers, num_tasks, memory, now)
            decided = _answered(
                spec,
                Plan(
                    _with_trouble(verdict, workers, now),
                    memory,
                    counts,
                    create_workers=create,
                    remove=remove,
                    avoid_nodes=tuple(q.node for q in memory.quarantined),
                    poison=poison_tasks(spec, memory),
                ),
                now,
            )
    decided = _with_pruning(spec, workers, _with_reaping(observation, decided, now), written)
    return replace(decided, again=decided.again or bool(memory.given_up - written.given_up))


def poison_tasks(spec: PoolSpec, memory: Memory) -> tuple[Crashes, ...]:
    """Tasks that have taken down as many workers as they may."""
    limit = spec.failure_policy.task_crash_limit
    return tuple(crashes for crashes in memory.crashes if crashes.number >= limit)


def _heed_resume(observation: Observation, memory: Memory) -> Memory:
    """Forget what holds the pool up when a person has changed the resume annotation."""
    resumed = memory.resume is not None and observation.resume != memory.resume
    if resumed and observation.resume:
        memory = replace(forgive(memory), halt=None)
    return replace(memory, resume=observation.resume)


def _heed_revision(spec: PoolSpec, memory: Memory) -> Memory:
    """Begin anew when what workers are made from has changed: the failures were of the former.

    Where only the Tasks have changed that they may claim, only fruitless claims are forgotten.
    """
    before, present = memory.revision, revision_of(spec)
    if before is not None and before.form != present.form:
        memory = forgive(memory)
    elif before is not None and before != present:
        memory = replace(memory, futile=None)
    return replace(memory, revision=present)


def _answered(spec: PoolSpec, plan: Plan, now: datetime) -> Plan:
    """Add the report to the server: ERROR while the circuit is open, else OK and how full."""
    failing = plan.memory.failing
    if failing is not None and now < failing.retry_at:
        detail = (
            f"{plan.memory.consecutive_failures} workers in a row failed; one tries again at "
            f"{failing.retry_at:%Y-%m-%d %H:%M:%S} UTC. Last: {plan.memory.last_failure}"
        )
        return replace(plan, error=detail)
    active = plan.counts.active + plan.create_workers
    return replace(plan, saturation=saturation(active, spec.max_compute_services))


def _late(
    spec: PoolSpec,
    workers: Sequence[Worker],
    instruction: OkInstruction | SkipInstruction,
    memory: Memory,
    now: datetime,
) -> tuple[tuple[Worker, ...], Memory]:
    """Workers that have not started by `startupDeadline`; each counts as failed, once.

    A suspended one waits because somebody wants it to. One that was made from a former spec says
    nothing about those that are made now, and one that waits for a machine is no worse than others.
    """
    late = tuple(
        worker
        for worker in _unstarted(workers, instruction)
        if not worker.suspended and now >= worker.waiting_since + spec.job.startup_deadline
    )
    for worker in late:
        if worker.name in memory.given_up or worker.is_former(memory.revision):
            continue
        if worker.trouble.startswith(_WAITS_FOR_MACHINE):
            continue
        told = f"{worker.name} did not start in time: {worker.trouble or 'no reason is known'}"
        memory = count_failure(spec, memory, told, now)
    return late, replace(memory, given_up=frozenset(worker.name for worker in late))


def _given_up(late: Sequence[Worker], written: Memory) -> tuple[Worker, ...]:
    """The late workers that may go: their failure stands in the status."""
    return tuple(worker for worker in late if worker.name in written.given_up)


def _surplus(
    spec: PoolSpec,
    workers: Sequence[Worker],
    instruction: OkInstruction,
    late: Sequence[Worker],
    present: Revision | None,
) -> tuple[Worker, ...]:
    """Workers that wait for a machine or an image although no Task would be left for them.

    So many as there are more than Tasks, the youngest first; those that another server than the
    spec's is waiting for; those that may claim other Tasks than the spec says now; and those
    that are held up and were created from a former spec, since its correction may be what they
    need.
    """
    waiting = [w for w in _unstarted(workers, instruction) if w not in late]
    superseded = [
        worker
        for worker in waiting
        if _is_elsewhere(spec, worker)
        or (not worker.suspended and worker.claims_otherwise(present))
        or (worker.trouble and not worker.suspended and worker.is_former(present))
    ]
    others = [worker for worker in waiting if worker not in superseded]
    needed = math.ceil(instruction.num_tasks / tasks_per_worker(spec))
    return (*superseded, *others[: max(0, len(others) - needed)])


def _not_gone(observation: Observation, memory: Memory) -> list[Worker]:
    """Workers but for those whose end is known, although their Job shows no sign of it yet."""
    ended = {name for name, _end in memory.judged}
    gone = {departed.service_id.name for departed in observation.departed}
    return [
        worker
        for worker in observation.workers
        if worker.name not in ended and _service_name(worker) not in gone
    ]


def _unstarted(
    workers: Sequence[Worker], instruction: OkInstruction | SkipInstruction
) -> list[Worker]:
    """Workers that have certainly not started, the youngest first.

    The cluster shows a start a second or two late; one that the server knows has started, and may
    hold a Task.
    """
    at_the_server = {service.partition("-")[0] for service in instruction.compute_service_ids}
    waiting = [
        worker
        for worker in workers
        if worker.state.may_claim_first
        and not worker.started
        and _service_name(worker) not in at_the_server
    ]
    return sorted(waiting, key=lambda worker: (worker.created_at, worker.name), reverse=True)


def _is_elsewhere(spec: PoolSpec, worker: Worker) -> bool:
    """Whether the worker was created for another server than the spec names now."""
    return worker.server is not None and worker.server != spec.compute_api.url


def _service_name(worker: Worker) -> str:
    """The name under which the worker registers, also before its pod has been seen."""
    if worker.service_id is not None:
        return worker.service_id.name
    return to_alchemiscale_name(worker.name)


def _size(
    spec: PoolSpec, workers: Sequence[Worker], num_tasks: int, memory: Memory, now: datetime
) -> tuple[int, Verdict, Memory]:
    """How many workers to create for `num_tasks` waiting Tasks, and why not more.

    The server's count holds waiting Tasks only, so running workers are not subtracted. A worker
    that has not claimed yet still will: the Tasks it covers are.
    """
    counts = count(workers)
    memory = replace(memory, waiting_tasks=num_tasks)
    if memory.futile is not None and num_tasks < memory.futile.tasks:
        # Somebody claimed a Task that was taken for unclaimable.
        memory = replace(memory, futile=None)

    if spec.suspend:
        return 0, Verdict(Reason.SUSPENDED, "spec.suspend is true: no worker is created."), memory

    per_worker = tasks_per_worker(spec)
    unclaimed = [
        worker
        for worker in workers
        if worker.state.may_claim_first and not _is_elsewhere(spec, worker)
    ]
    covered_tasks = per_worker * len(unclaimed)
    unclaimable_tasks = memory.futile.tasks if memory.futile else 0
    uncovered_tasks = max(0, num_tasks - unclaimable_tasks - covered_tasks)
    room = max(0, spec.max_compute_services - counts.active)
    wanted = math.ceil(uncovered_tasks / per_worker)

    if memory.failing is not None:
        retry_at = memory.failing.retry_at
        if memory.futile is not None and wanted == 0:
            retry_at = max(retry_at, memory.futile.retry_at)
        reason = Verdict(
            Reason.WORKERS_FAILING,
            f"The last {memory.consecutive_failures} workers failed ({memory.last_failure}). The "
            f"server has been told ERROR. One worker tries again at {_time(retry_at)}. To go on at "
            f"once, correct spec.worker, or annotate the pool with {RESUME_ANNOTATION} and a value "
            "that it has not had, such as the time.",
        )
        on_trial = _has_canary(workers, memory.failing) or bool(unclaimed)
        create = int(now >= retry_at and not on_trial and num_tasks > 0 and room > 0)
        return create, reason, memory
    if memory.futile is not None and wanted == 0 and num_tasks > covered_tasks:
        reason = Verdict(
            Reason.NOTHING_CLAIMABLE,
            f"The server counts {_tasks(num_tasks)} as waiting, but workers find nothing to claim "
            "(a hub or Task of weight 0). One worker tries again at "
            f"{_time(memory.futile.retry_at)}.",
        )
        create = int(now >= memory.futile.retry_at and not unclaimed and room > 0)
        return create, reason, memory

    if wanted and _none_can_start(spec, workers, memory.revision, now):
        reason = Verdict(
            Reason.WORKERS_STARTING,
            f"{_tasks(num_tasks)} waiting; no more workers are created until one of those that "
            "exist has started.",
        )
        return 0, reason, memory
    create = min(wanted, room, spec.max_submit_per_cycle)
    return create, _explain(spec, counts, num_tasks, wanted, create), memory


def _explain(
    spec: PoolSpec, counts: WorkerCounts, num_tasks: int, wanted: int, create: int
) -> Verdict:
    most = spec.max_compute_services
    if create:
        return Verdict(
            Reason.WORKERS_CREATED,
            f"{_tasks(num_tasks)} waiting: {_workers(create)} created, "
            f"{counts.active + create} of {most} in use.",
        )
    if wanted and not most:
        return Verdict(
            Reason.SATURATED,
            f"{_tasks(num_tasks)} waiting, and spec.maxComputeServices is 0: no worker is created.",
        )
    if wanted:
        return Verdict(
            Reason.SATURATED,
            f"{_tasks(num_tasks)} waiting, and all {_workers(most)} allowed by "
            f"spec.maxComputeServices are in use ({counts.running} running).",
        )
    if num_tasks:
        return Verdict(
            Reason.WORKERS_STARTING,
            f"{_tasks(num_tasks)} waiting; {_workers(counts.pending + counts.starting)} starting.",
        )
    if counts.active:
        return Verdict(
            Reason.WORKERS_RUNNING,
            f"No Task waits; {_workers(counts.active)} in use.",
        )
    return Verdict(Reason.NO_TASKS, "No Task waits in the pool's scopes.")


def _with_trouble(verdict: Verdict, workers: Sequence[Worker], now: datetime) -> Verdict:
    """Add what Kubernetes says about workers that do not start, the commonest of it."""
    held_up = [worker for worker in workers if worker.trouble]
    if not held_up:
        return verdict
    trouble, number = Counter(worker.trouble for worker in held_up).most_common(1)[0]
    reason, message = verdict.reason, f"{verdict.message} {_workers(number)} can't start: {trouble}"
    if reason in _OVERRULED and any(now - w.waiting_since >= PATIENCE for w in held_up):
        waits = trouble.startswith(_WAITS_FOR_MACHINE)
        reason = Reason.WORKERS_UNSCHEDULABLE if waits else Reason.WORKERS_NOT_STARTING
    return Verdict(reason, message)


def _none_can_start(
    spec: PoolSpec, workers: Sequence[Worker], present: Revision | None, now: datetime
) -> bool:
    """Whether workers fail to start and none that is as young has started.

    One that waits for a machine says nothing about the next: an autoscaler may be at work, and so
    may a queueing system. Where older ones of the same make have started, it takes as many as open
    the circuit: fewer may be on one bad node.
    """
    stuck = [
        worker.created_at
        for worker in workers
        if worker.state.may_claim_first
        and not worker.started
        and worker.trouble
        and not worker.trouble.startswith(_WAITS_FOR_MACHINE)
        and now - worker.waiting_since >= PATIENCE
    ]
    started = [w.created_at for w in workers if w.started and not w.is_former(present)]
    if not stuck or any(created >= min(stuck) for created in started):
        return False
    return not started or len(stuck) >= spec.failure_policy.max_consecutive_failures


_WAITS_FOR_MACHINE = ("Unschedulable", "SchedulingGated", "Suspended")

_OVERRULED = frozenset(
    {Reason.WORKERS_CREATED, Reason.WORKERS_STARTING, Reason.WORKERS_RUNNING, Reason.SATURATED}
)


def _has_canary(workers: Sequence[Worker], failing: Backoff) -> bool:
    """Whether a worker that was created to try is still at it: its end decides, not its claim.

    No worker is created during the pause, so every younger one is a canary. The slack is for the
    clock of the API server, which may be behind ours; `retryAfter` is never that short. One that
    has been told to go proves nothing any more; on a node that is gone it may stay for days.
    """
    since = failing.retry_at - _CLOCK_SLACK
    return any(
        worker.end is None and worker.state is not WorkerState.ENDING and worker.created_at >= since
        for worker in workers
    )


def _shut_down(
    generation: int, memory: Memory, counts: WorkerCounts, message: str, now: datetime
) -> Plan:
    """SHUTDOWN: our registration is gone. Renew it only if it plainly lapsed.

    The server sweeps a manager that has not reported for an hour, and a manager that was never
    registered gets the same answer; both are ours to mend. One that reported a moment ago was
    stolen or cleared by somebody, and comes back only when a person says so.
    """
    if memory.reported_at is None or now - memory.reported_at >= MANAGER_EXPIRY:
        verdict = Verdict(
            Reason.NOT_REGISTERED,
            "The manager's registration has lapsed on the server; it is being renewed.",
        )
        return Plan(verdict, memory, counts, renew=True)
    told = (
        f"The server shut this manager down ({message.rstrip('.') or 'no message'}): somebody "
        "else registered its name or an administrator removed it. Running workers finish, none is "
        "created. To resume, change the pool's spec, or annotate it with "
        f"{RESUME_ANNOTATION} and a value that it has not had, such as the time."
    )
    halt = Halt(generation=generation, message=told, since=now)
    return Plan(Verdict(Reason.SHUT_DOWN_BY_SERVER, told), replace(memory, halt=halt), counts)


def _with_reaping(observation: Observation, plan: Plan, now: datetime) -> Plan:
    """Add the services whose process has ended although they are still registered."""
    if not isinstance(observation.instruction, OkInstruction | SkipInstruction):
        return plan
    listed = observation.instruction.compute_service_ids
    reaping = services_to_reap(_fleet(observation), listed, dict(plan.memory.left_since), now)
    return _reaped(plan, reaping)


def _with_reaping_unlisted(
    observation: Observation, plan: Plan, written: Memory, now: datetime
) -> Plan:
    """Add the services of workers that have ended badly, where the server lists none."""
    known = {name for name, _end in written.judged}
    new = {
        worker.name
        for worker in observation.workers
        if worker.end is WorkerState.FAILED and worker.name not in known
    }
    left = dict(plan.memory.left_since)
    return _reaped(plan, ended_services(_fleet(observation), new, left, now))


def _reaped(plan: Plan, reaping: Reaping) -> Plan:
    memory = replace(plan.memory, left_since=reaping.left_since)
    return replace(plan, reap=reaping.reap, memory=memory, settling=reaping.settling)


def _fleet(observation: Observation) -> Fleet:
    return Fleet(
        observation.workers, observation.departed, observation.orphans, observation.service_prefix
    )


def _with_pruning(spec: PoolSpec, workers: Sequence[Worker], plan: Plan, written: Memory) -> Plan:
    """Add the finished workers beyond what the spec keeps, oldest first, and those that linger.

    What lingers holds a GPU, and goes as soon as its end stands in the status: in the next cycle.
    """
    keep = {
        WorkerState.SUCCEEDED: spec.job.keep_succeeded,
        WorkerState.FAILED: spec.job.keep_failed,
    }
    lingering = [worker for worker in workers if worker.state is WorkerState.LINGERING]
    prune = sorted(lingering, key=lambda worker: worker.name)
    for state, kept in keep.items():
        of_state = [worker for worker in workers if worker.state is state]
        of_state.sort(key=lambda w: (w.finished_at or w.created_at, w.name))
        prune += of_state[: max(0, len(of_state) - kept)]
    known = {name for name, _end in written.judged}
    return replace(
        plan,
        prune=tuple(worker for worker in prune if worker.name in known),
        again=any(worker.name not in known for worker in lingering),
    )


def _tasks(n: int) -> str:
    return f"{n} Task" if n == 1 else f"{n} Tasks"


def _workers(n: int) -> str:
    return f"{n} worker" if n == 1 else f"{n} workers"


def _time(moment: datetime) -> str:
    return moment.strftime("%H:%M:%S UTC")
