"""Request bodies of the admin port."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from .faults import FaultKind, When
from .records import TaskStatus


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewTasks(_Body):
    """Tasks to add.

    They go onto the hub of that name in that scope, which is made when there is none; onto each of
    them if several are named; onto no hub if none. `chain` replaces the stand-in's transformation.
    """

    count: int = 1
    scope: str = "a-b-c"
    protocol: str = "StandInProtocol"
    module: str = "computepool_standin"
    name: str = "stand-in"
    stand_in: dict[str, Any] = Field(default_factory=dict)
    chain: list[tuple[str, dict[str, Any]]] | None = None
    weight: float = 0.5
    priority: int = 10
    extends: str | None = None
    hubs: list[str] = Field(default_factory=lambda: ["default"])
    hub_weight: float | None = None


class NewStatus(_Body):
    """What a user sets a Task to."""

    status: TaskStatus


class HubChange(_Body):
    """A hub's new weight."""

    weight: float = Field(ge=0, le=1)


class NewPattern(_Body):
    """A restart pattern for a hub."""

    pattern: str
    max_retries: int = Field(gt=0)


class NewIdentity(_Body):
    """An identity to add or replace."""

    identifier: str
    key: str
    scopes: list[str]
    disabled: bool = False


class Advance(_Body):
    """How far to move the virtual clock, in seconds."""

    seconds: float = Field(ge=0)


class NewFault(_Body):
    """A fault to inject; the fields are those of `faults.Fault`."""

    endpoint: str
    kind: FaultKind
    when: When = When.BEFORE
    count: int | None = 1
    probability: float = 1.0
    skip: int = 0
    contains: str = ""
    status: int = 503
    body: str | None = None
    content_type: str = "application/json"
    headers: dict[str, str] | None = None
    seconds: float | None = None
    closes: bool | None = None
