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
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from computepool_api.ids import ComputeServiceID
from computepool_api.models import Instruction, OkInstruction, ShutdownInstruction, SkipInstruction
from computepool_api.outcomes import Outcome

from .pool import PoolSpec
from .reasons import Reason
from .workers import Worker, WorkerCounts, WorkerState, count

MANAGER_EXPIRY = timedelta(hours=1)
"""After this long without a status report the server may sweep a manager (server default)."""

LONGEST_BACKOFF = timedelta(hours=1)

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
    `metadata.generation`.
    """

    workers: tuple[Worker, ...]
    instruction: Instruction | Unknown
    generation: int


@dataclass(frozen=True, slots=True)
class Backoff:
    """A pause in creating workers that ends with one trial worker.

    `rounds` counts pauses in a row (each twice as long as the one before), `retry_at` is when the
    trial worker may be created, `tasks` how many waiting Tasks the pause is about.
    """

    rounds: int
    retry_at: datetime
    tasks: int = 0


@dataclass(frozen=True, slots=True)
class Halt:
    """The server told the pool to shut down, at this generation of the pool; a person resumes."""

    generation: int
    message: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Memory:
    """What a cycle leaves to the next. All of it but `judged` survives in the pool's status.

    `judged` holds UID and state of the finished workers whose end has been taken into account, or
    None before the first cycle, in which everything already finished counts as judged.
    `gone_succeeded` and `gone_failed` count finished workers whose Jobs have been removed (before
    the first cycle: all that ever finished).
    """

    judged: frozenset[tuple[str, WorkerState]] | None = None
    waiting_tasks: int | None = None
    futile: Backoff | None = None
    consecutive_failures: int = 0
    failing: Backoff | None = None
    halt: Halt | None = None
    reported_at: datetime | None = None
    gone_succeeded: int = 0
    gone_failed: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """The one reason that matters now, and a sentence for people."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do in this cycle.

    `create_workers`: how many Jobs to create. `reap`: registered services whose process has
    certainly ended, to be deregistered so that their Tasks wait again. `prune`: finished workers
    beyond what the spec keeps. `saturation`: what to answer the server with, or None for no
    answer. `renew`: register the manager again, under the id it had.
    """

    verdict: Verdict
    memory: Memory
    counts: WorkerCounts
    create_workers: int = 0
    reap: tuple[ComputeServiceID, ...] = ()
    prune: tuple[Worker, ...] = field(default=())
    saturation: float | None = None
    renew: bool = False


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
    memory = _judge_finished(spec, observation, memory, now)
    if memory.halt is not None and is_halted(memory, observation.generation):
        verdict = Verdict(Reason.SHUT_DOWN_BY_SERVER, memory.halt.message)
        return _with_pruning(spec, workers, Plan(verdict, memory, counts))
    memory = replace(memory, halt=None)

    match observation.instruction:
        case Unknown(reason, message):
            return Plan(Verdict(reason, message), memory, counts)
        case ShutdownInstruction(message=message):
            return _shut_down(observation.generation, memory, counts, message, now)
        case SkipInstruction(compute_service_ids=registered):
            answer = Plan(
                Verdict(
                    Reason.SKIPPED_BY_SERVER,
                    "The server skips this manager because one of its services failed too many "
                    "Tasks lately; it goes on when those failures are forgiven.",
                ),
                memory,
                counts,
                reap=_ended_services(workers, registered),
                saturation=saturation(counts.active, spec.max_compute_services),
            )
        case OkInstruction(num_tasks=num_tasks, compute_service_ids=registered):
            create, verdict, memory = _size(spec, workers, num_tasks, memory, now)
            active = counts.active + create
            answer = Plan(
                _with_trouble(verdict, workers),
                memory,
                counts,
                create_workers=create,
                reap=_ended_services(workers, registered),
                saturation=saturation(active, spec.max_compute_services),
            )
    return _with_pruning(spec, workers, answer)


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
    unclaimed = [worker for worker in workers if worker.state.may_claim_first]
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
            f"The last {memory.consecutive_failures} workers failed; see their pods' termination "
            f"messages. One worker tries again at {_time(retry_at)}.",
        )
        on_trial = _has_canary(workers, memory.failing) or bool(unclaimed)
        create = int(now >= retry_at and not on_trial and num_tasks > 0 and room > 0)
        return create, reason, memory
    if memory.futile is not None and wanted == 0 and num_tasks > covered_tasks:
        reason = Verdict(
            Reason.NOTHING_CLAIMABLE,
            f"The server counts {_tasks(num_tasks)} as waiting, but workers find nothing to claim "
            "(a hub or Task of weight 0, or scopesExclude). One worker tries again at "
            f"{_time(memory.futile.retry_at)}.",
        )
        create = int(now >= memory.futile.retry_at and not unclaimed and room > 0)
        return create, reason, memory

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
            f"{_tasks(num_tasks)} waiting for {_workers(counts.pending + counts.starting)} "
            "that are starting.",
        )
    if counts.active:
        return Verdict(
            Reason.WORKERS_RUNNING,
            f"No Task waits; {_workers(counts.active)} in use.",
        )
    return Verdict(Reason.NO_TASKS, "No Task waits in the pool's scopes.")


def _with_trouble(verdict: Verdict, workers: Sequence[Worker]) -> Verdict:
    """Add what Kubernetes says about workers that do not start, the commonest of it."""
    troubles = Counter(worker.trouble for worker in workers if worker.trouble)
    if not troubles:
        return verdict
    trouble, number = troubles.most_common(1)[0]
    message = f"{verdict.message} {_workers(number)} can't start: {trouble}"
    return replace(verdict, message=message)


def _has_canary(workers: Sequence[Worker], failing: Backoff) -> bool:
    """Whether a worker that was created to try is still at it: its end decides, not its claim.

    No worker is created during the pause, so every younger one is a canary. The slack is for the
    clock of the API server, which may be behind ours; `retryAfter` is never that short.
    """
    since = failing.retry_at - _CLOCK_SLACK
    return any(not worker.finished and worker.created_at >= since for worker in workers)


def _judge_finished(
    spec: PoolSpec, observation: Observation, memory: Memory, now: datetime
) -> Memory:
    """Take the ends of workers into account, each once."""
    finished = {(w.uid, w.state): w for w in observation.workers if w.finished}
    judged = memory.judged
    memory = replace(memory, judged=frozenset(finished))
    if judged is None:
        kept = count(finished.values())
        return replace(
            memory,
            gone_succeeded=max(0, memory.gone_succeeded - kept.succeeded),
            gone_failed=max(0, memory.gone_failed - kept.failed),
        )
    gone = Counter(state for _uid, state in judged.difference(finished))
    memory = replace(
        memory,
        gone_succeeded=memory.gone_succeeded + gone[WorkerState.SUCCEEDED],
        gone_failed=memory.gone_failed + gone[WorkerState.FAILED],
    )
    new = [worker for key, worker in finished.items() if key not in judged]
    if not new:
        return memory
    return _judge_failures(spec, _judge_futility(spec, observation, memory, new, now), new, now)


def _judge_futility(
    spec: PoolSpec,
    observation: Observation,
    memory: Memory,
    new: Sequence[Worker],
    now: datetime,
) -> Memory:
    """Remember Tasks that the server counts but no worker can claim.

    Only Tasks counted both before and after the fruitless worker ended are held to be unclaimable:
    one submitted since deserves a worker of its own.
    """
    if not any(_outcome(worker) is Outcome.NOTHING_TO_DO for worker in new):
        return memory
    if not isinstance(observation.instruction, OkInstruction):
        return memory
    num_tasks = observation.instruction.num_tasks
    tasks = num_tasks if memory.waiting_tasks is None else min(num_tasks, memory.waiting_tasks)
    if tasks == 0:
        return replace(memory, futile=None)
    futile = memory.futile
    if futile is not None and now < futile.retry_at:
        return replace(memory, futile=replace(futile, tasks=tasks))
    rounds = futile.rounds + 1 if futile else 1
    return replace(memory, futile=_pause(spec.cycle_interval, rounds, now, tasks=tasks))


def _judge_failures(spec: PoolSpec, memory: Memory, new: Sequence[Worker], now: datetime) -> Memory:
    """Count failures in a row; at `maxConsecutiveFailures`, pause, then try with one worker."""
    policy = spec.failure_policy
    for worker in sorted(new, key=lambda w: (w.finished_at or now, w.name)):
        outcome = _outcome(worker)
        if worker.state is WorkerState.SUCCEEDED:
            if outcome is not Outcome.NOTHING_TO_DO:
                memory = replace(memory, consecutive_failures=0, failing=None)
        elif outcome is not Outcome.TERMINATED:
            memory = replace(memory, consecutive_failures=memory.consecutive_failures + 1)
            if memory.consecutive_failures < policy.max_consecutive_failures:
                continue
            failing = memory.failing
            if failing is None or now >= failing.retry_at:
                rounds = failing.rounds + 1 if failing else 1
                memory = replace(memory, failing=_pause(policy.retry_after, rounds, now))
    return memory


def _pause(first: timedelta, rounds: int, now: datetime, *, tasks: int = 0) -> Backoff:
    longest = max(first, LONGEST_BACKOFF)
    length = min(longest, first * 2 ** min(rounds - 1, 20))
    return Backoff(rounds=rounds, retry_at=now + length, tasks=tasks)


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
        "created. Change the pool's spec (for example suspend on and off) to resume."
    )
    halt = Halt(generation=generation, message=told, since=now)
    return Plan(Verdict(Reason.SHUT_DOWN_BY_SERVER, told), replace(memory, halt=halt), counts)


def _ended_services(
    workers: Sequence[Worker], registered: Sequence[str]
) -> tuple[ComputeServiceID, ...]:
    """Registered services whose worker has certainly ended: their Tasks must wait again."""
    still_registered = set(registered)
    return tuple(
        worker.service_id
        for worker in workers
        if worker.finished
        and worker.service_id is not None
        and worker.service_id in still_registered
    )


def _with_pruning(spec: PoolSpec, workers: Sequence[Worker], plan: Plan) -> Plan:
    """Add the finished workers beyond what the spec keeps, oldest first."""
    keep = {
        WorkerState.SUCCEEDED: spec.job.keep_succeeded,
        WorkerState.FAILED: spec.job.keep_failed,
    }
    prune: list[Worker] = []
    for state, kept in keep.items():
        of_state = [worker for worker in workers if worker.state is state]
        of_state.sort(key=lambda w: (w.finished_at or w.created_at, w.name))
        prune += of_state[: max(0, len(of_state) - kept)]
    return replace(plan, prune=tuple(prune))


def _outcome(worker: Worker) -> Outcome | None:
    return worker.message.outcome if worker.message else None


def _tasks(n: int) -> str:
    return f"{n} Task" if n == 1 else f"{n} Tasks"


def _workers(n: int) -> str:
    return f"{n} worker" if n == 1 else f"{n} workers"


def _time(moment: datetime) -> str:
    return moment.strftime("%H:%M:%S UTC")
