"""Jobs and pods as the API server gives them out, in the states of a worker's life.

Shapes were taken from Kubernetes 1.36, fields that nobody here reads left out.
"""

from copy import deepcopy
from datetime import datetime, timedelta
from typing import Any

from unit.operator.builders import NOON, SECOND

from computepool_api.outcomes import Outcome, TerminationMessage

Body = dict[str, Any]

JOB = "a100-46v8mb2q"
JOB_UID = "0d1942d1-ff05-4e2f-a122-1a8d3e80d3dc"
POD_UID = "82b4471e-9e16-4ec9-847e-9e1a4ece94b8"
POOL_UID = "7dd7aaf9-5071-4384-a107-2924ea1485f5"
LABELS = {
    "app.kubernetes.io/managed-by": "computepool-operator",
    "app.kubernetes.io/name": "computepool-worker",
    "compute.alchemiscale.org/pool": "a100",
    "compute.alchemiscale.org/pool-uid": POOL_UID,
}

# A worker's life, in seconds after noon.
CREATED, SCHEDULED, STARTED, CLAIMED, ENDED = (NOON + n * SECOND for n in (0, 1, 3, 8, 600))


def stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def condition(kind: str, status: bool, at: datetime, **more: str) -> Body:
    return {"type": kind, "status": str(status), "lastTransitionTime": stamp(at), **more}


def job_object(*conditions: Body, deleted: bool = False, **status: Any) -> Body:
    """A Job with the conditions it has come to, and more fields of its status."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": JOB,
            "namespace": "lab",
            "uid": JOB_UID,
            "creationTimestamp": stamp(CREATED),
            "resourceVersion": "245",
            "labels": dict(LABELS),
            **({"deletionTimestamp": stamp(CLAIMED)} if deleted else {}),
        },
        "spec": {"backoffLimit": 0, "suspend": False},
        "status": {
            "startTime": stamp(CREATED),
            "uncountedTerminatedPods": {},
            **({"conditions": list(conditions)} if conditions else {}),
            **status,
        },
    }


def pod_object(
    *conditions: Body,
    phase: str = "Pending",
    node: str | None = "gpu-7",
    state: Body | None = None,
    deleted: bool = False,
    created: datetime = CREATED,
    **status: Any,
) -> Body:
    """A pod of the Job; `state` is that of the worker's container, None before it has one."""
    containers = {} if state is None else {"containerStatuses": [_container("worker", state)]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{JOB}-v7rh4",
            "namespace": "lab",
            "uid": POD_UID,
            "creationTimestamp": stamp(created),
            "resourceVersion": "252",
            "labels": {
                **LABELS,
                "batch.kubernetes.io/controller-uid": JOB_UID,
                "batch.kubernetes.io/job-name": JOB,
            },
            **({"deletionTimestamp": stamp(ENDED)} if deleted else {}),
        },
        "spec": {"restartPolicy": "Never", **({"nodeName": node} if node else {})},
        "status": {
            "phase": phase,
            "qosClass": "BestEffort",
            "conditions": [
                *([condition("PodScheduled", True, SCHEDULED)] if node else []),
                *conditions,
            ],
            **containers,
            **status,
        },
    }


def _container(name: str, state: Body) -> Body:
    return {
        "name": name,
        "image": "registry.example.org/worker:v1",
        "ready": False,
        "restartCount": 0,
        "state": state,
    }


def beside(pod: Body, state: str = "running", *, kind: str = "containers") -> Body:
    """The pod with a proxy beside its worker, which is what `kind` says: `initContainers` end it.

    As long as that runs, so does the pod.
    """
    pod = deepcopy(pod)
    statuses = "containerStatuses" if kind == "containers" else "initContainerStatuses"
    pod["status"].setdefault(statuses, []).append(_container("proxy", {state: {}}))
    pod["spec"]["containers"] = [{"name": "worker"}]
    pod["spec"].setdefault(kind, []).append({"name": "proxy"})
    if state == "running":
        pod["status"]["phase"] = "Running"
    return pod


def not_ready_yet() -> Body:
    """What the kubelet says of Ready when it admits a pod, and until the first claim."""
    return condition("Ready", False, SCHEDULED, reason="ContainersNotReady")


def unscheduled(message: str = "") -> Body:
    reported = condition("PodScheduled", False, CREATED, reason="Unschedulable", message=message)
    return pod_object(*([reported] if message else []), node=None)


def waiting(reason: str, message: str = "") -> Body:
    return pod_object(not_ready_yet(), state={"waiting": {"reason": reason, "message": message}})


def running(*conditions: Body, **more: Any) -> Body:
    state = {"running": {"startedAt": stamp(STARTED)}}
    return pod_object(*(conditions or [not_ready_yet()]), phase="Running", state=state, **more)


def holding_a_task(**more: Any) -> Body:
    return running(condition("Ready", True, CLAIMED), **more)


def ended_pod(
    exit_code: int,
    message: str = "",
    *,
    reason: str = "",
    conditions: tuple[Body, ...] = (),
    **more: Any,
) -> Body:
    """A pod whose container has ended by itself or by force."""
    terminated = {
        "exitCode": exit_code,
        "reason": reason or ("Error" if exit_code else "Completed"),
        "startedAt": stamp(STARTED),
        "finishedAt": stamp(ENDED),
        **({"message": message} if message else {}),
    }
    over = condition("Ready", False, ENDED, reason="PodFailed" if exit_code else "PodCompleted")
    return pod_object(
        over,
        *conditions,
        phase="Failed" if exit_code else "Succeeded",
        state={"terminated": terminated},
        **more,
    )


def says(outcome: Outcome, **more: Any) -> str:
    return TerminationMessage(outcome, **more).to_json()


def later(moment: datetime, seconds: float) -> datetime:
    return moment + timedelta(seconds=seconds)
