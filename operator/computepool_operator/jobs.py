"""Jobs and pods as plain dictionaries: built from a spec, read into `Worker`s. Pure."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from computepool_api.ids import ComputeManagerID, ComputeServiceID, to_alchemiscale_name
from computepool_api.outcomes import TerminationMessage

from .memory import Crashes
from .merge import strategic_merge
from .orders import NO_ORDERS, Orders
from .pool import GROUP, CredentialsSecretRef, PoolSpec
from .workers import Departed, Ending, Worker, WorkerState, was_sending

MANAGED_BY = "app.kubernetes.io/managed-by"
OPERATOR = "computepool-operator"
POOL_LABEL = f"{GROUP}/pool"
POOL_UID_LABEL = f"{GROUP}/pool-uid"
GENERATION_ANNOTATION = f"{GROUP}/pool-generation"
SETTINGS_ANNOTATION = f"{GROUP}/worker-settings"
POISON_ANNOTATION = f"{GROUP}/poison-tasks"
JOB_NAME_LABEL = "batch.kubernetes.io/job-name"
JOB_UID_LABEL = "batch.kubernetes.io/controller-uid"

SELECTOR = f"{MANAGED_BY}={OPERATOR},{POOL_UID_LABEL}"
"""Selects the Jobs and pods of all pools, and nothing else."""

CONTAINER = "worker"
USER_ID = 65532
SETTINGS_DIR = "/etc/computepool/settings"
SETTINGS_FILE = "settings.json"
POISON_FILE = "poison.json"
CREDENTIALS_DIR = "/etc/computepool/credentials"
CREDENTIALS_SETTINGS_FILE = "settings.yaml"
CA_DIR = "/etc/computepool/ca"
CA_FILE = "ca.crt"
STATE_DIR = "/run/computepool"
SCRATCH_DIR = "/scratch"
SPOOL_DIR = "/var/spool/computepool"

TERMINATION_GRACE = 90
"""Seconds that a worker has after SIGTERM, enough for a push in flight to come to its end."""


POISON_BYTES = 64 * 1024
"""The list of poison Tasks is no longer. The API server takes 256 KiB of annotations in all."""

STORY_LENGTH = 200
"""Characters of each story in that list; the whole of it is in the pool's status."""


@dataclass(frozen=True, slots=True)
class PoolReference:
    """Which pool an object belongs to."""

    namespace: str
    name: str
    uid: str
    generation: int


def pool_selector(pool_uid: str) -> str:
    """Label selector for the Jobs and pods of one pool, for `kubectl` and the scale subresource."""
    return f"{MANAGED_BY}={OPERATOR},{POOL_UID_LABEL}={pool_uid}"


def job_name(pool_name: str, suffix: str) -> str:
    """Name of a new Job. `suffix` is unique and short; admission keeps pool names to 50."""
    return f"{pool_name}-{suffix}"


def build_job(
    pool: PoolReference,
    spec: PoolSpec,
    manager_id: ComputeManagerID,
    name: str,
    orders: Orders = NO_ORDERS,
) -> dict[str, Any]:
    """Build the Job of one worker.

    The Job makes exactly one pod and never a second (`backoffLimit: 0`): a compute service has one
    life, and it is the operator that decides whether another is wanted.

    It belongs to its pool by a label with the pool's UID, and has no owner: garbage collection
    would end what runs when a pool is deleted in the foreground (docs/decisions/0019-no-owner.md).
    """
    labels = {
        MANAGED_BY: OPERATOR,
        "app.kubernetes.io/name": "computepool-worker",
        POOL_LABEL: pool.name,
        POOL_UID_LABEL: pool.uid,
    }
    job_spec: dict[str, Any] = {
        "backoffLimit": 0,
        "completions": 1,
        "parallelism": 1,
        "podReplacementPolicy": "Failed",
        "template": _pod_template(spec, manager_id, name, labels, orders),
    }
    if spec.job.active_deadline is not None:
        job_spec["activeDeadlineSeconds"] = _seconds(spec.job.active_deadline)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": pool.namespace,
            "labels": labels,
            "annotations": {GENERATION_ANNOTATION: str(pool.generation)},
        },
        "spec": job_spec,
    }


def worker_settings(
    spec: PoolSpec, manager_id: ComputeManagerID, name: str, orders: Orders = NO_ORDERS
) -> dict[str, Any]:
    """The settings file of a worker, under alchemiscale's own names. Holds no secret."""
    worker = spec.worker
    settings: dict[str, Any] = {
        "api_url": spec.compute_api.url,
        "name": to_alchemiscale_name(name),
        "compute_manager_id": str(manager_id),
        "scopes": list(spec.scopes),
        "scopes_exclude": list(spec.scopes_exclude),
        "protocols": list(spec.protocols),
        "claim_limit": worker.claim_limit,
        "max_tasks": worker.max_tasks,
        "max_time": None if worker.max_time is None else _seconds(worker.max_time),
        "heartbeat_interval": _seconds(worker.heartbeat_interval),
        "n_retries": worker.n_retries,
        "shared_basedir": f"{SCRATCH_DIR}/shared",
        "scratch_basedir": f"{SCRATCH_DIR}/scratch",
        "credentials_dir": CREDENTIALS_DIR,
        "state_dir": STATE_DIR,
        "openmm_platform": worker.openmm_platform,
        "device_min_memory": worker.device_min_memory,
        "scratch_min_free": worker.scratch_min_free,
        "client_verify": True,
        "termination_grace": _termination_grace(spec),
    }
    if worker.spool is not None:
        settings["spool_dir"] = SPOOL_DIR
    if orders.poison:
        settings["poison_file"] = f"{SETTINGS_DIR}/{POISON_FILE}"
    if spec.compute_api.ca_bundle_ref.name:
        settings["client_verify"] = f"{CA_DIR}/{CA_FILE}"
    return settings


def _termination_grace(spec: PoolSpec) -> int:
    given = (spec.worker.pod_template.get("spec") or {}).get("terminationGracePeriodSeconds")
    return TERMINATION_GRACE if given is None else int(given)


def _pod_template(
    spec: PoolSpec,
    manager_id: ComputeManagerID,
    name: str,
    labels: Mapping[str, str],
    orders: Orders,
) -> dict[str, Any]:
    settings = json.dumps(worker_settings(spec, manager_id, name, orders), indent=1)
    template = {
        "metadata": {
            # Istio's proxy would outlive the worker, and keep the GPU until somebody ends it.
            "labels": {"sidecar.istio.io/inject": "false", **labels},
            "annotations": {
                SETTINGS_ANNOTATION: settings,
                POISON_ANNOTATION: _poison_list(orders.poison),
                # A node emptied to save money would cost the hours its Task has run.
                "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
                "karpenter.sh/do-not-disrupt": "true",
            },
        },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": TERMINATION_GRACE,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER_ID,
                "runAsGroup": USER_ID,
                "fsGroup": USER_ID,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [_container(spec)],
            "volumes": _volumes(spec),
        },
    }
    if spec.worker.gpu.count:
        template["spec"]["tolerations"] = [  # type: ignore[index]
            {"key": spec.worker.gpu.resource, "operator": "Exists", "effect": "NoSchedule"}
        ]
    merged = strategic_merge(template, spec.worker.pod_template)
    merged["metadata"]["labels"] |= labels
    if orders.avoid_nodes:
        merged["spec"] = _off_nodes(merged["spec"], orders.avoid_nodes)
    return merged


def _off_nodes(pod_spec: Mapping[str, Any], nodes: Sequence[str]) -> dict[str, Any]:
    """The pod spec with nodes ruled out, beside whatever affinity it has.

    Terms of a node selector are alternatives, so each of them must rule the nodes out.
    """
    off = [{"key": "metadata.name", "operator": "NotIn", "values": [node]} for node in nodes]
    affinity = pod_spec.get("affinity") or {}
    of_node = affinity.get("nodeAffinity") or {}
    required = of_node.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = [
        {**term, "matchFields": [*(term.get("matchFields") or ()), *off]}
        for term in required.get("nodeSelectorTerms") or [{}]
    ]
    required = {**required, "nodeSelectorTerms": terms}
    of_node = {**of_node, "requiredDuringSchedulingIgnoredDuringExecution": required}
    return {**pod_spec, "affinity": {**affinity, "nodeAffinity": of_node}}


def _poison_list(poison: Sequence[Crashes]) -> str:
    """The Tasks not to be run, the latest first, as many as fit.

    One that is left out and kills another worker is the latest then.
    """
    entries: list[str] = []
    left = POISON_BYTES
    for crashes in sorted(poison, key=lambda c: (c.last_at, c.task), reverse=True):
        entry = json.dumps({"task": crashes.task, "story": _obituary(crashes)})
        left -= len(entry) + len(", ")
        if left < 0:
            break
        entries.append(entry)
    return f"[{', '.join(entries)}]"


def _obituary(crashes: Crashes) -> str:
    story = crashes.story.encode("ascii", "backslashreplace").decode()
    return (
        f"{crashes.number} workers ended while they executed this Task, so it is not tried again. "
        f"The last one: {story[:STORY_LENGTH]}"
    )


def _container(spec: PoolSpec) -> dict[str, Any]:
    worker = spec.worker
    mounts = [
        {"name": "settings", "mountPath": SETTINGS_DIR, "readOnly": True},
        {"name": "credentials", "mountPath": CREDENTIALS_DIR, "readOnly": True},
        {"name": "state", "mountPath": STATE_DIR},
        {"name": "scratch", "mountPath": SCRATCH_DIR},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - inside the container
    ]
    if spec.compute_api.ca_bundle_ref.name:
        mounts.append({"name": "ca", "mountPath": CA_DIR, "readOnly": True})
    if worker.spool is not None:
        mounts.append({"name": "spool", "mountPath": SPOOL_DIR})
    return {
        "name": CONTAINER,
        "image": worker.image,
        "command": ["computepool-worker"],
        "args": ["compute", "synchronous", "-c", f"{SETTINGS_DIR}/{SETTINGS_FILE}"],
        "env": [
            {
                "name": "COMPUTEPOOL_POD_UID",
                "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}},
            },
            {"name": "HOME", "value": "/tmp"},  # noqa: S108
        ],
        "resources": _resources(worker.resources, worker.gpu.resource, worker.gpu.count),
        # Ready exactly while the worker holds a Task: it makes and removes the file.
        "readinessProbe": {
            "exec": {"command": ["test", "-e", f"{STATE_DIR}/holding"]},
            "periodSeconds": 1,
            "failureThreshold": 1,
            "successThreshold": 1,
            "timeoutSeconds": 5,
        },
        # The worker's first process touches the file every few seconds. One that has hung for
        # minutes sends no heartbeats either, and only holds the GPU.
        "livenessProbe": {
            "exec": {"command": ["sh", "-c", _ALIVE]},
            "initialDelaySeconds": 60,
            "periodSeconds": 60,
            "failureThreshold": 3,
            "timeoutSeconds": 10,
        },
        # A pod may be deleted while its container starts, which is when Drain and a shrinking queue
        # delete most: the signal that follows would be lost on a process that is not listening yet.
        "lifecycle": {"preStop": {"exec": {"command": ["touch", f"{STATE_DIR}/stop"]}}},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    }


_ALIVE = f"test $(( $(date +%s) - $(stat -c %Y {STATE_DIR}/alive) )) -lt 300"


def _resources(given: Mapping[str, Any], gpu: str, gpu_count: int) -> dict[str, Any]:
    if not gpu_count:
        return dict(given)
    limits = {**(given.get("limits") or {}), gpu: str(gpu_count)}
    return {**given, "limits": limits}


def _volumes(spec: PoolSpec) -> list[dict[str, Any]]:
    volumes: list[dict[str, Any]] = [
        {
            "name": "settings",
            "downwardAPI": {
                "items": [
                    {
                        "path": path,
                        "fieldRef": {"fieldPath": f"metadata.annotations['{annotation}']"},
                    }
                    for path, annotation in (
                        (SETTINGS_FILE, SETTINGS_ANNOTATION),
                        (POISON_FILE, POISON_ANNOTATION),
                    )
                ]
            },
        },
        {
            "name": "credentials",
            "secret": {
                "secretName": spec.compute_api.credentials_secret_ref.name,
                "defaultMode": 0o440,
                "items": _credential_items(spec.compute_api.credentials_secret_ref),
            },
        },
        {"name": "state", "emptyDir": {}},
        {"name": "scratch", "emptyDir": {}},
        {"name": "tmp", "emptyDir": {}},
    ]
    bundle = spec.compute_api.ca_bundle_ref
    if bundle.name:
        items = [{"key": bundle.key, "path": CA_FILE}]
        volumes.append({"name": "ca", "configMap": {"name": bundle.name, "items": items}})
    if spec.worker.spool is not None:
        volumes.append({**spec.worker.spool, "name": "spool"})
    return volumes


def _credential_items(reference: CredentialsSecretRef) -> list[dict[str, str]]:
    pair = reference.pair()
    if pair is None:
        return [{"key": reference.settings_key or "", "path": CREDENTIALS_SETTINGS_FILE}]
    return [
        {"key": key, "path": path} for key, path in zip(pair, ("identifier", "key"), strict=True)
    ]


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
    name, uid = metadata["name"], metadata["uid"]
    state, finished_at = _state(job, pod)
    if pod is None:
        return Worker(
            name=name,
            uid=uid,
            state=state,
            created_at=_created(job),
            suspended=_is_suspended(job),
            released_at=_released_at(job),
            server=_server(job),
            finished_at=finished_at,
            trouble="" if state.finished else _job_trouble(job),
            ending=_ending(job, {}, {}) if state.finished else None,
        )
    terminated = _terminated(pod)
    pod_uid = pod["metadata"].get("uid")
    end = None if _is_preempted(job, pod) else _end(pod)
    return Worker(
        name=name,
        uid=uid,
        state=state,
        created_at=_created(job),
        suspended=_is_suspended(job),
        released_at=_released_at(job),
        pod=pod["metadata"]["name"],
        node=pod.get("spec", {}).get("nodeName"),
        service_id=None if pod_uid is None else service_id(name, pod_uid),
        trouble="" if end else _pod_trouble(pod),
        finished_at=finished_at,
        started=_has_started(pod),
        server=_server(job),
        message=_message(pod),
        ending=_ending(job, pod, terminated) if end else None,
        lingering_end=None if state.finished else end,
    )


def _server(job: Mapping[str, Any]) -> str | None:
    """URL of the compute API in the worker's settings; None for a Job that has none readable."""
    template = job.get("spec", {}).get("template", {}).get("metadata", {})
    try:
        settings = json.loads((template.get("annotations") or {})[SETTINGS_ANNOTATION])
        return str(settings["api_url"])
    except (KeyError, TypeError, ValueError):
        return None


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
        ended=has_ended(pod) or not _has_started(pod),
        sending=was_sending(_message(pod)),
        grace=_grace(pod),
    )


def _grace(pod: Mapping[str, Any]) -> timedelta:
    seconds = pod.get("spec", {}).get("terminationGracePeriodSeconds")
    return timedelta(seconds=TERMINATION_GRACE if seconds is None else seconds)


def service_prefix(pool_name: str) -> str:
    """How the names of a pool's compute services begin."""
    return to_alchemiscale_name(job_name(pool_name, "x"))[:-1]


def service_id(job: str, pod_uid: str) -> ComputeServiceID:
    """The compute service id under which the worker in a pod registers."""
    return ComputeServiceID.new(to_alchemiscale_name(job), uuid.UUID(pod_uid))


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
    if job["metadata"].get("deletionTimestamp"):
        return WorkerState.ENDING, None
    return WorkerState.PENDING, None


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


def _seconds(length: timedelta) -> int:
    return max(1, round(length.total_seconds()))
