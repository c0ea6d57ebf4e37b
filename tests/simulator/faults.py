"""Faults that tests inject: which requests they meet, and how often."""

import random
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from .endpoints import ENDPOINTS


class FaultKind(StrEnum):
    """What happens instead of, or around, the true answer."""

    STATUS = "status"
    """Another status and body."""
    RESET = "reset"
    """The connection is reset (TCP RST)."""
    LATENCY = "latency"
    """The answer is late; combines with other faults."""
    HANG = "hang"
    """No answer, until the client goes or `seconds` are over; then the connection is closed."""
    TRUNCATE = "truncate"
    """The headers and half of the body of the true answer, then the connection is closed."""
    GARBAGE = "garbage"
    """200 with a body that is no JSON, or with `body`."""


class When(StrEnum):
    """Whether the server acts on the request first."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(slots=True)
class Fault:
    """One injected fault.

    `endpoint` is a name from `endpoints` or a pattern (`manager_*`, `*`); `contains` narrows it to
    paths with that text. The first `skip` matching requests pass, then it strikes `count` times
    (None: always) with the given probability. `closes` decides whether a status fault closes the
    connection unannounced, as the server's own 500 does; None means: for 500.
    """

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
    id: int = 0
    struck: int = 0

    def __post_init__(self) -> None:
        """ValueError for a fault that could never strike or makes no sense."""
        if not any(fnmatchcase(name, self.endpoint) for name in (*ENDPOINTS, "other")):
            raise ValueError(f"no endpoint {self.endpoint!r}; there are {', '.join(ENDPOINTS)}")
        if self.kind is FaultKind.LATENCY and self.seconds is None:
            raise ValueError("a latency needs seconds")
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability {self.probability} is not between 0 and 1")

    def strikes(self, endpoint: str, path: str, source: random.Random) -> bool:
        """Decide for one request, and count it."""
        if self.count is not None and self.struck >= self.count:
            return False
        if not fnmatchcase(endpoint, self.endpoint) or self.contains not in path:
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.probability < 1 and source.random() >= self.probability:
            return False
        self.struck += 1
        return True


class FaultBoard:
    """The faults in force; the first that strikes wins, latencies strike besides."""

    def __init__(self, source: random.Random) -> None:
        self._source = source
        self._faults: list[Fault] = []
        self._count = 0

    @property
    def faults(self) -> list[Fault]:
        """Those injected and not cleared, used up or not."""
        return list(self._faults)

    def add(self, fault: Fault) -> Fault:
        """Inject a fault and give it its number."""
        self._count += 1
        fault.id = self._count
        self._faults.append(fault)
        return fault

    def clear(self, fault_id: int | None = None) -> None:
        """Take one fault away, or all."""
        self._faults = [f for f in self._faults if fault_id is not None and f.id != fault_id]

    def strike(self, endpoint: str, path: str) -> tuple[list[Fault], Fault | None]:
        """The latencies and the one other fault that meet this request."""
        latencies: list[Fault] = []
        for fault in self._faults:
            if not fault.strikes(endpoint, path, self._source):
                continue
            if fault.kind is not FaultKind.LATENCY:
                return latencies, fault
            latencies.append(fault)
        return latencies, None
