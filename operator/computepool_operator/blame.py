"""Whose fault it was that a worker ended as it did. Pure.

What follows from it differs: a Task's fault is held against the Task, a node's against the node,
the pool's own (image, credentials, settings) against creating more workers at all, and the host's
(preemption, a lost node, a drain) against nobody.
"""

from __future__ import annotations

from enum import StrEnum

from computepool_api.outcomes import Outcome

from .workers import Ending, Worker, WorkerState


class Blame(StrEnum):
    """Who is to blame for the end of a worker."""

    NOBODY = "Nobody"
    """It did its work, or there was none."""
    TASK = "Task"
    NODE = "Node"
    POOL = "Pool"
    HOST = "Host"
    """The machine was taken away, or somebody told the worker to go."""
    SERVER = "Server"
    """The compute API was away or did not want it."""


_BY_OUTCOME = {
    Outcome.DONE: Blame.NOBODY,
    Outcome.NOTHING_TO_DO: Blame.NOBODY,
    Outcome.DEVICE_UNFIT: Blame.NODE,
    Outcome.IMAGE_UNFIT: Blame.POOL,
    Outcome.CREDENTIALS_REFUSED: Blame.POOL,
    Outcome.SETTINGS_INVALID: Blame.POOL,
    Outcome.INTERNAL_ERROR: Blame.POOL,
    Outcome.API_UNREACHABLE: Blame.SERVER,
    Outcome.MANAGER_UNKNOWN: Blame.SERVER,
    Outcome.DENIED: Blame.SERVER,
    Outcome.REGISTRATION_LOST: Blame.SERVER,
    Outcome.PUSH_AMBIGUOUS: Blame.SERVER,
    Outcome.TASK_CRASHED: Blame.TASK,
    Outcome.TASK_UNUSABLE: Blame.TASK,
    Outcome.TERMINATED: Blame.HOST,
}

# Why a pod failed as a whole, as the kubelet or the control plane says it.
_REJECTED_BY_KUBELET = ("UnexpectedAdmissionError", "NodeAffinity", "NodeName", "OutOf", "Topology")
_TAKEN_AWAY = ("Evicted", "NodeLost", "NodeShutdown", "Terminated", "Shutdown", "Preempt")
# Of an eviction, in the kubelet's words (pkg/kubelet/eviction/helpers.go): an emptyDir's sizeLimit,
# a container's or the pod's limit of ephemeral storage. Others name what the node was low on.
_ITS_OWN_LIMIT = (
    "exceeds the limit",
    "exceeded its local ephemeral storage limit",
    "exceeds the total limit",
)
# Why a container ended, as a kubelet says that has lost sight of it: the machine went down.
_LOST_SIGHT_OF = ("Unknown", "ContainerStatusUnknown")
# Of a container that could not be started: the image is to blame, wherever it runs.
_IMAGE_IS_WRONG = ("executable file not found", "no such file or directory", "permission denied")


def blame(worker: Worker) -> Blame:
    """Say whose fault the end of a worker was."""
    if worker.end is WorkerState.SUCCEEDED:
        return Blame.NOBODY
    ending = worker.ending or Ending()
    if _went_over_its_own_limit(ending) and worker.message is None:
        return Blame.POOL
    if _went_over_its_own_limit(ending) and (_held_a_task(worker) or _crashed(worker)):
        return Blame.TASK
    if _ran_out_of_time(ending):
        # A later Task of a worker has had only what the others left of its time.
        return Blame.TASK if _held_a_task(worker) and _is_first_task(worker) else Blame.HOST
    if ending.disrupted or ending.pod_reason.startswith(_TAKEN_AWAY):
        return Blame.HOST
    if ending.pod_reason.startswith(_REJECTED_BY_KUBELET):
        return Blame.NODE
    outcome = _outcome(worker, ending)
    if ending.reason in _LOST_SIGHT_OF and (outcome is None or not outcome.is_end):
        return Blame.HOST
    if outcome is Outcome.HOLDING:
        # Killed without a word while it held a Task: for its memory, or by whatever the Task did.
        return Blame.TASK
    if outcome is Outcome.PUSHING:
        # The Task was done; whatever killed the worker then is no fault of it.
        return Blame.HOST
    if outcome is not None:
        return _BY_OUTCOME[outcome]
    if ending.reason in ("StartError", "ContainerCannotRun", "RunContainerError"):
        return Blame.POOL if any(w in ending.words for w in _IMAGE_IS_WRONG) else Blame.NODE
    if ending.reason == "OOMKilled":
        # Before any claim: the limits of the pool are too low even to start.
        return Blame.POOL
    if worker.pod is None:
        # Its pod was deleted before anything could be learnt from it.
        return Blame.HOST
    return Blame.POOL


def _went_over_its_own_limit(ending: Ending) -> bool:
    """Whether the kubelet evicted the pod for what it used itself, and not for the node's need."""
    return ending.pod_reason == "Evicted" and any(w in ending.words for w in _ITS_OWN_LIMIT)


def _ran_out_of_time(ending: Ending) -> bool:
    """Whether the deadline of the Job, or the pod's own, ended the worker."""
    return "DeadlineExceeded" in (ending.job_reason, ending.pod_reason)


def _held_a_task(worker: Worker) -> bool:
    """Whether it was executing a Task when it was killed, or told to go a moment before that."""
    message = worker.message
    return (
        message is not None
        and message.task is not None
        and message.outcome in (Outcome.HOLDING, Outcome.TERMINATED)
    )


def _crashed(worker: Worker) -> bool:
    return worker.message is not None and worker.message.outcome is Outcome.TASK_CRASHED


def _is_first_task(worker: Worker) -> bool:
    message = worker.message
    return message is not None and message.tasks_done + message.tasks_failed == 0


def _outcome(worker: Worker, ending: Ending) -> Outcome | None:
    """How it ended by its own word, or else by its exit code: the last word may not get written."""
    said = worker.message.outcome if worker.message else None
    if said is not None and said.is_end:
        return said
    by_code = None if ending.exit_code is None else Outcome.from_exit_code(ending.exit_code)
    return by_code or said


def story(worker: Worker) -> str:
    """How a worker ended, in a line for people."""
    ending = worker.ending or Ending()
    parts: list[str] = []
    if worker.message is not None and worker.message.outcome not in (
        Outcome.HOLDING,
        Outcome.PUSHING,
    ):
        parts.append(str(worker.message.outcome))
        parts.append(worker.message.detail)
    elif ending.reason or ending.exit_code is not None:
        code = "" if ending.exit_code is None else f"exit code {ending.exit_code}"
        parts.append(" ".join(word for word in (ending.reason, code) if word))
    parts += [ending.pod_reason, ending.job_reason, ending.words]
    text = ": ".join(part for part in parts if part) or "it left no word"
    return f"{worker.pod or worker.name} on {worker.node or 'no node'}: {text}"[:1000]
