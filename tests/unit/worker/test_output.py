import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from computepool_worker.output import LineGate, Tail


@given(st.lists(st.binary(max_size=40), max_size=20), st.integers(1, 30))
def test_a_tail_keeps_the_end_however_it_came(pieces: list[bytes], limit: int) -> None:
    tail = Tail(limit)
    for piece in pieces:
        tail.feed(piece)
    assert bytes(tail._kept) == b"".join(pieces)[-limit:]


def test_the_last_lines_of_a_tail() -> None:
    tail = Tail(1000)
    tail.feed(b"one\n\ntwo  \nthree\n \nfo")
    tail.feed(b"ur")
    assert tail.lines(3) == ["two", "three", "four"]
    assert Tail(10).lines(3) == []


def gate(per_second: float = 100, width: int = 50) -> LineGate:
    return LineGate(per_second=per_second, width=width)


@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        ([b"one\ntwo\n"], ["one", "two"]),
        ([b"on", b"e\ntw", b"o\n"], ["one", "two"]),
        ([b"10%\r20%\r\n"], ["10%", "20%"]),
        ([b"\n\n  \none\n"], ["one"]),
        ([b"x" * 60 + b"\ny\n"], ["x" * 50 + " ...", "y"]),
        ([b"x" * 30, b"x" * 30, b"\ny\n"], ["x" * 50 + " ...", "y"]),
        ([b"caf\xc3\xa9 \xff\n"], ["café \ufffd"]),
        ([b"no end"], []),
    ],
)
def test_lines(pieces: list[bytes], lines: list[str]) -> None:
    through = gate()
    assert [line for piece in pieces for line in through.feed(piece, 0.0)] == lines


def test_the_unfinished_last_line_is_not_lost() -> None:
    through = gate()
    through.feed(b"one\ntwo", 0.0)
    assert through.finish() == ["two"]
    assert through.finish() == []


def test_no_more_lines_than_the_rate_allows() -> None:
    through = gate(per_second=3)
    assert through.feed(b"1\n2\n3\n4\n5\n", 0.0) == ["1", "2", "3"]
    assert through.take_dropped() == 2
    assert through.take_dropped() == 0
    assert through.feed(b"6\n7\n", 0.4) == ["6"]
    assert through.take_dropped() == 1
    assert through.feed(b"8\n9\n10\n11\n", 100.0) == ["8", "9", "10"]


def test_a_line_that_began_during_a_flood_is_whole() -> None:
    through = gate(per_second=1)
    assert through.feed(b"1\n2\n3\nbeg", 0.0) == ["1"]
    assert through.feed(b"in\n", 10.0) == ["begin"]


def test_a_flood_is_cheap_and_takes_no_memory() -> None:
    through = gate()
    chunk = b"x" * 99 + b"\n"
    chunk *= 2500
    began = time.process_time()
    for number in range(200):
        through.feed(chunk, number / 1000)
    assert time.process_time() - began < 1
    assert through.take_dropped() > 490_000
    assert len(through._line) <= 50
    through.feed(b"y" * 10**7, 1.0)
    assert len(through._line) <= 50
