"""Clock, ids, scopes, tokens, settings: the small values."""

import pytest

from simulator.clock import VirtualClock
from simulator.errors import BrokenError
from simulator.identifiers import ComputeID, random_ids, scope_of_key
from simulator.scopes import Scope, minimal, visible_part
from simulator.settings import VERSIONS, Settings, TransformationForm, settings_of_version
from simulator.tokens import InvalidTokenError, TokenData, issue, read

HEX = "0" * 32


def test_virtual_time_only_goes_forward() -> None:
    clock = VirtualClock(lambda: 100.0)
    assert clock.advance(5) == clock.now() == 105.0
    assert clock.offset == 5
    with pytest.raises(ValueError, match="only goes forward"):
        clock.advance(-1)


def test_seeded_ids_repeat() -> None:
    one, same, other, free = random_ids(1), random_ids(1), random_ids(2), random_ids()
    first = one()
    assert first == same() != other()
    assert len(first) == len(free()) == 32
    assert one() != first


@pytest.mark.parametrize("name", ["m", "m.g:r_1", "M" * 5000])
@pytest.mark.parametrize("uuid", [HEX, "A" * 32, f"{{{HEX}}}", f"urn:uuid:{HEX}"])
def test_ids_as_the_server_takes_them(name: str, uuid: str) -> None:
    text = f"{name}-{uuid}"
    assert str(ComputeID.parse(text, "ComputeManagerID")) == text


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (f"my-manager-{HEX}", "must have the form"),
        ("manager", "must have the form"),
        ("m-1924bc13-19d1-447a-ab06-a98820acbee2", "must have the form"),
        (f"1m-{HEX}", "must either start"),
        (f"_m-{HEX}", "must either start"),
        (f"-{HEX}", "must either start"),
        (f"é-{HEX}", "must either start"),
        (f"m\n-{HEX}", "must either start"),
        ("m-", "Could not interpret"),
        ("m-zzz", "Could not interpret"),
        (f"m-{HEX[1:]}", "Could not interpret"),
    ],
)
def test_malformed_ids(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        ComputeID.parse(text, "ComputeManagerID")


def test_the_scope_in_a_key() -> None:
    assert scope_of_key(f"Task-{HEX}-a-b-c") == Scope("a", "b", "c")
    with pytest.raises(BrokenError):
        scope_of_key("zzz")


@pytest.mark.parametrize(
    ("wide", "narrow", "contains"),
    [
        ("*-*-*", "a-b-c", True),
        ("a-*-*", "a-b-c", True),
        ("a-b-c", "a-b-c", True),
        ("a-b-c", "a-b-*", False),
        ("a-b-*", "a-x-c", False),
    ],
)
def test_containment(wide: str, narrow: str, contains: bool) -> None:
    assert Scope.parse(wide).contains(Scope.parse(narrow)) is contains


@pytest.mark.parametrize("text", ["a-b", "a-b-c-d", "a--c", ""])
def test_malformed_scopes(text: str) -> None:
    with pytest.raises(ValueError, match="not a scope"):
        Scope.parse(text)


def test_scopes_inside_others_are_dropped() -> None:
    texts = ["a-b-c", "a-*-*", "x-y-z", "a-q-*"]
    assert [str(s) for s in minimal(map(Scope.parse, texts))] == ["a-*-*", "x-y-z"]


@pytest.mark.parametrize(
    ("query", "granted", "visible"),
    [
        ("a-b-c", ["*-*-*"], ["a-b-c"]),
        ("a-*-*", ["a-b-*", "a-b-c", "x-y-z"], ["a-b-*"]),
        ("q-*-*", ["a-b-*"], []),
        ("*-*-*", [], []),
    ],
)
def test_a_query_is_cut_down_to_what_is_granted(
    query: str, granted: list[str], visible: list[str]
) -> None:
    assert [str(s) for s in visible_part(Scope.parse(query), granted)] == visible


def test_a_token_says_whose_it_is_until_it_expires() -> None:
    data = TokenData("me", ("a-b-c",))
    token = issue(data, secret="secret", expires_at=100)
    assert read(token, secret="secret", now=100) == data
    with pytest.raises(InvalidTokenError):
        read(token, secret="secret", now=101)


@pytest.mark.parametrize("spoil", ["", "garbage", "a.b.c", "."])
def test_foreign_and_malformed_tokens(spoil: str) -> None:
    token = issue(TokenData("me", ()), secret="secret", expires_at=100)
    with pytest.raises(InvalidTokenError):
        read(spoil, secret="secret", now=0)
    with pytest.raises(InvalidTokenError):
        read(token, secret="other", now=0)
    with pytest.raises(InvalidTokenError):
        read(token[:-2], secret="secret", now=0)


def test_settings_change_by_name_and_type() -> None:
    changed = Settings().changed(
        {
            "max_failures": "5",
            "service_expiry": 4,
            "unimportable_modules": ["m"],
            "transformation_form": "json_string",
            "database_up": False,
        }
    )
    assert changed.max_failures == 5
    assert changed.service_expiry == 4.0
    assert changed.unimportable_modules == ("m",)
    assert changed.transformation_form is TransformationForm.JSON_STRING
    assert not changed.database_up


@pytest.mark.parametrize(
    "changes",
    [
        {"nonsense": 1},
        {"database_up": 1},
        {"max_failures": True},
        {"unimportable_modules": "m"},
        {"transformation_form": "xml"},
        {"service_expiry": "soon"},
    ],
)
def test_settings_that_do_not_fit(changes: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError)):
        Settings().changed(changes)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_has_settings(version: str) -> None:
    assert (settings_of_version(version) == Settings()) is (version == "0.8.0")


def test_unknown_versions_are_named() -> None:
    with pytest.raises(ValueError, match="no such server version: '9'"):
        settings_of_version("9")
