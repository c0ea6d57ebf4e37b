import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from computepool_api.errors import UnexpectedAnswer
from computepool_api.models import (
    Claim,
    OkInstruction,
    ShutdownInstruction,
    SkipInstruction,
    parse_claim,
    parse_instruction,
    parse_result_ref,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=8,
)


def test_the_three_instructions() -> None:
    body: dict[str, object] = {"instruction": "OK", "compute_service_ids": ["s-1"], "num_tasks": 3}
    assert parse_instruction(body, "x") == OkInstruction(3, ("s-1",))
    body = {"instruction": "SKIP", "compute_service_ids": []}
    assert parse_instruction(body, "x") == SkipInstruction(())
    body = {"instruction": "SHUTDOWN", "message": "gone", "of a newer server": 1}
    assert parse_instruction(body, "x") == ShutdownInstruction("gone")


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        "OK",
        {},
        {"instruction": "ok", "compute_service_ids": [], "num_tasks": 0},
        {"instruction": "OK", "compute_service_ids": []},
        {"instruction": "OK", "compute_service_ids": [], "num_tasks": None},
        {"instruction": "OK", "compute_service_ids": [], "num_tasks": True},
        {"instruction": "OK", "compute_service_ids": [], "num_tasks": -1},
        {"instruction": "OK", "compute_service_ids": [], "num_tasks": "3"},
        {"instruction": "OK", "compute_service_ids": [1], "num_tasks": 3},
        {"instruction": "OK", "compute_service_ids": None, "num_tasks": 3},
        {"instruction": "SKIP"},
        {"instruction": "SHUTDOWN"},
        {"instruction": "DANCE", "message": ""},
    ],
)
def test_an_unknown_instruction_is_never_a_number(body: object) -> None:
    with pytest.raises(UnexpectedAnswer, match="x answered 200: expected"):
        parse_instruction(body, "x")


def test_claims() -> None:
    assert parse_claim(None, "x") == Claim((), denied=True)
    assert parse_claim([], "x") == Claim((), denied=False)
    assert parse_claim(["t", None, None], "x") == Claim(("t",), denied=False)
    assert parse_claim(["t", "u", "v"], "x") == Claim(("t", "u", "v"), denied=False)


@given(JSON)
def test_parsers_answer_or_say_unexpected(body: object) -> None:
    for parse in (parse_instruction, parse_claim, parse_result_ref):
        with contextlib.suppress(UnexpectedAnswer):
            parse(body, "POST /x")


def test_an_unexpected_answer_is_not_quoted() -> None:
    with pytest.raises(UnexpectedAnswer) as caught:
        parse_instruction({"headers": "Bearer secret"}, "x")
    assert "secret" not in str(caught.value)
    assert "an object with headers" in str(caught.value)
