import fcntl
import logging
import os
import threading
import time
from collections.abc import Iterator

import pytest

from computepool_worker.outflow import OutflowHandler

LINE = "x" * 99


def dropped(lines: int) -> logging.LogRecord:
    return logging.LogRecord("test", logging.WARNING, "", 0, f"dropped {lines}", None, None)


class Pipe:
    """A pipe of one page, what writes to it, and who may read it."""

    def __init__(self, capacity: int) -> None:
        self.reader, self.writer = os.pipe()
        fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, 4096)
        self.handler = OutflowHandler(self.writer, dropped, owned=True, capacity=capacity)

    def log(self, text: str) -> None:
        self.handler.handle(logging.LogRecord("test", logging.INFO, "", 0, text, None, None))

    def read(self, count: int) -> list[str]:
        """Read until there are ``count`` lines."""
        found = b""
        while found.count(b"\n") < count:
            found += os.read(self.reader, 4096)
        return found.decode().splitlines()

    def read_to(self, last: str) -> list[str]:
        """Read until the line ``last`` has come."""
        found = b""
        while not found.endswith(f"{last}\n".encode()):
            found += os.read(self.reader, 4096)
        return found.decode().splitlines()

    def end(self) -> None:
        self.handler.close()
        if self.reader >= 0:
            os.close(self.reader)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe(capacity=1000)
    yield pipe
    pipe.end()


def test_lines_come_in_order(pipe: Pipe) -> None:
    for number in range(9):
        pipe.log(f"line {number}")
    assert pipe.read(9) == [f"line {number}" for number in range(9)]


def test_what_no_utf8_can_say_is_written_all_the_same(pipe: Pipe) -> None:
    pipe.log("caf\udce9")
    assert pipe.read(1) == ["caf\\udce9"]


def test_a_reader_that_stalls_holds_nobody_and_hears_how_much_it_has_missed(pipe: Pipe) -> None:
    begin = time.monotonic()
    for number in range(200):
        pipe.log(f"{number:03} {LINE}"[:99])
    assert time.monotonic() - begin < 5
    kept: list[str] = []
    reading = threading.Thread(target=lambda: kept.extend(pipe.read_to("later")))
    reading.start()
    for _ in range(30):
        pipe.handler.flush()
    pipe.log("later")
    reading.join()
    # Usually one gap; more if the thread was late to find that nobody reads.
    following = 0
    for line in kept[:-1]:
        if line.startswith("dropped "):
            following += int(line.removeprefix("dropped "))
        else:
            assert int(line[:3]) == following
            following += 1
    assert following == 200
    assert any(line.startswith("dropped ") for line in kept)
    assert kept[-1] == "later"


def test_a_line_longer_than_the_queue_is_written(pipe: Pipe) -> None:
    pipe.log("y" * 3000)
    pipe.handler.flush()
    assert pipe.read(1) == ["y" * 3000]


def test_the_end_waits_for_the_last_lines_but_not_for_a_reader_that_stalls(pipe: Pipe) -> None:
    pipe.log("read")
    pipe.handler.flush()
    assert pipe.read(1) == ["read"]
    pipe.log("y" * 8000)
    begin = time.monotonic()
    pipe.handler.flush()
    assert 0.9 < time.monotonic() - begin < 2


def test_a_slow_reader_gets_the_last_line(pipe: Pipe) -> None:
    pipe.log("y" * 8000)
    reading = threading.Timer(0.3, lambda: lines.extend(pipe.read(1)))
    lines: list[str] = []
    reading.start()
    pipe.handler.flush()
    reading.join()
    assert lines == ["y" * 8000]


def test_a_reader_that_has_gone_costs_lines_and_nothing_else(pipe: Pipe) -> None:
    os.close(pipe.reader)
    pipe.reader = -1
    for number in range(3):
        pipe.log(f"{number}")
        pipe.handler.flush()


def test_a_pipe_that_does_not_block_loses_nothing(pipe: Pipe) -> None:
    os.set_blocking(pipe.writer, False)
    pipe.log("y" * 8000)
    assert pipe.read(1) == ["y" * 8000]


def test_what_is_its_own_it_closes(pipe: Pipe) -> None:
    pipe.log("last")
    pipe.handler.close()
    assert pipe.read(1) == ["last"]
    assert os.read(pipe.reader, 1) == b""
