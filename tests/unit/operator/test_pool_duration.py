"""Durations as people write them."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from computepool_operator.duration import format_duration, parse_duration

H, M, S, MS = (
    timedelta(hours=1),
    timedelta(minutes=1),
    timedelta(seconds=1),
    timedelta(milliseconds=1),
)


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("0s", timedelta()),
        ("30s", 30 * S),
        ("90m", 90 * M),
        ("1h30m", H + 30 * M),
        ("1m500ms", M + 500 * MS),
        ("1s1s", 2 * S),
        ("5ms4s3m2h", 2 * H + 3 * M + 4 * S + 5 * MS),
        ("99999h", 99_999 * H),
    ],
)
def test_parse(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration


@pytest.mark.parametrize(
    "text",
    [
        "",
        "30",
        "s",
        "-30s",
        "+30s",
        "1.5h",
        "1d",
        "1 h",
        "1h ",
        "1h\n",
        "1us",
        "100000h",
        "1h1h1h1h1h",
        "PT30S",
        "\u0661s",
        "30S",
    ],
)
def test_what_is_no_duration_is_refused_with_advice(text: str) -> None:
    with pytest.raises(ValueError, match="as in 1h30m"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(), "0s"),
        (30 * S, "30s"),
        (60 * S, "1m"),
        (90 * M, "1h30m"),
        (timedelta(days=7), "168h"),
        (H + MS, "1h1ms"),
        (timedelta(microseconds=1999), "1ms"),
        (timedelta(microseconds=999), "0s"),
    ],
)
def test_format(duration: timedelta, text: str) -> None:
    assert format_duration(duration) == text


@pytest.mark.parametrize("duration", [-MS, 100_000 * H])
def test_what_cannot_be_written_is_refused(duration: timedelta) -> None:
    with pytest.raises(ValueError, match="outside 0s to 99999h"):
        format_duration(duration)


@given(st.integers(min_value=0, max_value=100_000 * 3_600_000 - 1))
def test_what_is_written_is_read_back(milliseconds: int) -> None:
    duration = milliseconds * MS
    assert parse_duration(format_duration(duration)) == duration
