"""Taking the ends of workers into account, each once. Pure.

What a worker ended with is held against its Task, its node, or the pool, and remembered: a node is
quarantined, a Task's crashes are counted, failures in a row open the circuit, and Tasks that nobody
can claim stop causing workers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from computepool_api.models import Instruction, OkInstruction
from computepool_api.outcomes import Outcome

from .blame import Blame, blame, story
from .memory import Backoff, Crashes, Memory, Quarantine
from .pool import PoolSpec
from .workers import Worker, WorkerState

LONGEST_BACKOFF = timedelta(hours=1)

SUSPECTS_KEPT = 512
"""So many suspect Tasks are remembered, the latest: no more fit into the status."""

CRASHES_FORGOTTEN = timedelta(days=7)
"""A Task that has not taken a worker down for so long is not held suspect any more."""


def judge(
    spec: PoolSpec,
    workers: Sequence[Worker],
    instruction: Instruction | None,
    memory: Memory,
    now: datetime,
) -> Memory:
    """Take new ends into account and let old grudges expire.

    The end of a worker that was made from a former spec is counted, and held against nobody.

    Args:
        spec: the pool's spec.
        workers: all that are kept, ended ones among them.
        instruction: the server's, None if it is not known.
        memory: what the previous cycle left.
        now: the present, in UTC.

    """
    memory = _expire(memory, now)
    names = {worker.name for worker in workers}
    # By name: what has been judged once may look unfinished for a moment, between the end of a pod
    # and that of its Job, and the Job of a pod that was removed for lingering says that it failed.
    kept = {(name, end) for name, end in memory.judged if name in names}
    judged = {name for name, _end in kept}
    gone = Counter(end for name, end in memory.judged if name not in names)
    new = [(w, w.end) for w in workers if w.end is not None and w.name not in judged]
    memory = replace(
        memory,
        judged=frozenset(kept | {(worker.name, end) for worker, end in new}),
        gone_succeeded=memory.gone_succeeded + gone[WorkerState.SUCCEEDED],
        gone_failed=memory.gone_failed + gone[WorkerState.FAILED],
    )
    ended = sorted((w for w, _end in new), key=lambda w: (w.finished_at or now, w.name))
    present = memory.revision
    same = [w for w in ended if not w.is_former(present)]
    memory = _judge_futility(
        spec, instruction, memory, [w for w in same if not w.claims_otherwise(present)], now
    )
    for worker in same:
        memory = _judge_one(spec, worker, memory, now)
    return memory


def count_failure(spec: PoolSpec, memory: Memory, told: str, now: datetime) -> Memory:
    """Count a failure in a row; at `maxConsecutiveFailures` the circuit opens, for ever longer."""
    policy = spec.failure_policy
    memory = replace(
        memory, consecutive_failures=memory.consecutive_failures + 1, last_failure=told
    )
    failing = memory.failing
    if memory.consecutive_failures < policy.max_consecutive_failures:
        return memory
    if failing is not None and now < failing.retry_at:
        return memory
    rounds = failing.rounds + 1 if failing else 1
    return replace(memory, failing=pause(policy.retry_after, rounds, now))


def pause(first: timedelta, rounds: int, now: datetime, *, tasks: int = 0) -> Backoff:
    """A pause that is twice as long as the one before, up to an hour."""
    longest = max(first, LONGEST_BACKOFF)
    length = min(longest, first * 2 ** min(rounds - 1, 20))
    return Backoff(rounds=rounds, retry_at=now + length, tasks=tasks)


def forgive(memory: Memory) -> Memory:
    """Forget everything that keeps the pool from creating workers: a person says so."""
    return replace(
        memory,
        futile=None,
        failing=None,
        consecutive_failures=0,
        last_failure="",
        quarantined=(),
        crashes=(),
    )


def _judge_one(spec: PoolSpec, worker: Worker, memory: Memory, now: datetime) -> Memory:
    before = memory.quarantined
    match blame(worker):
        case Blame.NOBODY:
            if _outcome(worker) is Outcome.NOTHING_TO_DO:
                return memory
            return replace(
                memory,
                consecutive_failures=0,
                last_failure="",
                crashes=tuple(replace(c, in_a_row=False) for c in memory.crashes),
                quarantined=tuple(replace(q, in_a_row=False) for q in memory.quarantined),
                failing=None,
            )
        case Blame.NODE if worker.node is not None:
            memory = _quarantine(spec, worker, worker.node, memory, now)
            # One bad node is its own fault; one node after the other is the pool's.
            known = any(q.node == worker.node and q.in_a_row for q in before)
            others = any(q.node != worker.node and q.in_a_row for q in before)
            if known or not others:
                return memory
            return count_failure(spec, memory, story(worker), now)
        case Blame.TASK:
            task = worker.message.task if worker.message else None
            if task is None:
                return count_failure(spec, memory, story(worker), now)
            # One Task that takes down one worker after the other is no fault of the pool.
            known = any(c.task == task and c.in_a_row for c in memory.crashes)
            memory = _count_crash(worker, task, memory, now)
            return memory if known else count_failure(spec, memory, story(worker), now)
        case Blame.POOL | Blame.NODE:
            return count_failure(spec, memory, story(worker), now)
        case Blame.HOST | Blame.SERVER:
            return memory


def _quarantine(spec: PoolSpec, worker: Worker, node: str, memory: Memory, now: datetime) -> Memory:
    entry = Quarantine(
        node=node,
        reason=story(worker),
        since=now,
        until=now + spec.failure_policy.node_quarantine,
        in_a_row=True,
    )
    others = tuple(other for other in memory.quarantined if other.node != node)
    return replace(memory, quarantined=(*others, entry))


def _count_crash(worker: Worker, task: str, memory: Memory, now: datetime) -> Memory:
    before = next((c for c in memory.crashes if c.task == task), None)
    entry = Crashes(
        task=task,
        number=1 + (before.number if before else 0),
        last_at=now,
        story=story(worker),
        in_a_row=True,
    )
    others = tuple(other for other in memory.crashes if other.task != task)
    crashes = sorted((*others, entry), key=lambda c: c.last_at)[-SUSPECTS_KEPT:]
    return replace(memory, crashes=tuple(crashes))


def _expire(memory: Memory, now: datetime) -> Memory:
    return replace(
        memory,
        quarantined=tuple(q for q in memory.quarantined if now < q.until),
        crashes=tuple(c for c in memory.crashes if now < c.last_at + CRASHES_FORGOTTEN),
    )


def _judge_futility(
    spec: PoolSpec,
    instruction: Instruction | None,
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
    if not isinstance(instruction, OkInstruction):
        return memory
    num_tasks = instruction.num_tasks
    tasks = num_tasks if memory.waiting_tasks is None else min(num_tasks, memory.waiting_tasks)
    if tasks == 0:
        return replace(memory, futile=None)
    futile = memory.futile
    if futile is not None and now < futile.retry_at:
        return replace(memory, futile=replace(futile, tasks=tasks))
    rounds = futile.rounds + 1 if futile else 1
    return replace(memory, futile=pause(spec.cycle_interval, rounds, now, tasks=tasks))


def _outcome(worker: Worker) -> Outcome | None:
    return worker.message.outcome if worker.message else None
