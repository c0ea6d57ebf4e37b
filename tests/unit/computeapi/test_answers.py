import pytest
from hypothesis import given
from hypothesis import strategies as st

from computepool_api.answers import NOT_JSON, Answer, check_echo, read_answer, refusal, rejection
from computepool_api.endpoints import CLAIM, FETCH, INFO, PUSH, Endpoint
from computepool_api.errors import (
    CredentialsRefused,
    InvalidRequest,
    Misdirected,
    ScopeRefused,
    Unavailable,
    UnexpectedAnswer,
)

TARGETED = "Targeted scope 'odd-a-b' not accessible via scopes for this identity: ['rig-c-p']."


@given(st.integers(200, 599), st.binary(max_size=80), st.text(max_size=20))
def test_reading_an_answer_never_raises(status: int, raw: bytes, header: str) -> None:
    answer = read_answer(status, {"location": header, "retry-after": header}, raw)
    assert len(answer.detail) < 700
    assert "\n" not in answer.detail


def test_null_is_not_no_json() -> None:
    assert read_answer(200, {}, b"null").body is None
    assert read_answer(200, {}, b"<html>").body is NOT_JSON
    assert read_answer(200, {}, b"").body is NOT_JSON


@pytest.mark.parametrize(
    ("raw", "detail"),
    [
        (b'{"detail": "No record\\nfor it"}', "No record for it"),
        (b"Internal Server Error", "Internal Server Error"),
        (b"", ""),
        (
            b'{"detail": [{"loc": ["body", "count"], "msg": "Missing", "input": "secret"}, 3]}',
            "body.count: Missing; invalid",
        ),
    ],
)
def test_details_in_one_line_without_what_was_sent(raw: bytes, detail: str) -> None:
    assert read_answer(422, {}, raw).detail == detail


def test_a_redirect_is_shown_without_secrets() -> None:
    answer = read_answer(
        308, {"location": "https://user:secret@host:8443/prefix/ping?key=secret"}, b""
    )
    assert answer.detail == "a redirect to https://host:8443/prefix/ping, which is not followed"
    assert isinstance(rejection(INFO, answer), InvalidRequest)


def test_hints_for_a_wrong_url_and_a_small_proxy() -> None:
    assert "path prefix included" in read_answer(404, {}, b'{"detail": "Not Found"}').detail
    assert "client_max_body_size" in read_answer(413, {}, b"").detail


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (204, UnexpectedAnswer),
        (301, InvalidRequest),
        (400, InvalidRequest),
        (403, InvalidRequest),
        (404, Misdirected),
        (405, InvalidRequest),
        (413, InvalidRequest),
        (422, InvalidRequest),
        (500, Unavailable),
    ],
)
def test_rejections(status: int, error: type[Exception]) -> None:
    assert type(rejection(INFO, Answer(status, None, "why"))) is error


@pytest.mark.parametrize(
    ("endpoint", "body", "error"),
    [
        (PUSH, b"<html>Forbidden</html>", Misdirected),
        (PUSH, b'{"detail": "Not authenticated"}', InvalidRequest),
        (CLAIM, b"<html>Forbidden</html>", InvalidRequest),
    ],
)
def test_a_403_to_a_push_may_be_a_proxys(
    endpoint: Endpoint, body: bytes, error: type[Exception]
) -> None:
    assert type(rejection(endpoint, read_answer(403, {}, body))) is error


@pytest.mark.parametrize("status", [200, 401])
def test_what_is_no_rejection(status: int) -> None:
    with pytest.raises(ValueError, match="no rejection"):
        rejection(INFO, Answer(status, None))


def test_the_second_401_is_read_by_its_detail() -> None:
    assert isinstance(refusal(FETCH, Answer(401, None, TARGETED)), ScopeRefused)
    for detail in ("Could not validate credentials", "Not authenticated"):
        assert isinstance(refusal(FETCH, Answer(401, None, detail)), CredentialsRefused)
    # Claims are cut down to the scopes of the identity: no scope is ever refused there.
    assert isinstance(refusal(CLAIM, Answer(401, None, "something else")), CredentialsRefused)


def test_a_success_echoes_the_id() -> None:
    check_echo(INFO, Answer(200, "id"), "id")
    with pytest.raises(UnexpectedAnswer, match='expected "id"'):
        check_echo(INFO, Answer(200, {"id": "id"}), "id")
    with pytest.raises(InvalidRequest):
        check_echo(INFO, Answer(400, None, "why"), "id")
