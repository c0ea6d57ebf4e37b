"""One compute service as the planner sees it: a small record, whatever platform made it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from computepool_api.ids import ComputeServiceID
from computepool_api.outcomes import Outcome, TerminationMessage

from .revision import Revision


class WorkerState(StrEnum):
    """Where a worker is in its life, in order; each worker is in exactly one.

    `PENDING`: asked for, no machine yet. `STARTING`: has a machine, has claimed nothing yet.
    `RUNNING`: has claimed. `LINGERING`: its process has ended, but something else in its pod goes
    on (a sidecar) and keeps the GPU; it must be told to go. `ENDING`: it goes by itself or has been
    told to (its pod or Job is being deleted), and is not gone yet. `SUCCEEDED` and `FAILED`: its
    pod has ended.
    """

    PENDING = "Pending"
    STARTING = "Starting"
    RUNNING = "Running"
    LINGERING = "Lingering"
    ENDING = "Ending"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"

    @property
    def finished(self) -> bool:
        """Whether the worker's processes have ended and its GPU is free."""
        return self in (WorkerState.SUCCEEDED, WorkerState.FAILED)

    @property
    def may_claim_first(self) -> bool:
        """Whether the worker has claimed nothing yet and still may."""
        return self in (WorkerState.PENDING, WorkerState.STARTING)


@dataclass(frozen=True, slots=True)
class Ending:
    """What is known of how a worker ended, beside its own words.

    `reason` and `exit_code` are its container's (`OOMKilled`, 137), `pod_reason` the pod's as a
    whole (`Evicted`), `job_reason` the Job's (`DeadlineExceeded`). `disrupted`: Kubernetes took the
    pod away for reasons of its own, or somebody had it deleted. `words`: what Kubernetes says.
    """

    reason: str = ""
    exit_code: int | None = None
    pod_reason: str = ""
    job_reason: str = ""
    disrupted: bool = False
    words: str = ""


@dataclass(frozen=True, slots=True)
class Departed:
    """A pod that is gone from the cluster: when, and whether its containers had ended before.

    One that was removed while its containers ran (by force, or with its node) may still be at
    work somewhere until `grace`, its termination grace, is over: the kubelet kills it then.
    `sending`: the last that was heard of it is that it was sending a result.
    """

    service_id: ComputeServiceID
    at: datetime
    ended: bool
    sending: bool = False
    grace: timedelta = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Worker:
    """A Job of the pool together with its pod.

    `name` is the Job's name, `uid` the Job's UID; `service_id` the id under which the pod's
    process registers with the server, known as soon as the pod has a UID. `trouble` is what
    Kubernetes says about why it does not start, in Kubernetes' own words; empty if nothing.
    `suspended`: a queueing system or a person keeps it from running for now, be it before its start
    or in the middle of its work. `released_at`: when it was last free to start, if not on creation.
    `started`: its container has run. `server` is the URL of the compute API that it was created
    for, `revision` what of the spec it was created from; None if that is not known.

    `message`, `ending` and `finished_at` are set when its process has ended. That is before the
    worker has finished where the pod outlives the process: `lingering_end` says how, then,
    `SUCCEEDED` or `FAILED`. `may_work_for`: its pod has been given up by the control plane while
    its container was running for all that its node had said; it may be at work for so long.
    """

    name: str
    uid: str
    state: WorkerState
    created_at: datetime
    pod: str | None = None
    node: str | None = None
    service_id: ComputeServiceID | None = None
    trouble: str = ""
    suspended: bool = False
    released_at: datetime | None = None
    finished_at: datetime | None = None
    started: bool = False
    server: str | None = None
    revision: Revision | None = None
    message: TerminationMessage | None = None
    ending: Ending | None = None
    lingering_end: WorkerState | None = None
    may_work_for: timedelta = timedelta()

    @property
    def finished(self) -> bool:
        """Whether its pod has ended and its GPU is free."""
        return self.state.finished

    @property
    def end(self) -> WorkerState | None:
        """How its process has ended; None as long as it may be at work."""
        return self.state if self.state.finished else self.lingering_end

    @property
    def waiting_since(self) -> datetime:
        """From when on the time counts that it takes to start."""
        return self.released_at or self.created_at

    def is_former(self, present: Revision | None) -> bool:
        """Whether it was made from something else than new workers are, as far as is known."""
        if self.revision is None or present is None:
            return False
        return self.revision.form != present.form

    def claims_otherwise(self, present: Revision | None) -> bool:
        """Whether other Tasks were within its reach than are within that of new workers."""
        if self.revision is None or present is None:
            return False
        return self.revision.reach != present.reach

    @property
    def sending(self) -> bool:
        """Whether the last that was heard of it is that a result was on its way."""
        return was_sending(self.message)


def was_sending(message: TerminationMessage | None) -> bool:
    """Whether a result of who left this message may still be on its way into the server's store."""
    return message is not None and message.outcome in (Outcome.PUSH_AMBIGUOUS, Outcome.PUSHING)


@dataclass(frozen=True, slots=True)
class WorkerCounts:
    """How many workers there are of each kind. Units: workers (one Job, one compute service)."""

    pending: int = 0
    starting: int = 0
    running: int = 0
    lingering: int = 0
    ending: int = 0
    succeeded: int = 0
    failed: int = 0

    @property
    def active(self) -> int:
        """Workers that have not finished: what `maxComputeServices` limits."""
        return self.pending + self.starting + self.running + self.lingering + self.ending


def count(workers: Iterable[Worker]) -> WorkerCounts:
    """Count workers, each once, by its state."""
    states = Counter(worker.state for worker in workers)
    return WorkerCounts(
        pending=states[WorkerState.PENDING],
        starting=states[WorkerState.STARTING],
        running=states[WorkerState.RUNNING],
        lingering=states[WorkerState.LINGERING],
        ending=states[WorkerState.ENDING],
        succeeded=states[WorkerState.SUCCEEDED],
        failed=states[WorkerState.FAILED],
    )
