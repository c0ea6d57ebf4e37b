"""What there is in the cluster: nodes, Jobs and pods, and how the API shows them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from computepool_api.outcomes import Outcome
from computepool_operator.names import CONTAINER, JOB_NAME_LABEL, JOB_UID_LABEL
from computepool_operator.orders import Orders
from month.work import Attempt


class Process(Protocol):
    """What runs in a pod's container: a worker. `claimed`: it has had a Task."""

    alive: bool
    holding: bool
    claimed: bool
    message: str
    outcome: Outcome | None
    attempts: list[Attempt]
    died_at: float

    def start(self) -> None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


@dataclass(slots=True)
class Node:
    """A machine with GPUs.

    `answers`: the API server hears its kubelet. `isolated`: the compute API does not hear its
    workers. `ready`: the scheduler uses it. `clock_ahead`: seconds by which its clock is wrong.
    """

    name: str
    gpus: int
    used: int = 0
    up: bool = True
    answers: bool = True
    isolated: bool = False
    ready: bool = True
    has_image: bool = False
    unfit: bool = False
    rejects: bool = False
    clock_ahead: float = 0.0


@dataclass(slots=True)
class End:
    """How a container ended. The time is in seconds since the epoch."""

    at: float
    code: int
    reason: str
    message: str = ""


@dataclass(slots=True, eq=False)
class Job:
    """A Job. `target` is what it will end as, `ended` what it has ended as."""

    name: str
    uid: str
    created: float
    orders: Orders
    pod: Pod | None = None
    target: str = ""
    ended: str = ""
    ended_at: float = 0.0
    deleting: bool = False
    gone: bool = False

    def shown(self) -> dict[str, Any]:
        """The object in the API."""
        conditions = []
        if self.target:
            conditions.append(_condition(self.target, "True", self.ended_at))
        if self.ended:
            conditions.append(_condition(self.ended, "True", self.ended_at))
        return {
            "metadata": {
                "name": self.name,
                "uid": self.uid,
                "creationTimestamp": timestamp(self.created),
                **({"deletionTimestamp": timestamp(self.created)} if self.deleting else {}),
            },
            "spec": {},
            "status": {"conditions": conditions},
        }


@dataclass(slots=True, eq=False)
class Pod:
    """A pod. `end` is what its kubelet knows, `phase` what it has been able to say."""

    uid: str
    job: Job
    created: float
    process: Process | None = None
    node: Node | None = None
    bound_at: float = 0.0
    phase: str = "Pending"
    unschedulable: bool = False
    started_at: float | None = None
    shows_started: bool = False
    ready: bool = False
    ready_since: float = 0.0
    end: End | None = None
    reason: str = ""
    deleting: bool = False
    disrupted: bool = False
    gone: bool = False
    labels: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.labels = {JOB_UID_LABEL: self.job.uid, JOB_NAME_LABEL: self.job.name}
        self.ready_since = self.created

    @property
    def finished(self) -> bool:
        return self.phase in ("Succeeded", "Failed")

    def shown(self) -> dict[str, Any]:
        """The object in the API."""
        ready = "True" if self.ready else "False"
        conditions = [_condition("Ready", ready, self._by_kubelet(self.ready_since))]
        if self.unschedulable:
            conditions.append(
                {
                    **_condition("PodScheduled", "False", self.created),
                    "reason": "Unschedulable",
                    "message": "0 nodes are available: Insufficient nvidia.com/gpu.",
                }
            )
        if self.disrupted:
            conditions.append(_condition("DisruptionTarget", "True", self.created))
        return {
            "metadata": {
                "name": f"{self.job.name}-pod",
                "uid": self.uid,
                "labels": self.labels,
                "creationTimestamp": timestamp(self.created),
                **({"deletionTimestamp": timestamp(self.created)} if self.deleting else {}),
            },
            "spec": {"nodeName": self.node.name} if self.node else {},
            "status": {
                "phase": self.phase,
                "reason": self.reason,
                "conditions": conditions,
                "containerStatuses": [{"name": CONTAINER, "state": self._state()}],
            },
        }

    def _state(self) -> dict[str, Any]:
        if self.finished and self.end is not None:
            return {
                "terminated": {
                    "exitCode": self.end.code,
                    "reason": self.end.reason,
                    "message": self.end.message,
                    "finishedAt": timestamp(self._by_kubelet(self.end.at)),
                }
            }
        if self.shows_started and self.started_at is not None:
            return {"running": {"startedAt": timestamp(self._by_kubelet(self.started_at))}}
        return {"waiting": {"reason": "ContainerCreating"}}

    def _by_kubelet(self, at: float) -> float:
        """A time as the clock of the pod's node shows it."""
        return at + (self.node.clock_ahead if self.node else 0.0)


def timestamp(at: float) -> str:
    """A time as Kubernetes writes it, in whole seconds."""
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _condition(kind: str, status: str, since: float) -> dict[str, Any]:
    return {"type": kind, "status": status, "lastTransitionTime": timestamp(since)}
