"""What came back of one request, as plain values, and what errors the common answers mean. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from computepool_api.endpoints import PUSH, Endpoint, Happening
from computepool_api.errors import (
    ComputeAPIError,
    CredentialsRefused,
    InvalidRequest,
    Misdirected,
    ScopeRefused,
    Unavailable,
    UnexpectedAnswer,
)
from computepool_api.models import shorten

_LONGEST_DETAIL: Final = 400
_OF_TOKENS: Final = ("Could not validate credentials", "Not authenticated")
_HINTS: Final = {
    404: "there is no such path: the URL must be that of the compute API, path prefix included",
    413: "a proxy before the server takes no body of this size: raise its limit "
    "(nginx: client_max_body_size)",
}


class NotJSON:
    """The body of an answer that is no JSON: not to be taken for null, which has a meaning."""

    __slots__ = ()


NOT_JSON: Final = NotJSON()


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. `body` is its JSON value; `detail` what it says went wrong, in one line."""

    status: int
    body: object = field(repr=False)
    detail: str = ""
    retry_after: float | None = None
    date: str = ""


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """No answer that can be read. `status` is that of a gateway, or 500, where there was one."""

    happening: Happening
    detail: str
    status: int | None = None

    def unavailable(self, endpoint: Endpoint) -> Unavailable:
        """Report it as harmless."""
        return Unavailable(endpoint.name, status=self.status, detail=self.detail)


def read_answer(status: int, headers: Mapping[str, str], raw: bytes) -> Answer:
    """Read an answer of any status; never raises."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        body = NOT_JSON
    if 200 <= status < 300:
        return Answer(status, body, date=headers.get("date", ""))
    detail = _detail(body, raw)
    if 300 <= status < 400:
        detail = f"a redirect to {_where(headers.get('location', ''))}, which is not followed"
    elif status in _HINTS:
        detail = f"{detail} ({_HINTS[status]})" if detail else _HINTS[status]
    return Answer(status, body, detail, _seconds(headers.get("retry-after", "")))


def rejection(endpoint: Endpoint, answer: Answer) -> ComputeAPIError:
    """Name the error of an answer whose status has no meaning of its own at this endpoint."""
    if answer.status in (200, 401):
        raise ValueError(f"{answer.status} is no rejection")
    if 200 < answer.status < 300:
        return UnexpectedAnswer(endpoint.name, status=answer.status, detail="an unknown status")
    if answer.status >= 500:
        return Unavailable(endpoint.name, status=answer.status, detail=answer.detail)
    if answer.status == 404 or (endpoint is PUSH and _is_a_proxys_403(answer)):
        return Misdirected(endpoint.name, status=answer.status, detail=answer.detail)
    return InvalidRequest(endpoint.name, status=answer.status, detail=answer.detail)


def _is_a_proxys_403(answer: Answer) -> bool:
    """Tell it from a 403 of the server's own, which is JSON."""
    return answer.status == 403 and answer.body is NOT_JSON


def refusal(endpoint: Endpoint, answer: Answer) -> ComputeAPIError:
    """Tell the two meanings of a 401 that a fresh token met (trap 4)."""
    if endpoint.of_scope and answer.detail not in _OF_TOKENS:
        return ScopeRefused(endpoint.name, status=401, detail=answer.detail)
    return CredentialsRefused(
        endpoint.name,
        status=401,
        detail=f"a token just issued is refused ({answer.detail or 'no detail'}); servers behind "
        "one URL that do not share their JWT secret do this",
    )


def check_echo(endpoint: Endpoint, answer: Answer, expected: str | None) -> None:
    """Make sure that a success answers this API's way: with the id it was sent, or null.

    Raises the error that the answer means: UnexpectedAnswer, or that of `rejection`.
    """
    if answer.status != 200:
        raise rejection(endpoint, answer)
    if answer.body != expected:
        raise UnexpectedAnswer(
            endpoint.name, status=200, detail=f"expected {json.dumps(expected)} and nothing else"
        )


def _detail(body: object, raw: bytes) -> str:
    """Condense an error body: FastAPI's `detail`, text or list, else the text itself.

    The `input` that a validation error echoes is left out, as it is what was sent.
    """
    match body:
        case {"detail": str(text)}:
            pass
        case {"detail": list(entries)}:
            text = "; ".join(_validation(entry) for entry in entries)
        case _:
            text = raw.decode("utf-8", "replace")
    return shorten(" ".join(text.split()), _LONGEST_DETAIL)


def _validation(entry: object) -> str:
    match entry:
        case {"loc": list(place), "msg": str(message)}:
            return f"{'.'.join(map(str, place))}: {message}"
        case _:
            return "invalid"


def _where(location: str) -> str:
    """Show where a redirect leads, without user, password and query."""
    try:
        parts = urlsplit(location)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "an unreadable place"
    scheme = f"{parts.scheme}://" if parts.scheme else ""
    return shorten(f"{scheme}{host}{port}{parts.path}", 200) or "nowhere"


def _seconds(retry_after: str) -> float | None:
    return float(retry_after) if retry_after.isascii() and retry_after.isdigit() else None
