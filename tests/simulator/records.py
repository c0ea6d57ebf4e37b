"""What the store keeps. Times are virtual, in seconds since the epoch."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from .identifiers import ComputeID
from .scopes import Scope

KeyedChain = list[tuple[str, dict[str, Any]]]


class TaskStatus(StrEnum):
    """The life of a Task."""

    WAITING = "waiting"
    RUNNING = "running"
    COMPLETE = "complete"
    ERROR = "error"
    INVALID = "invalid"
    DELETED = "deleted"


class ManagerStatus(StrEnum):
    """What a manager says of itself."""

    OK = "OK"
    ERROR = "ERROR"


@dataclass(slots=True)
class Identity:
    """Somebody who may ask for a token. `disabled` is stored and, as on the server, not obeyed."""

    identifier: str
    key: str = field(repr=False)
    scopes: tuple[str, ...]
    disabled: bool = False


@dataclass(slots=True)
class Manager:
    """One registration of a compute manager."""

    id: ComputeID
    registered: float
    last_status: float
    status: ManagerStatus = ManagerStatus.OK
    detail: str | None = ""
    saturation: float | None = 0.0


@dataclass(slots=True)
class Service:
    """One registration of a compute service."""

    id: str
    manager_name: str | None
    registered: float
    heartbeat: float
    failures: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Transformation:
    """What a Task computes; `labels` are the class names that a protocol filter can match."""

    key: str
    chain: KeyedChain
    labels: frozenset[str]


@dataclass(frozen=True, slots=True)
class ResultEntry:
    """One pushed result; `blob` is zstd of the JSON of the keyed chain."""

    key: str
    document_key: str
    ok: bool
    creator: str | None
    pushed: float
    blob: bytes
    tracebacks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """A step in a Task's life: when, what happened, and through which service."""

    time: float
    event: str
    service: str | None = None


@dataclass(slots=True)
class Task:
    """One unit of work."""

    key: str
    scope: Scope
    transformation: Transformation
    priority: int = 10
    extends: str | None = None
    status: TaskStatus = TaskStatus.WAITING
    claimed_by: str | None = None
    results: list[ResultEntry] = field(default_factory=list)
    history: list[TaskEvent] = field(default_factory=list)


@dataclass(slots=True)
class RestartPattern:
    """A regular expression; Tasks of its hub whose traceback it matches run again, so often."""

    pattern: str
    max_retries: int
    retries: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Hub:
    """A network's queue: Tasks with their weights in it (0 hides a Task from claims)."""

    key: str
    network: str
    scope: Scope
    weight: float = 0.5
    actions: dict[str, float] = field(default_factory=dict)
    patterns: list[RestartPattern] = field(default_factory=list)
