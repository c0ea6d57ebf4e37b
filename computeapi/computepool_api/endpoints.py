"""What may be repeated, endpoint by endpoint. Pure.

A call is repeated only where a second delivery does no harm, few times, after a jittered pause that
doubles. When the repeats are used up, the last happening decides. In the table, `2U` says: repeat
up to twice, then

- U: the call raises Unavailable: nothing was done, or doing it again is harmless;
- ?: what the server did is unknown, and the method of the client settles or reports it;
- R: the answer is read: at this endpoint a 500 has a meaning of its own (trap 2).

The columns are what can happen to a request:

- unsent: no connection; the server has seen nothing of it;
- reset: a connection that had served before ended before an answer began (trap 1);
- silence: any other end without a whole answer: timeout, reset, garbage;
- busy: 408, 425, 429: an intermediate or the server puts us off;
- 500: the application's own error;
- 5xx: any other, mostly a gateway's, which may have passed the request on.

| endpoint            | unsent | reset | silence | busy | 500 | 5xx |
|---------------------|--------|-------|---------|------|-----|-----|
| ping                | 1U     | 1U    | 0U      | 0U   | 0U  | 0U  |
| info                | 2U     | 1U    | 2U      | 2U   | 2U  | 2U  |
| check               | 1U     | 1U    | 0U      | 0U   | 0U  | 0U  |
| scopes              | 2U     | 1U    | 2U      | 2U   | 2U  | 2U  |
| taskhubs            | 2U     | 1U    | 2U      | 2U   | 2U  | 2U  |
| token               | 2U     | 1U    | 2U      | 2U   | 0R  | 2U  |
| manager register    | 2U     | 0?    | 0?      | 2U   | 0?  | 0?  |
| manager steal       | 2U     | 0?    | 0?      | 2U   | 0R  | 0?  |
| manager instruction | 2U     | 1U    | 2U      | 2U   | 2U  | 2U  |
| manager status      | 2U     | 1U    | 2U      | 2U   | 2U  | 2U  |
| manager deregister  | 2U     | 1U    | 2U      | 2U   | 2U  | 2U  |
| manager clear_error | 2U     | 0?    | 0?      | 2U   | 0R  | 0?  |
| service register    | 2U     | 0?    | 0?      | 2U   | 0R  | 0?  |
| service probe       | 2U     | 0?    | 0?      | 2U   | 0R  | 0?  |
| service heartbeat   | 2U     | 1U    | 2U      | 2U   | 2U  | 2U  |
| service deregister  | 2U     | 0?    | 0?      | 2U   | 1R  | 0?  |
| claim               | 2U     | 0?    | 0?      | 2U   | 1R  | 0?  |
| fetch               | 2U     | 1U    | 2U      | 2U   | 1R  | 2U  |
| push                | 2U     | 0?    | 0?      | 0U   | 0?  | 0?  |

What a repeat of the others could break: a second claim takes more Tasks; a second register meets
the first one's registration and reads as "taken", and as the probe (trap 3) as "held"; a second
push stores a second entry, which spoils every extending Task for ever (trap 10). Deregistering and
clearing an error are repeated too, by their methods, which must know that an earlier try may have
done it. Claim, registers, probe and push get a connection of their own, so that trap 1 cannot hit
them; every connection is dropped after a 5xx.

A 401 is handled beside this table (trap 4): the token is renewed once, and the request sent again,
push included: a 401 is given before anything is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final


class Happening(Enum):
    """What can happen to a request short of an answer to be read."""

    UNSENT = "unsent"
    RESET = "reset"
    SILENCE = "silence"
    BUSY = "busy"
    INTERNAL = "500"
    GATEWAY = "5xx"


class Then(Enum):
    """What follows when a happening is not (any more) answered by a repeat."""

    UNAVAILABLE = "U"
    UNCLEAR = "?"
    READ = "R"


@dataclass(frozen=True, slots=True)
class Rule:
    """Repeat up to so many times, then go on as `then` says."""

    repeats: int
    then: Then


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One call of the compute API, and how to deal with what happens to it.

    `read_timeout` (seconds) bounds the wait for each piece of an answer, `deadline` (seconds) one
    try as a whole, so that a server that trickles cannot hold a call for ever.
    """

    row: str
    method: str
    path: str
    rules: Mapping[Happening, Rule]
    read_timeout: float = 30.0
    deadline: float = 90.0
    token: bool = True
    own_connection: bool = False
    of_scope: bool = False

    @property
    def name(self) -> str:
        """What errors call it: method and path template."""
        return f"{self.method} {self.path}"


def _rules(cells: str) -> Mapping[Happening, Rule]:
    """Read a row of the table: one cell for each happening, in their order."""
    return MappingProxyType(
        {
            happening: Rule(int(cell[0]), Then(cell[1]))
            for happening, cell in zip(Happening, cells.split(), strict=True)
        }
    )


_HARMLESS: Final = _rules("2U 1U 2U 2U 2U 2U")
_QUICK: Final = _rules("1U 1U 0U 0U 0U 0U")
_ONCE: Final = _rules("2U 0? 0? 2U 0R 0?")

PING: Final = Endpoint(
    "ping", "GET", "/ping", _QUICK, read_timeout=10.0, deadline=20.0, token=False
)
INFO: Final = Endpoint("info", "GET", "/info", _HARMLESS)
CHECK: Final = Endpoint("check", "GET", "/check", _QUICK, read_timeout=15.0, deadline=30.0)
SCOPES: Final = Endpoint("scopes", "GET", "/identities/{identity}/scopes", _HARMLESS)
TASKHUBS: Final = Endpoint("taskhubs", "GET", "/taskhubs", _HARMLESS)
TOKEN: Final = Endpoint("token", "POST", "/token", _rules("2U 1U 2U 2U 0R 2U"), token=False)

MANAGER_REGISTER: Final = Endpoint(
    "manager register",
    "POST",
    "/computemanager/{id}/register",
    _rules("2U 0? 0? 2U 0? 0?"),
    own_connection=True,
)
MANAGER_STEAL: Final = Endpoint(
    "manager steal", "POST", "/computemanager/{id}/register", _ONCE, own_connection=True
)
MANAGER_INSTRUCTION: Final = Endpoint(
    "manager instruction",
    "POST",
    "/computemanager/{id}/instruction",
    _HARMLESS,
    read_timeout=60.0,
)
MANAGER_STATUS: Final = Endpoint("manager status", "POST", "/computemanager/{id}/status", _HARMLESS)
MANAGER_DEREGISTER: Final = Endpoint(
    "manager deregister", "POST", "/computemanager/{id}/deregister", _HARMLESS
)
MANAGER_CLEAR_ERROR: Final = Endpoint(
    "manager clear_error", "POST", "/computemanager/{name}/clear_error", _ONCE
)

SERVICE_REGISTER: Final = Endpoint(
    "service register", "POST", "/computeservice/{id}/register", _ONCE, own_connection=True
)
SERVICE_PROBE: Final = Endpoint(
    "service probe", "POST", "/computeservice/{id}/register", _ONCE, own_connection=True
)
SERVICE_HEARTBEAT: Final = Endpoint(
    "service heartbeat", "POST", "/computeservice/{id}/heartbeat", _HARMLESS
)
SERVICE_DEREGISTER: Final = Endpoint(
    "service deregister",
    "POST",
    "/computeservice/{id}/deregister",
    _rules("2U 0? 0? 2U 1R 0?"),
)
CLAIM: Final = Endpoint(
    "claim",
    "POST",
    "/claim",
    _rules("2U 0? 0? 2U 1R 0?"),
    read_timeout=60.0,
    own_connection=True,
)
FETCH: Final = Endpoint(
    "fetch",
    "GET",
    "/tasks/{task}/transformation/gufe",
    _rules("2U 1U 2U 2U 1R 2U"),
    read_timeout=120.0,
    deadline=3600.0,
    of_scope=True,
)
PUSH: Final = Endpoint(
    "push",
    "POST",
    "/tasks/{task}/results",
    _rules("2U 0? 0? 0U 0? 0?"),
    read_timeout=600.0,
    deadline=3600.0,
    own_connection=True,
    of_scope=True,
)

ENDPOINTS: Final = (
    PING,
    INFO,
    CHECK,
    SCOPES,
    TASKHUBS,
    TOKEN,
    MANAGER_REGISTER,
    MANAGER_STEAL,
    MANAGER_INSTRUCTION,
    MANAGER_STATUS,
    MANAGER_DEREGISTER,
    MANAGER_CLEAR_ERROR,
    SERVICE_REGISTER,
    SERVICE_PROBE,
    SERVICE_HEARTBEAT,
    SERVICE_DEREGISTER,
    CLAIM,
    FETCH,
    PUSH,
)

MAX_TRIES: Final = 4
"""Upper bound of tries of one call, whatever happens to them."""

_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 8.0
_LONGEST_WAIT_ASKED: Final = 30.0


def happening_of(status: int) -> Happening | None:
    """Sort an HTTP status; None for an answer that is always read."""
    if status in (408, 425, 429):
        return Happening.BUSY
    if status == 500:
        return Happening.INTERNAL
    return Happening.GATEWAY if status > 500 else None


def next_step(endpoint: Endpoint, history: list[Happening]) -> Then | None:
    """Decide after the last happening of `history`: None means repeat."""
    rule = endpoint.rules[history[-1]]
    if history.count(history[-1]) <= rule.repeats and len(history) < MAX_TRIES:
        return None
    return rule.then


def pause_before(
    repeat: int, happening: Happening, jitter: float, retry_after: float | None
) -> float:
    """Give the seconds to wait before repeat number `repeat` (from 1), for a jitter in [0, 1).

    A stale connection is replaced at once. A `Retry-After` is obeyed up to half a minute.
    """
    if happening is Happening.RESET:
        return 0.0
    pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** (repeat - 1)) * (0.5 + jitter / 2)
    return max(pause, min(retry_after or 0.0, _LONGEST_WAIT_ASKED))
