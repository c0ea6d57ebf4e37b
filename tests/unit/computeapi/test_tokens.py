"""One token for all calls: renewed in time, once at a time, by no force."""

import asyncio
import time
from email.utils import formatdate

import pytest
from unit.computeapi.helpers import MakeAPI
from unit.computeapi.raw_server import (
    HANG,
    RESET,
    RawServer,
    Reply,
    Request,
    broken,
    jwt,
    ok,
    status,
)

from computepool_api.credentials import Credentials, CredentialsUnreadable
from computepool_api.endpoints import INFO
from computepool_api.errors import CredentialsRefused, Unavailable, UnexpectedAnswer
from computepool_api.tokens import REFUSAL_KEPT, read_token
from computepool_api.transport import ComputeAPI
from computepool_api.wire import Outgoing

INFORM = Outgoing("/info")
NOW = 1_800_000_000.0


def token_body(text: str) -> dict[str, str]:
    return {"access_token": text, "token_type": "bearer"}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def credentials() -> list[Credentials]:
    """What the source of credentials gives: the last one."""
    return [Credentials("me", "the key")]


@pytest.fixture
def api(
    raw: RawServer, make_api: MakeAPI, clock: Clock, credentials: list[Credentials]
) -> ComputeAPI:
    return make_api(raw.url, credentials=lambda: credentials[-1], monotonic=clock)


def test_a_token_is_used_until_a_minute_before_its_end_by_the_servers_clock() -> None:
    """The skew between the clocks does not matter: the Date of the answer is the server's."""
    token = read_token(token_body(jwt(NOW + 1800)), formatdate(NOW, usegmt=True), 50.0)
    assert token is not None
    assert token.usable_until == 50.0 + 1800 - 60


def test_a_short_life_has_a_short_margin() -> None:
    token = read_token(token_body(jwt(NOW + 10)), formatdate(NOW, usegmt=True), 0.0)
    assert token is not None
    assert token.usable_until == 9.0


def test_without_a_date_our_own_clock_counts() -> None:
    token = read_token(token_body(jwt(time.time() + 1000)), "", 0.0)
    assert token is not None
    assert token.usable_until == pytest.approx(940, abs=5)


@pytest.mark.parametrize(
    "text",
    [
        jwt(),
        jwt(NOW - 5),
        "opaque",
        "a.!!!.c",
        "a.bm90IGpzb24.c",
        "a.W10.c",
        jwt(exp="soon"),
    ],
)
def test_a_token_that_does_not_say_when_it_ends_is_used_until_a_401(text: str) -> None:
    token = read_token(token_body(text.replace("!", "~")), formatdate(NOW, usegmt=True), 0.0)
    assert token is not None
    assert token.usable_until is None


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {},
        {"access_token": None},
        token_body(""),
        token_body("a b"),
        token_body("a\n"),
        token_body("é"),
    ],
)
def test_what_holds_no_token_that_fits_in_a_header(body: object) -> None:
    assert read_token(body, "", 0.0) is None


def test_a_token_is_not_shown() -> None:
    token = read_token(token_body(jwt()), "", 0.0)
    assert jwt() not in repr(token)


async def test_calls_share_one_token(raw: RawServer, api: ComputeAPI) -> None:
    await asyncio.gather(*(api.exchange(INFO, INFORM) for _ in range(5)))
    await api.exchange(INFO, INFORM)
    assert len(raw.token_requests) == 1
    assert raw.token_requests[0].headers["content-type"] == "application/x-www-form-urlencoded"
    assert raw.token_requests[0].body == b"grant_type=password&username=me&password=the+key"
    assert {r.headers["authorization"] for r in raw.requests} == {f"Bearer {jwt()}"}


async def test_a_token_is_renewed_before_it_ends(
    raw: RawServer, api: ComputeAPI, clock: Clock
) -> None:
    raw.token_replies = [
        ok(token_body(jwt(NOW + 1800, n=n)), headers=[f"Date: {formatdate(NOW, usegmt=True)}"])
        for n in (1, 2)
    ]
    await api.exchange(INFO, INFORM)
    clock.now += 1739
    await api.exchange(INFO, INFORM)
    assert len(raw.token_requests) == 1
    clock.now += 2
    await asyncio.gather(*(api.exchange(INFO, INFORM) for _ in range(4)))
    assert len(raw.token_requests) == 2
    assert raw.requests[-1].headers["authorization"] == f"Bearer {jwt(NOW + 1800, n=2)}"


async def test_401s_together_cause_one_renewal(raw: RawServer, api: ComputeAPI) -> None:
    raw.token_replies = [ok(token_body(jwt(n=n))) for n in (1, 2)]
    fresh = f"Bearer {jwt(n=2)}"

    def reply(request: Request) -> Reply:
        if request.headers["authorization"] == fresh:
            return ok()
        return status(401, "Could not validate credentials")

    raw.replies = reply
    await asyncio.gather(*(api.exchange(INFO, INFORM) for _ in range(8)))
    assert len(raw.token_requests) == 2


async def test_calls_that_wait_for_a_renewal_share_its_failure(
    raw: RawServer, api: ComputeAPI
) -> None:
    raw.token_replies = [broken()]
    outcomes = await asyncio.gather(
        *(api.exchange(INFO, INFORM) for _ in range(8)), return_exceptions=True
    )
    assert {type(outcome) for outcome in outcomes} == {Unavailable}
    assert len({id(outcome) for outcome in outcomes}) == 8
    assert len(raw.token_requests) == 1
    with pytest.raises(Unavailable):
        await api.exchange(INFO, INFORM)
    assert len(raw.token_requests) == 2


async def test_a_cancelled_renewal_is_taken_over(raw: RawServer, api: ComputeAPI) -> None:
    raw.token_replies = [HANG, ok(token_body(jwt()))]
    first = asyncio.create_task(api.exchange(INFO, INFORM))
    await raw.asked_for_a_token.wait()
    second = asyncio.create_task(api.exchange(INFO, INFORM))
    await asyncio.sleep(0)
    first.cancel()
    await second
    assert len(raw.token_requests) == 2


async def test_a_refused_key_is_not_tried_again_and_again(
    raw: RawServer, api: ComputeAPI, clock: Clock, credentials: list[Credentials]
) -> None:
    raw.token_replies = [status(401, "Incorrect identity or key")]
    for _ in range(3):
        with pytest.raises(CredentialsRefused, match="Incorrect identity or key") as caught:
            await api.exchange(INFO, INFORM)
        assert caught.value.status == 401
    assert len(raw.token_requests) == 1

    credentials.append(Credentials("me", "the right key"))
    raw.token_replies = [*raw.token_replies, ok(token_body(jwt()))]
    await api.exchange(INFO, INFORM)
    assert len(raw.token_requests) == 2


async def test_a_refusal_is_believed_for_a_minute_only(
    raw: RawServer, api: ComputeAPI, clock: Clock
) -> None:
    """Somebody may have corrected the identity on the server."""
    raw.token_replies = [status(401), ok(token_body(jwt()))]
    with pytest.raises(CredentialsRefused):
        await api.exchange(INFO, INFORM)
    clock.now += REFUSAL_KEPT - 1
    with pytest.raises(CredentialsRefused):
        await api.exchange(INFO, INFORM)
    clock.now += 1
    await api.exchange(INFO, INFORM)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (Credentials("", "key"), "empty"),
        (Credentials("me", ""), "empty"),
        (Credentials("me", "k" * 4097), "more than 4096 characters"),
    ],
)
async def test_useless_credentials_are_not_sent(
    given: Credentials, why: str, raw: RawServer, api: ComputeAPI, credentials: list[Credentials]
) -> None:
    credentials.append(given)
    with pytest.raises(CredentialsRefused, match=why) as caught:
        await api.exchange(INFO, INFORM)
    assert caught.value.status is None
    assert raw.token_requests == []


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (FileNotFoundError(2, "No such file or directory"), "No such file or directory"),
        (ValueError("the key is secret"), "ValueError"),
        (CredentialsUnreadable("/etc/credentials is empty"), "/etc/credentials is empty"),
    ],
)
async def test_credentials_that_cannot_be_read(
    error: Exception, told: str, raw: RawServer, make_api: MakeAPI
) -> None:
    def source() -> Credentials:
        raise error

    with pytest.raises(CredentialsRefused, match=told) as caught:
        await make_api(raw.url, credentials=source).exchange(INFO, INFORM)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("body", [None, {"access_token": "not a token"}])
async def test_an_answer_without_a_token(body: object, raw: RawServer, api: ComputeAPI) -> None:
    raw.token_replies = [ok(body)]
    with pytest.raises(UnexpectedAnswer, match="no token"):
        await api.exchange(INFO, INFORM)


async def test_a_token_request_is_repeated_after_a_reset(raw: RawServer, api: ComputeAPI) -> None:
    raw.token_replies = [RESET, ok(token_body(jwt()))]
    await api.exchange(INFO, INFORM)
    assert len(raw.token_requests) == 2
