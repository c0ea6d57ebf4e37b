"""What is replayed together, against what, and with what outcome."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from simulator.client import AdminClient

from .recordings import Case, cases

if TYPE_CHECKING:
    from .replay import Replay


class NeedsAdminError(Exception):
    """The case needs something that only the simulator's admin port can do."""


@dataclass(frozen=True, slots=True)
class Target:
    """The server under test. A real one has no admin port."""

    url: str
    identifier: str
    key: str
    admin: AdminClient | None = None
    secret: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a case: as recorded, an error, or not tried for a reason."""

    error: Exception | None = None
    skipped: str | None = None


Step = Callable[["Replay"], None]


@dataclass(frozen=True, slots=True)
class Session:
    """Cases that share a state, in order.

    `before` prepares what the recording had prepared out of band; `instead` performs and checks
    cases that are no single exchange; `services` names the pushing service of cases whose
    recording does not tell it (`*`: of all others), `subjects` the recorded key of the Task that
    `after` tells of, where the path does not.
    """

    name: str
    first: str
    last: str
    before: Mapping[str, Step] = field(default_factory=dict)
    instead: Mapping[str, Step] = field(default_factory=dict)
    services: Mapping[str, str] = field(default_factory=dict)
    subjects: Mapping[str, str] = field(default_factory=dict)

    def cases(self) -> list[Case]:
        """The session's cases."""
        names = list(cases())
        chosen = names[names.index(self.first) : names.index(self.last) + 1]
        return [cases()[name] for name in chosen]
