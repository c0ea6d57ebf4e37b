"""How a pool goes: what to do with its workers when it has been deleted. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from .plan import Verdict
from .pool import PoolSpec
from .reasons import Reason
from .workers import Worker, WorkerState

NAMED = 5
"""How many workers a message names."""


@dataclass(frozen=True, slots=True)
class Removal:
    """One step of the way out: workers to stop now, and whether none is left."""

    verdict: Verdict
    stop: tuple[Worker, ...] = ()
    done: bool = False


def plan_removal(
    spec: PoolSpec, workers: Sequence[Worker], deleted_at: datetime, now: datetime
) -> Removal:
    """Decide the next step of removing a pool.

    `Drain` lets workers that hold a Task finish it, until `drainTimeout`; those that have claimed
    nothing, and pods that outlive their worker, go at once. `Stop` ends them all: a worker that is
    told to go puts its Task back to waiting.
    """
    active = [worker for worker in workers if not worker.finished]
    if not active:
        return Removal(Verdict(Reason.STOPPING, "All workers have ended."), done=True)
    timeout = spec.drain_timeout
    out_of_time = timeout is not None and now >= deleted_at + timeout
    if spec.deletion_policy == "Stop" or out_of_time:
        stop = [worker for worker in active if worker.state is not WorkerState.ENDING]
        message = (
            f"{len(active)} workers are being stopped; their Tasks go back to waiting."
            if stop
            else f"{_waited_for(active)}."
        )
        return Removal(Verdict(Reason.STOPPING, message), stop=tuple(stop))
    idle = [w for w in active if w.state.may_claim_first or w.state is WorkerState.LINGERING]
    until = "" if timeout is None else f", until {deleted_at + timeout:%Y-%m-%d %H:%M:%S} UTC"
    return Removal(
        Verdict(Reason.DRAINING, f"{_waited_for(active)} (spec.deletionPolicy is Drain{until})."),
        stop=tuple(idle),
    )


def _waited_for(active: Sequence[Worker]) -> str:
    running = sum(worker.state is WorkerState.RUNNING for worker in active)
    if running:
        those = (
            "1 running worker finishes its Task"
            if running == 1
            else (f"{running} running workers finish their Tasks")
        )
        return f"{those} first"
    leaving = [worker for worker in active if worker.state is WorkerState.ENDING]
    if not leaving:
        return f"{len(active)} workers that have claimed nothing are being stopped"
    # One of them may be on a node that does not answer, and never go by itself.
    named = ", ".join(_place(worker) for worker in leaving[:NAMED])
    more = f" and {len(leaving) - NAMED} more" if len(leaving) > NAMED else ""
    return f"{len(leaving)} workers have been told to go and have not ended: {named}{more}"


def _place(worker: Worker) -> str:
    if worker.pod is None:
        return f"Job {worker.name}"
    return f"pod {worker.pod} on node {worker.node}" if worker.node else f"pod {worker.pod}"
