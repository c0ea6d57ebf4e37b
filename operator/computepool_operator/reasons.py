"""The closed list of reasons a pool gives, for conditions and for the REASON column.

Each value is part of the API (people alert on it): add, never rename. `docs/runbook.md` says what
each one means and what to do; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Reason(StrEnum):
    """Why a pool is as it is, in one CamelCase word (Kubernetes API conventions, Conditions)."""

    # The pool does what it should.
    WORKERS_CREATED = "WorkersCreated"
    WORKERS_STARTING = "WorkersStarting"
    WORKERS_RUNNING = "WorkersRunning"
    NO_TASKS = "NoTasks"
    SATURATED = "Saturated"
    # The pool deliberately creates nothing.
    SUSPENDED = "Suspended"
    SKIPPED_BY_SERVER = "SkippedByServer"
    NOTHING_CLAIMABLE = "NothingClaimable"
    WORKERS_FAILING = "WorkersFailing"
    SHUT_DOWN_BY_SERVER = "ShutDownByServer"
    DRAINING = "Draining"
    STOPPING = "Stopping"
    WORKERS_UNSCHEDULABLE = "WorkersUnschedulable"
    WORKERS_NOT_STARTING = "WorkersNotStarting"
    # The pool can't go on and says what it waits for.
    PENDING = "Pending"
    SPEC_INVALID = "SpecInvalid"
    SECRET_MISSING = "SecretMissing"  # noqa: S105 - a reason, not a secret
    SECRET_INCOMPLETE = "SecretIncomplete"  # noqa: S105
    CA_BUNDLE_INVALID = "CABundleInvalid"
    CREDENTIALS_REFUSED = "CredentialsRefused"
    COMPUTE_API_UNAVAILABLE = "ComputeAPIUnavailable"
    COMPUTE_API_UNEXPECTED = "ComputeAPIUnexpected"
    REQUEST_REFUSED = "RequestRefused"
    MANAGER_NAME_TAKEN = "ManagerNameTaken"
    MANAGER_IN_ERROR = "ManagerInError"
    JOBS_REFUSED = "JobsRefused"
    KUBERNETES_UNAVAILABLE = "KubernetesUnavailable"
    INTERNAL_ERROR = "InternalError"
    # Of the conditions beside Ready.
    REGISTERED = "Registered"
    NOT_REGISTERED = "NotRegistered"
    ROOM_LEFT = "RoomLeft"
    UP_TO_DATE = "UpToDate"
    NOT_STALLED = "NotStalled"


class Health(StrEnum):
    """What a reason means for the conditions Ready and Stalled."""

    GOOD = "Good"
    """Ready is True."""
    WAITING = "Waiting"
    """Ready is False and it passes by itself."""
    UNKNOWN = "Unknown"
    """Ready is Unknown: the server or the cluster can't be asked. It is being tried again."""
    STALLED = "Stalled"
    """Ready is False and a person is needed."""


HEALTH: Mapping[Reason, Health] = {
    Reason.WORKERS_CREATED: Health.GOOD,
    Reason.WORKERS_STARTING: Health.GOOD,
    Reason.WORKERS_RUNNING: Health.GOOD,
    Reason.NO_TASKS: Health.GOOD,
    Reason.SATURATED: Health.GOOD,
    Reason.SUSPENDED: Health.GOOD,
    Reason.NOTHING_CLAIMABLE: Health.GOOD,
    Reason.WORKERS_UNSCHEDULABLE: Health.GOOD,
    Reason.WORKERS_NOT_STARTING: Health.WAITING,
    Reason.SKIPPED_BY_SERVER: Health.WAITING,
    Reason.WORKERS_FAILING: Health.STALLED,
    Reason.SHUT_DOWN_BY_SERVER: Health.STALLED,
    Reason.DRAINING: Health.WAITING,
    Reason.STOPPING: Health.WAITING,
    Reason.PENDING: Health.WAITING,
    Reason.NOT_REGISTERED: Health.WAITING,
    Reason.SPEC_INVALID: Health.STALLED,
    Reason.SECRET_MISSING: Health.STALLED,
    Reason.SECRET_INCOMPLETE: Health.STALLED,
    Reason.CA_BUNDLE_INVALID: Health.STALLED,
    Reason.CREDENTIALS_REFUSED: Health.STALLED,
    Reason.REQUEST_REFUSED: Health.STALLED,
    Reason.MANAGER_NAME_TAKEN: Health.STALLED,
    Reason.MANAGER_IN_ERROR: Health.STALLED,
    Reason.JOBS_REFUSED: Health.STALLED,
    Reason.COMPUTE_API_UNAVAILABLE: Health.UNKNOWN,
    Reason.COMPUTE_API_UNEXPECTED: Health.UNKNOWN,
    Reason.KUBERNETES_UNAVAILABLE: Health.UNKNOWN,
    Reason.INTERNAL_ERROR: Health.STALLED,
}
"""Every reason that the condition Ready can give."""
