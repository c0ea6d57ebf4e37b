"""Neither key nor token is ever shown: in no repr, error, traceback or log line."""

import logging
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from unit.computeapi.helpers import MakeAPI
from unit.computeapi.raw_server import (
    GARBAGE,
    HANG,
    RESET,
    End,
    RawServer,
    Reply,
    Request,
    broken,
    http,
    jwt,
    ok,
    status,
)

from computepool_api.credentials import Credentials
from computepool_api.endpoints import INFO
from computepool_api.errors import ComputeAPIError
from computepool_api.ids import ComputeServiceID
from computepool_api.secrecy import Secret, login_form
from computepool_api.service_client import ComputeServiceClient
from computepool_api.transport import ComputeAPI
from computepool_api.wire import Outgoing

KEY = "correct horse&battery+staple"
TOKEN = jwt(secret="swordfish")
SECRETS = [KEY, "correct+horse%26battery%2Bstaple", "staple", TOKEN, TOKEN.split(".")[1]]
CREDENTIALS = Credentials("compute-identity", KEY)
TASK = "Task-0123456789abcdef0123456789abcdef-a-b-c"
SERVICE = ComputeServiceID("job-0123456789abcdef0123456789abcdef")


def assert_silent(text: str) -> None:
    for secret in SECRETS:
        assert secret not in text


def whole_story(error: BaseException, *, with_locals: bool = True) -> str:
    """Everything that any reporter could show: the locals of each frame, the chain, the args."""
    parts: list[str] = []
    below: BaseException | None = error
    while below is not None:
        assert type(below).__module__ == "computepool_api.errors"
        # The frame of the test itself is left out: it does hold secrets.
        trace = below.__traceback__ and below.__traceback__.tb_next
        parts += traceback.TracebackException(
            type(below), below, trace, capture_locals=with_locals
        ).format(chain=False)
        parts += [str(below), repr(below), repr(vars(below)), repr(below.args)]
        below = below.__cause__ or below.__context__
    return "\n".join(parts)


def echo(request: Request) -> Reply:
    """Answer as a debugging proxy does: with the whole request."""
    text = f"{request.headers} {request.body!r} {request.headers.get('authorization')}"
    return status(400, text + request.body.decode("latin-1"))


def echo_200(request: Request) -> Reply:
    return ok({"headers": request.headers, "body": request.body.decode("latin-1")})


WAYS: dict[str, Callable[[Request], Reply]] = {
    "reset": lambda _: RESET,
    "hang": lambda _: HANG,
    "garbage": lambda _: GARBAGE,
    "500": lambda _: broken(),
    "401": lambda _: status(401, "Could not validate credentials"),
    "scope": lambda _: status(401, "Targeted scope"),
    "422": lambda r: status(
        422, [{"loc": ["body"], "msg": "no", "input": r.body.decode("latin-1")}]
    ),
    "echo": echo,
    "echo in html": lambda r: Reply(http(403, raw=f"<html>{r.headers}{r.body!r}".encode())),
    "echo as success": echo_200,
    "echo in redirect": lambda r: status(
        302, headers=[f"Location: /x?{r.headers['authorization']}"]
    ),
    "echo raw": lambda r: Reply(f"{r.headers}\r\n\r\n".encode(), End.CLOSE),
}


@pytest.fixture
def api(raw: RawServer, make_api: MakeAPI) -> ComputeAPI:
    raw.token_replies = [ok({"access_token": TOKEN, "token_type": "bearer"})]
    return make_api(raw.url, credentials=lambda: CREDENTIALS, patience=0.002)


def test_reprs() -> None:
    assert repr(CREDENTIALS) == "Credentials(identifier='compute-identity')"
    assert_silent(f"{CREDENTIALS} {Secret(KEY)!r} {Secret(KEY)} {login_form(CREDENTIALS)!r}")
    assert_silent(repr(Outgoing("/token", form=login_form(CREDENTIALS))))


@pytest.mark.parametrize("way", WAYS)
async def test_calls_that_fail(
    way: str, raw: RawServer, api: ComputeAPI, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    raw.replies = WAYS[way]
    client = ComputeServiceClient(api)
    result = tmp_path / "result.json"
    result.write_text("{}")
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: client.claim(SERVICE, scopes=[]),
        lambda: client.fetch(TASK, tmp_path / "task.json"),
        lambda: client.push(TASK, SERVICE, result),
        lambda: client.holds_registration(SERVICE, None),
        api.taskhubs,
    ]
    for call in calls:
        with pytest.raises(ComputeAPIError) as caught:
            await call()
        # What is read of a stream stands in the frames that read it, whatever an echo put there.
        assert_silent(whole_story(caught.value, with_locals=way != "echo as success"))
    if way not in ("echo in redirect", "echo raw"):  # httpcore logs what it is sent, at DEBUG
        assert_silent(caplog.text)


@pytest.mark.parametrize("way", [way for way in WAYS if way not in ("scope", "echo in redirect")])
async def test_token_requests_that_fail(
    way: str, raw: RawServer, api: ComputeAPI, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    request = Request(1, "POST", "/token", {}, login_form(CREDENTIALS).reveal().encode())
    raw.token_replies = [WAYS[way](request)]
    with pytest.raises(ComputeAPIError) as caught:
        await api.exchange(INFO, Outgoing("/info"))
    assert_silent(whole_story(caught.value))
    assert_silent(caplog.text)


async def test_a_token_with_a_line_break_is_in_no_error_of_the_http_library(
    raw: RawServer, api: ComputeAPI
) -> None:
    """h11 quotes header values that it refuses."""
    raw.token_replies = [ok({"access_token": "swordfish\r\nX-Evil: 1", "token_type": "bearer"})]
    with pytest.raises(ComputeAPIError) as caught:
        await api.exchange(INFO, Outgoing("/info"))
    assert "swordfish" not in whole_story(caught.value)
