import pytest

from computepool_worker.variables import MissingVariableError, Substituted, substitute


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("plain", "plain"),
        ("${A}", "one"),
        ("x/${A}/${B}", "x/one/two"),
        ("${NONE:-three}", "three"),
        ("${EMPTY:-three}", "three"),
        ("${EMPTY}", ""),
        ("${A:-three}", "one"),
        ("${NONE:-}", ""),
        ("$${A}", "${A}"),
        ("$A {A} ${} ${1}", "$A {A} ${} ${1}"),
        ("${NESTED}", "${A}"),
    ],
)
def test_references(text: str, becomes: str) -> None:
    environment = {"A": "one", "B": "two", "EMPTY": "", "NESTED": "${A}"}
    assert substitute(text, environment) == becomes


def test_lists_and_what_is_no_text() -> None:
    assert substitute(["${A}", 3, None], {"A": "one"}) == ["one", 3, None]
    assert substitute({"a": "${A}"}, {}) == {"a": "${A}"}


def test_a_missing_variable() -> None:
    with pytest.raises(MissingVariableError, match="the environment variable NONE is not set"):
        substitute("${NONE}", {"NONE_": "x"})


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("3", 3),
        ("1.5", 1.5),
        ("true", True),
        ('["a"]', ["a"]),
        ("", None),
        ("True", True),
        ("yes", True),
        ("off", False),
        ("~", None),
        ("null", None),
        ("[a-b-c, d-*-*]", ["a-b-c", "d-*-*"]),
        ("a: b", "a: b"),
        ("*abc", "*abc"),
        ("&a b", "&a b"),
        ("#x", "#x"),
        ("a #b", "a #b"),
        ("%x", "%x"),
        ("@x", "@x"),
        ("| x", "| x"),
        ("'x'", "'x'"),
        ("!!x y", "!!x y"),
        ("2026-01-01", "2026-01-01"),
        ("2026-13-45", "2026-13-45"),
    ],
)
def test_what_it_would_be_without_quotes(text: str, plain: object) -> None:
    found = substitute("${A}", {"A": text})
    assert isinstance(found, Substituted)
    assert found.names == ("A",)
    assert found.plain() == plain
