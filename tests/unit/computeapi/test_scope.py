import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from computepool_api.scope import Scope, scope_of_task

WORD = st.sampled_from(["a", "b", "C_1"])
SCOPES = st.builds(
    lambda words, depth: Scope(*words[:depth]),
    st.tuples(WORD, WORD, WORD),
    st.integers(0, 3),
)
HEX = "52f28f2379c82d05107045627159dae2"


@given(SCOPES)
def test_text_and_back(scope: Scope) -> None:
    assert Scope.parse(str(scope)) == scope


def test_wildcards_are_nulls_on_the_wire() -> None:
    assert Scope.parse("a-*-*").to_wire() == {"org": "a", "campaign": None, "project": None}
    assert Scope("a", "*", "*") == Scope("a")
    assert str(Scope()) == "*-*-*"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a-b",
        "a-b-c-d",
        "*-b-c",
        "*-*-c",
        "a-*-c",
        "1-b-c",
        "a-_b-c",
        "a-b-é",
        "a-b-c\n",
        "a--c",
    ],
)
def test_what_the_server_would_refuse(text: str) -> None:
    with pytest.raises(ValueError, match=r"scope|wildcard"):
        Scope.parse(text)


@given(SCOPES, SCOPES)
def test_containment_is_that_of_the_sets_of_projects(one: Scope, other: Scope) -> None:
    words = ["a", "b", "C_1", "elsewhere"]
    places = [Scope(*place) for place in itertools.product(words, repeat=3)]
    inside = {place for place in places if other.contains(place)}
    assert one.contains(other) == (inside <= {place for place in places if one.contains(place)})


def test_scope_of_a_task() -> None:
    assert scope_of_task(f"Task-{HEX}-a-b-C_1") == Scope("a", "b", "C_1")


@pytest.mark.parametrize(
    "key",
    [
        "",
        "Task",
        f"Task-{HEX}-a-b",
        f"Task-{HEX}-a-b-*",
        f"TaskHub-{HEX}-a-b-c",
        "Task--a-b-c",
        f"Task-{HEX}-a-b-c/..",
    ],
)
def test_what_is_no_task_key(key: str) -> None:
    with pytest.raises(ValueError, match="is no Task key"):
        scope_of_task(key)
