"""Comparing an answer with the recorded one."""

import json
import re
from typing import Any

import httpx
import zstandard

from .binding import Binding, MismatchError
from .pushes import real_chain
from .recordings import Case

_COMPARED_HEADERS = (
    "content-type",
    "www-authenticate",
    "allow",
    "location",
    "vary",
    "content-encoding",
)
_EXTENDS = "transformation-gufe-extends"


def compare(case: Case, answer: httpx.Response, binding: Binding, *, knows_state: bool) -> None:
    """Compare status, headers and body; MismatchError says where they differ.

    `knows_state` is whether what the server holds was prepared as for the recording: numbers of
    Tasks and lengths of answers are compared only then.
    """
    if answer.status_code != case.status:
        text = answer.text[:500]
        raise MismatchError(f"status: recorded {case.status}, now {answer.status_code}: {text}")
    _compare_headers(case, answer)
    if knows_state:
        _compare_length(case, answer)
    if case.answer_headers.get("content-type") != "application/json":
        binding.match(case.answer, answer.text)
        return
    live = answer.json()
    recorded = case.answer
    if isinstance(recorded, dict) and recorded.keys() == {"truncated", "length"}:
        _compare_start(case, live)
    elif isinstance(recorded, dict) and recorded.get("access_token") == "<jwt>":
        _compare_token(recorded, live)
    else:
        binding.match(_promised(recorded, knows_state), _promised(live, knows_state))


def _compare_headers(case: Case, answer: httpx.Response) -> None:
    host = answer.request.url.netloc.decode()
    for name in _COMPARED_HEADERS:
        recorded = case.answer_headers.get(name)
        recorded = recorded.replace("<host>", host) if recorded else recorded
        now = answer.headers.get(name)
        if now != recorded:
            raise MismatchError(f"header {name}: recorded {recorded!r}, now {now!r}")


def _compare_length(case: Case, answer: httpx.Response) -> None:
    """Lengths tell how JSON is written; those of tokens and zipped answers tell nothing."""
    if case.form is not None or "content-encoding" in case.answer_headers:
        return
    recorded, now = case.answer_headers["content-length"], answer.headers["content-length"]
    if now != recorded:
        raise MismatchError(f"length: recorded {recorded}, now {now}: {answer.text[:500]}")


def _promised(value: Any, knows_state: bool) -> Any:
    """Leave out what the server does not promise: the order of services."""
    if not isinstance(value, dict) or "instruction" not in value:
        return value
    value = dict(value)
    if "compute_service_ids" in value:
        value["compute_service_ids"] = sorted(value["compute_service_ids"])
    if not knows_state and isinstance(value.get("num_tasks"), int):
        value["num_tasks"] = "some"
    return value


def _compare_start(case: Case, live: Any) -> None:
    """Only the start of a long answer was recorded, and its length."""
    text = live if isinstance(live, str) else json.dumps(live)
    start = case.answer["truncated"].removesuffix("...")
    if not text.startswith(start):
        raise MismatchError(f"answer: recorded {start!r}..., now {text[: len(start)]!r}")
    if case.name == _EXTENDS:
        _compare_previous(live)
    elif len(text) != case.answer["length"]:
        raise MismatchError(f"answer: recorded {case.answer['length']} long, now {len(text)}")


def _compare_previous(live: Any) -> None:
    """The second element is the parent's result, which was pushed just before."""
    blob = live[1].encode("latin-1")
    if json.loads(zstandard.decompress(blob)) != real_chain():
        raise MismatchError("the second element is not the parent's result")


def _compare_token(recorded: dict[str, Any], live: dict[str, Any]) -> None:
    if live.keys() != recorded.keys() or live["token_type"] != recorded["token_type"]:
        raise MismatchError(f"answer: recorded {recorded}, now {live.keys()}")
    if not re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+", live["access_token"]):
        raise MismatchError("access_token has not the form of a JSON web token")
