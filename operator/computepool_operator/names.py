"""The names and labels by which a pool's Jobs, pods and services are known. Pure."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from computepool_api.ids import ComputeServiceID, to_alchemiscale_name

from .pool import GROUP

MANAGED_BY = "app.kubernetes.io/managed-by"
OPERATOR = "computepool-operator"
POOL_LABEL = f"{GROUP}/pool"
POOL_UID_LABEL = f"{GROUP}/pool-uid"
REVISION_LABEL = f"{GROUP}/worker-revision"
GENERATION_ANNOTATION = f"{GROUP}/pool-generation"
SETTINGS_ANNOTATION = f"{GROUP}/worker-settings"
POISON_ANNOTATION = f"{GROUP}/poison-tasks"
JOB_NAME_LABEL = "batch.kubernetes.io/job-name"
JOB_UID_LABEL = "batch.kubernetes.io/controller-uid"

SELECTOR = f"{MANAGED_BY}={OPERATOR},{POOL_UID_LABEL}"
"""Selects the Jobs and pods of all pools, and nothing else."""

CONTAINER = "worker"

TERMINATION_GRACE = 90
"""Seconds that a worker has after SIGTERM, enough for a push in flight to come to its end."""


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


def service_prefix(pool_name: str) -> str:
    """How the names of a pool's compute services begin."""
    return to_alchemiscale_name(job_name(pool_name, "x"))[:-1]


def service_id(job: str, pod_uid: str) -> ComputeServiceID:
    """The compute service id under which the worker in a pod registers."""
    return ComputeServiceID.new(to_alchemiscale_name(job), uuid.UUID(pod_uid))
