"""What the admin port shows, as plain frozen values. Times are in seconds since the epoch."""

from dataclasses import dataclass, field
from typing import Any, Self


class _View:
    @classmethod
    def of(cls, values: dict[str, Any]) -> Self:
        """Build it from the admin port's JSON."""
        return cls(**values)


@dataclass(frozen=True, slots=True)
class ResultView(_View):
    """A stored result entry; `document` is the decoded keyed chain, where it was asked for."""

    key: str
    ok: bool
    creator: str | None
    pushed: float
    document_key: str = ""
    tracebacks: list[str] = field(default_factory=list)
    document: list[tuple[str, dict[str, Any]]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class TaskView(_View):
    """A Task; `history` is a list of {time, event, service}."""

    key: str
    scope: str
    status: str
    priority: int
    extends: str | None
    transformation_key: str
    claimed_by: str | None
    hubs: list[str]
    results: list[ResultView]
    history: list[dict[str, Any]]

    @classmethod
    def of(cls, values: dict[str, Any]) -> Self:
        """Build it from the admin port's JSON."""
        return cls(**{**values, "results": [ResultView.of(r) for r in values["results"]]})


@dataclass(frozen=True, slots=True)
class HubView(_View):
    """A hub; `actions` maps the keys of its Tasks to their weights."""

    key: str
    network: str
    scope: str
    weight: float
    actions: dict[str, float]
    restart_patterns: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class ServiceView(_View):
    """A registered service; `failures` are the times of its failed results, latest first."""

    id: str
    manager_name: str | None
    registered: float
    heartbeat: float
    heartbeat_age: float
    failures: list[float]
    claims: list[str]


@dataclass(frozen=True, slots=True)
class ManagerView(_View):
    """A registered manager."""

    id: str
    name: str
    uuid: str
    status: str
    detail: str | None
    saturation: float | None
    registered: float
    last_status: float
    status_age: float


@dataclass(frozen=True, slots=True)
class RequestView(_View):
    """One request in the audit log; see `audit.AuditEntry` for the fields."""

    sequence: int
    wall: float
    virtual: float
    method: str
    path: str
    endpoint: str
    connection: str
    ids: dict[str, str]
    status: int | None
    seconds: float | None
    fault: str | None
    notes: dict[str, Any]
