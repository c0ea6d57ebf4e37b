"""Jobs and pods, as Kubernetes has them, read into `Worker`s. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from computepool_api.ids import ComputeServiceID
from computepool_api.outcomes import TerminationMessage

from .names import (
    CONTAINER,
    JOB_NAME_LABEL,
    JOB_UID_LABEL,
    REVISION_LABEL,
    SETTINGS_ANNOTATION,
    TERMINATION_GRACE,
    service_id,
)
from .revision import Revision
from .workers import Departed, Ending, Worker, WorkerState, was_sending


def pair(
    jobs: Iterable[Mapping[str, Any]], pods: Iterable[Mapping[str, Any]]
) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any] | None]]:
    """Put Jobs and their pods together; of several pods of a Job, the newest."""
    newest: dict[str, Mapping[str, Any]] = {}
    for pod in pods:
        owner = pod["metadata"].get("labels", {}).get(JOB_UID_LABEL, "")
        other = newest.get(owner)
        if other is None or _created(other) <= _created(pod):
            newest[owner] = pod
    for job in jobs:
        yield job, newest.get(job["metadata"]["uid"])


def read_workers(
    jobs: Iterable[Mapping[str, Any]], pods: Iterable[Mapping[str, Any]]
) -> tuple[Worker, ...]:
    """Read Jobs and their pods into workers, one for each Job, in order of name."""
    workers = (read_worker(job, pod) for job, pod in pair(jobs, pods))
    return tuple(sorted(workers, key=lambda worker: worker.name))


def read_worker(job: Mapping[str, Any], pod: Mapping[str, Any] | None) -> Worker:
    """Read one Job and its pod.

    A worker has finished when its pod has reached a terminal phase: the GPU is free then, and the
    Job controller says the same about the Job a second or two later. Its process has ended with its
    own container, which is for good (`restartPolicy: Never`), whatever else the pod runs.
    """
    metadata = job["metadata"]
    state, finished_at = _state(job, pod)
    worker = Worker(
        name=metadata["name"],
        uid=metadata["uid"],
        state=state,
        created_at=_created(job),
        suspended=_is_suspended(job),
        released_at=_released_at(job),
        server=_server(job),
        revision=_revision(job),
        finished_at=finished_at,
    )
    if pod is None:
        return replace(
            worker,
            trouble="" if state.finished else _job_trouble(job),
            ending=_ending(job, {}, {}) if state.finished else None,
        )
    pod_uid = pod["metadata"].get("uid")
    end = None if _is_preempted(job, pod) else _end(pod)
    return replace(
        worker,
        pod=pod["metadata"]["name"],
        node=pod.get("spec", {}).get("nodeName"),
        service_id=None if pod_uid is None else service_id(worker.name, pod_uid),
        trouble="" if end else _pod_trouble(pod),
        started=_has_started(pod),
        message=_message(pod),
        ending=_ending(job, pod, _terminated(pod)) if end else None,
        lingering_end=None if state.finished else end,
        may_work_for=_grace(pod) if _is_given_up(pod) else timedelta(),
    )


def _server(job: Mapping[str, Any]) -> str | None:
    """URL of the compute API in the worker's settings; None for a Job that has none readable."""
    template = job.get("spec", {}).get("template", {}).get("metadata", {})
    try:
        settings = json.loads((template.get("annotations") or {})[SETTINGS_ANNOTATION])
        return str(settings["api_url"])
    except (KeyError, TypeError, ValueError):
        return None


def _revision(job: Mapping[str, Any]) -> Revision | None:
    return Revision.parse((job["metadata"].get("labels") or {}).get(REVISION_LABEL, ""))


def _ending(
    job: Mapping[str, Any], pod: Mapping[str, Any], terminated: Mapping[str, Any]
) -> Ending:
    status = pod.get("status", {})
    text = terminated.get("message") or ""
    words = "" if TerminationMessage.parse(text) else text
    return Ending(
        reason=terminated.get("reason") or "",
        exit_code=terminated.get("exitCode"),
        pod_reason=status.get("reason") or "",
        job_reason=_job_reason(job),
        disrupted=_condition(pod, "DisruptionTarget").get("status") == "True"
        or _told_to_go(pod, terminated),
        # Why the kubelet took the pod away says more than what was written before.
        words=((status.get("reason") and status.get("message")) or words or "")[:500],
    )


def _job_reason(job: Mapping[str, Any]) -> str:
    """Why the Job has failed, or will as soon as its pod has ended (Kubernetes 1.31 and later)."""
    for kind in ("Failed", "FailureTarget"):
        condition = _condition(job, kind)
        if condition.get("status") == "True":
            return str(condition.get("reason", ""))
    return ""


def _told_to_go(pod: Mapping[str, Any], terminated: Mapping[str, Any]) -> bool:
    """Whether the pod was being deleted before its container ended, and not only afterwards.

    Its deletionTimestamp is the time of the deletion and the grace together.
    """
    metadata = pod.get("metadata", {})
    until = parse_time(metadata.get("deletionTimestamp"))
    if until is None:
        return False
    grace = timedelta(seconds=metadata.get("deletionGracePeriodSeconds") or 0)
    finished = parse_time(terminated.get("finishedAt"))
    return finished is None or finished >= until - grace


def _message(pod: Mapping[str, Any]) -> TerminationMessage | None:
    text = _terminated(pod).get("message") or ""
    return TerminationMessage.parse(text) if text else None


def _has_started(pod: Mapping[str, Any]) -> bool:
    status = _container_status(pod)
    return bool(status.get("state", {}).keys() & {"running", "terminated"})


def service_of(pod: Mapping[str, Any]) -> ComputeServiceID | None:
    """The service that runs in a pod; None for a pod of no Job, or of none that we have made."""
    job = (pod["metadata"].get("labels") or {}).get(JOB_NAME_LABEL, "")
    try:
        return service_id(job, pod["metadata"]["uid"])
    except ValueError:
        return None


def departed(pod: Mapping[str, Any], at: datetime | None = None) -> Departed | None:
    """What is left to know of a pod that is gone; None for one that never had a name as a service.

    It went `at` that time; None: it is listed still, and has finished. Its last state tells whether
    its containers had ended. One that never started has none.
    """
    service = service_of(pod)
    if service is None:
        return None
    return Departed(
        service_id=service,
        at=at or _pod_finished_at(pod),
        ended=(has_ended(pod) and not _is_given_up(pod)) or not _has_started(pod),
        sending=was_sending(_message(pod)),
        grace=_grace(pod),
    )


def _grace(pod: Mapping[str, Any]) -> timedelta:
    seconds = pod.get("spec", {}).get("terminationGracePeriodSeconds")
    return timedelta(seconds=TERMINATION_GRACE if seconds is None else seconds)


def _state(
    job: Mapping[str, Any], pod: Mapping[str, Any] | None
) -> tuple[WorkerState, datetime | None]:
    if pod is None:
        return _state_without_pod(job)
    end = None if _is_preempted(job, pod) else _end(pod)
    finished_at = None if end is None else _pod_finished_at(pod)
    if end is not None and has_finished(pod):
        return end, finished_at
    # Whatever the Job says by now, a pod that has not ended holds its GPU and may be at work.
    if job["metadata"].get("deletionTimestamp") or pod["metadata"].get("deletionTimestamp"):
        return WorkerState.ENDING, finished_at
    if end is not None:
        return _state_after_end(pod), finished_at
    if not pod.get("spec", {}).get("nodeName"):
        return WorkerState.PENDING, None
    return (WorkerState.RUNNING if _has_claimed(pod) else WorkerState.STARTING), None


def _state_after_end(pod: Mapping[str, Any]) -> WorkerState:
    """The state of a pod that goes on although its worker's container has ended.

    Sidecars among the init containers are ended by the kubelet once all containers have ended; any
    other container ends when it likes, which may be never.
    """
    statuses = {s["name"]: s for s in pod["status"].get("containerStatuses") or ()}
    names = {c["name"] for c in pod.get("spec", {}).get("containers") or ()} | statuses.keys()
    over = all("terminated" in statuses.get(name, {}).get("state", {}) for name in names)
    return WorkerState.ENDING if over else WorkerState.LINGERING


def has_ended(pod: Mapping[str, Any]) -> bool:
    """Whether the worker in a pod has ended, for good; the pod may go on all the same."""
    return _end(pod) is not None


def has_finished(pod: Mapping[str, Any]) -> bool:
    """Whether a pod has ended, with all that ran in it: its GPU is free."""
    return pod.get("status", {}).get("phase") in _TERMINAL


def _is_given_up(pod: Mapping[str, Any]) -> bool:
    """Whether a pod is said to have ended although its node has not said so.

    A kubelet says so once all containers have ended; the control plane, before it removes the pods
    of a node that is gone or out of service, says it without knowing.
    """
    return has_finished(pod) and "running" in _container_status(pod).get("state", {})


def _end(pod: Mapping[str, Any]) -> WorkerState | None:
    """How the worker's process has ended: by its own exit code, if it is known, not a sidecar's."""
    code = _terminated(pod).get("exitCode")
    if code is not None:
        return WorkerState.FAILED if code else WorkerState.SUCCEEDED
    return WorkerState(pod["status"]["phase"]) if has_finished(pod) else None


_TERMINAL = ("Succeeded", "Failed")


def _state_without_pod(job: Mapping[str, Any]) -> tuple[WorkerState, datetime | None]:
    """The state of a worker whose pod is not there: not yet, or not any more.

    The Job controller says first what a Job will end as, and lets go of its pod before it says
    that the Job has ended (Kubernetes 1.31 and later).
    """
    for kind, state in _END_CONDITIONS:
        condition = _condition(job, kind)
        if condition.get("status") == "True":
            return state, parse_time(condition.get("lastTransitionTime")) or _created(job)
    if job["metadata"].get("deletionTimestamp") or _has_had_its_pod(job):
        return WorkerState.ENDING, None
    return WorkerState.PENDING, None


def _has_had_its_pod(job: Mapping[str, Any]) -> bool:
    """Whether the Job's one pod has ended, as its counts tell before its conditions do."""
    if _is_suspended(job):
        return False
    status = job.get("status", {})
    uncounted = status.get("uncountedTerminatedPods") or {}
    counts = (status.get("succeeded"), status.get("failed"), *uncounted.values())
    return any(counts)


_END_CONDITIONS = (
    ("Complete", WorkerState.SUCCEEDED),
    ("Failed", WorkerState.FAILED),
    ("SuccessCriteriaMet", WorkerState.SUCCEEDED),
    ("FailureTarget", WorkerState.FAILED),
)


def _has_claimed(pod: Mapping[str, Any]) -> bool:
    """Whether the worker holds a Task or has held one.

    The worker's container is ready while it holds a Task, and with it the pod, unless a sidecar
    withholds that. Once Ready has gone back to False, the time of that transition is later than the
    start of the container; before the first claim it is not, since the kubelet keeps the time of
    the pod's admission.
    """
    if _container_status(pod).get("ready"):
        return True
    ready = _condition(pod, "Ready")
    if ready.get("status") == "True":
        return True
    since = parse_time(ready.get("lastTransitionTime"))
    running = _container_status(pod).get("state", {}).get("running") or {}
    started = parse_time(running.get("startedAt"))
    return since is not None and started is not None and since > started


def _pod_trouble(pod: Mapping[str, Any]) -> str:
    scheduled = _condition(pod, "PodScheduled")
    # The words of a scheduler that another has forestalled stay on a pod that has its node.
    if scheduled.get("status") == "False" and not pod["spec"].get("nodeName"):
        return f"{scheduled.get('reason', '')}: {scheduled.get('message', '')}"
    if _has_started(pod):
        return ""
    # What holds up an init container holds up the worker's, which says PodInitializing then.
    status = pod.get("status", {})
    for container in (*(status.get("initContainerStatuses") or ()), _container_status(pod)):
        waiting = container.get("state", {}).get("waiting") or {}
        if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            return f"{waiting['reason']}: {waiting.get('message', '')}"
    return ""


def _is_suspended(job: Mapping[str, Any]) -> bool:
    """Whether a Job may not run now. Its condition goes last when it is resumed."""
    suspended = _condition(job, "Suspended").get("status") == "True"
    return bool(job.get("spec", {}).get("suspend")) or suspended


def _is_preempted(job: Mapping[str, Any], pod: Mapping[str, Any]) -> bool:
    """Whether a pod's end is not that of its worker: its Job lets go of it, and makes another."""
    return _is_suspended(job) and "deletionTimestamp" in pod["metadata"]


def _released_at(job: Mapping[str, Any]) -> datetime | None:
    """When the Job was last free to run: startTime is reset whenever a Job is resumed."""
    return parse_time(job.get("status", {}).get("startTime"))


def _job_trouble(job: Mapping[str, Any]) -> str:
    if _is_suspended(job):
        return "Suspended: the Job waits for a queueing system to release it"
    return ""


def _container_status(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    for status in pod.get("status", {}).get("containerStatuses") or ():
        if status.get("name") == CONTAINER:
            found: Mapping[str, Any] = status
            return found
    return {}


def _terminated(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = _container_status(pod).get("state", {}).get("terminated") or {}
    return found


def _pod_finished_at(pod: Mapping[str, Any]) -> datetime:
    moments = (
        parse_time(_terminated(pod).get("finishedAt")),
        parse_time(_condition(pod, "Ready").get("lastTransitionTime")),
        _created(pod),
    )
    return next(moment for moment in moments if moment is not None)


def _condition(thing: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    for condition in thing.get("status", {}).get("conditions") or ():
        if condition.get("type") == kind:
            found: Mapping[str, Any] = condition
            return found
    return {}


def _created(thing: Mapping[str, Any]) -> datetime:
    created = parse_time(thing["metadata"].get("creationTimestamp"))
    if created is None:
        raise ValueError(f"{thing['metadata'].get('name')} has no metadata.creationTimestamp")
    return created


def parse_time(text: str | None) -> datetime | None:
    """Parse a Kubernetes timestamp (RFC 3339), None for none."""
    return None if not text else datetime.fromisoformat(text)
