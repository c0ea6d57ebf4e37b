"""The table of repeats: written, coded and lived."""

import re
from dataclasses import replace

import pytest
from unit.computeapi.helpers import MakeAPI
from unit.computeapi.raw_server import (
    GARBAGE,
    HANG,
    RESET,
    SILENT_CLOSE,
    RawServer,
    Reply,
    Request,
    broken,
    jwt,
    ok,
    status,
)

from computepool_api import endpoints
from computepool_api.answers import Answer, NoAnswer
from computepool_api.endpoints import (
    ENDPOINTS,
    MAX_TRIES,
    Endpoint,
    Happening,
    Then,
    happening_of,
    next_step,
    pause_before,
)
from computepool_api.errors import Unavailable
from computepool_api.wire import Outgoing

BY_ROW = {endpoint.row: endpoint for endpoint in ENDPOINTS}


def table() -> dict[str, dict[str, str]]:
    rows = re.findall(r"^\| (.*) \|$", endpoints.__doc__ or "", re.MULTILINE)
    heading, *lines = [[cell.strip() for cell in row.split("|")] for row in rows]
    return {line[0]: dict(zip(heading[1:], line[1:], strict=True)) for line in lines}


def test_the_table_of_the_docstring_is_what_the_code_does() -> None:
    coded = {
        endpoint.row: {
            happening.value: f"{rule.repeats}{rule.then.value}"
            for happening, rule in endpoint.rules.items()
        }
        for endpoint in ENDPOINTS
    }
    assert coded == table()


def test_what_must_not_be_repeated_is_not() -> None:
    once = [
        "manager register",
        "manager steal",
        "service register",
        "service probe",
        "claim",
        "push",
    ]
    for row in once:
        endpoint = BY_ROW[row]
        assert endpoint.own_connection, row
        for happening in (Happening.RESET, Happening.SILENCE, Happening.GATEWAY):
            assert endpoint.rules[happening].repeats == 0, row
            assert endpoint.rules[happening].then is Then.UNCLEAR, row
    assert all(BY_ROW["push"].rules[h].repeats == 0 for h in Happening if h != Happening.UNSENT)


def test_every_call_has_timeouts() -> None:
    for endpoint in ENDPOINTS:
        assert 0 < endpoint.read_timeout <= endpoint.deadline <= 3600


@pytest.mark.parametrize(
    ("code", "happening"),
    [
        (200, None),
        (307, None),
        (400, None),
        (401, None),
        (404, None),
        (408, Happening.BUSY),
        (422, None),
        (425, Happening.BUSY),
        (429, Happening.BUSY),
        (500, Happening.INTERNAL),
        (502, Happening.GATEWAY),
        (503, Happening.GATEWAY),
        (504, Happening.GATEWAY),
        (520, Happening.GATEWAY),
    ],
)
def test_statuses_are_sorted(code: int, happening: Happening | None) -> None:
    assert happening_of(code) is happening


def test_tries_are_bounded_whatever_happens() -> None:
    history: list[Happening] = []
    for happening in (Happening.UNSENT, Happening.BUSY, Happening.SILENCE, Happening.GATEWAY):
        history.append(happening)
        step = next_step(BY_ROW["info"], history)
    assert len(history) == MAX_TRIES
    assert step is Then.UNAVAILABLE


def test_pauses_double_and_are_jittered_and_capped() -> None:
    pauses = [pause_before(n, Happening.SILENCE, 0.0, None) for n in (1, 2, 3, 9)]
    assert pauses == [0.25, 0.5, 1.0, 4.0]
    assert pause_before(1, Happening.SILENCE, 0.999, None) == pytest.approx(0.5, abs=0.001)


def test_a_stale_connection_is_replaced_at_once() -> None:
    assert pause_before(1, Happening.RESET, 0.5, None) == 0.0


def test_retry_after_is_obeyed_up_to_half_a_minute() -> None:
    assert pause_before(1, Happening.BUSY, 0.0, 3.0) == 3.0
    assert pause_before(1, Happening.BUSY, 0.0, 86400.0) == 30.0


WAYS: dict[Happening, list[Reply]] = {
    Happening.SILENCE: [HANG, RESET, SILENT_CLOSE, GARBAGE],
    Happening.BUSY: [status(429)],
    Happening.INTERNAL: [broken()],
    Happening.GATEWAY: [status(502), status(503)],
}
LIVED = [
    pytest.param(endpoint, happening, reply, id=f"{endpoint.row}-{happening.value}-{number}")
    for endpoint in ENDPOINTS
    for happening, replies in WAYS.items()
    for number, reply in enumerate(replies)
]


@pytest.mark.parametrize(("endpoint", "happening", "reply"), LIVED)
async def test_the_table_is_lived(
    endpoint: Endpoint,
    happening: Happening,
    reply: Reply,
    raw: RawServer,
    make_api: MakeAPI,
    pauses: list[float],
) -> None:
    raw.replies = [reply]
    raw.token_replies = [ok({"access_token": jwt()}, headers=["Connection: close"])]
    api = make_api(raw.url)
    if reply is HANG:
        endpoint = replace(endpoint, read_timeout=0.1)
    rule = endpoint.rules[happening]
    outgoing = Outgoing("/x", body={} if endpoint.method == "POST" else None)

    if rule.then is Then.UNAVAILABLE:
        with pytest.raises(Unavailable) as caught:
            await api.exchange(endpoint, outgoing)
        assert caught.value.endpoint == endpoint.name
    else:
        outcome = await api.exchange(endpoint, outgoing)
        assert isinstance(outcome, NoAnswer if rule.then is Then.UNCLEAR else Answer)

    assert len(raw.of("/x")) == 1 + rule.repeats
    assert len(pauses) == rule.repeats


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.row)
async def test_an_unreachable_server_has_been_asked_nothing(
    endpoint: Endpoint, make_api: MakeAPI, pauses: list[float]
) -> None:
    async with RawServer().running() as gone:
        url = gone.url
    with pytest.raises(Unavailable, match=r"no connection \(Connection refused\)"):
        await make_api(url).exchange(endpoint, Outgoing("/x"))
    assert len(pauses) in (endpoint.rules[Happening.UNSENT].repeats, 2)  # 2: of the token


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.row)
async def test_a_stale_connection_costs_one_harmless_repeat(
    endpoint: Endpoint, raw: RawServer, make_api: MakeAPI, pauses: list[float]
) -> None:
    """The second request on a connection is reset; a request on a connection of its own is not."""
    seen: set[int] = set()

    def reply(request: Request) -> Reply:
        if request.connection in seen:
            return RESET
        seen.add(request.connection)
        return ok()

    raw.replies = reply
    api = make_api(raw.url)
    await api.exchange(BY_ROW["info"], Outgoing("/info"))
    outcome = await api.exchange(endpoint, Outgoing("/x"))
    repeated = endpoint.rules[Happening.RESET].repeats if not endpoint.own_connection else 0
    if endpoint.own_connection or repeated:
        assert isinstance(outcome, Answer)
        assert outcome.status == 200
    else:
        assert isinstance(outcome, NoAnswer)
    assert len(raw.of("/x")) == 1 + repeated
    assert pauses == [0.0] * repeated
