"""The Job of a worker, built from a pool's spec as plain dictionaries. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from computepool_api.ids import ComputeManagerID, to_alchemiscale_name

from .memory import Crashes
from .merge import strategic_merge
from .names import (
    CONTAINER,
    GENERATION_ANNOTATION,
    MANAGED_BY,
    OPERATOR,
    POISON_ANNOTATION,
    POOL_LABEL,
    POOL_UID_LABEL,
    REVISION_LABEL,
    SETTINGS_ANNOTATION,
    TERMINATION_GRACE,
    PoolReference,
)
from .orders import NO_ORDERS, Orders
from .pool import CredentialsSecretRef, PoolSpec
from .revision import revision_of

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

POISON_BYTES = 64 * 1024
"""The list of poison Tasks is no longer. The API server takes 256 KiB of annotations in all."""

STORY_LENGTH = 200
"""Characters of each story in that list; the whole of it is in the pool's status."""


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
        REVISION_LABEL: str(revision_of(spec)),
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
            "labels": {**spec.job.labels, **labels},
            "annotations": {**spec.job.annotations, GENERATION_ANNOTATION: str(pool.generation)},
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


def _seconds(length: timedelta) -> int:
    return max(1, round(length.total_seconds()))
