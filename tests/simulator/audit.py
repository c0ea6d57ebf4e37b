"""A record of every request, for tests that check what clients did and in which order."""

from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any

LONGEST = 20_000
"""Requests kept; older ones are forgotten, so that a long soak does not fill the memory."""


@dataclass(slots=True)
class AuditEntry:
    """One request. `status` is None while it runs and where no answer was given.

    `wall` and `virtual` are when it came, in seconds since the epoch; `seconds` is how long it
    took. `ids` are those in the path, `notes` what the handler added: the identity, the service
    of a claim or push, the Tasks handed out, the key of the stored result.
    """

    sequence: int
    wall: float
    virtual: float
    method: str
    path: str
    endpoint: str
    connection: str
    ids: dict[str, str]
    status: int | None = None
    seconds: float | None = None
    fault: str | None = None
    notes: dict[str, Any] = field(default_factory=dict)


class AuditLog:
    """The latest requests, numbered from 1."""

    def __init__(self) -> None:
        self._entries: deque[AuditEntry] = deque(maxlen=LONGEST)
        self._count = 0

    def begin(self, **values: Any) -> AuditEntry:
        """Record a request that has just come."""
        self._count += 1
        entry = AuditEntry(sequence=self._count, **values)
        self._entries.append(entry)
        return entry

    def entries(self, since: int = 0) -> list[dict[str, Any]]:
        """The requests with a higher number, oldest first."""
        return [asdict(entry) for entry in self._entries if entry.sequence > since]

    def clear(self) -> None:
        """Forget all; the numbers go on."""
        self._entries.clear()
