import io
import json
import logging
from pathlib import Path

import pytest

from computepool_worker import logs
from computepool_worker.logs import EventLog, JSONFormatter, TextFormatter


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def log_to(stream: io.StringIO, formatter: logging.Formatter) -> EventLog:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logger = logging.getLogger(f"test.{id(stream)}")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.addHandler(handler)
    return EventLog(logger)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        ("two words", '"two words"'),
        ("two\nlines", '"two\\nlines"'),
        ('a "quote"', '"a \\"quote\\""'),
        ("a=b", '"a=b"'),
        ("", '""'),
        (True, "true"),
        (3, "3"),
        (1.23456, "1.235"),
        ("bell\x07", '"bell\\u0007"'),
        ("café", "café"),
    ],
)
def test_a_value_never_breaks_the_line(stream: io.StringIO, value: object, text: str) -> None:
    log_to(stream, TextFormatter()).info("something", value=value, missing=None)
    line = stream.getvalue()
    assert line.count("\n") == 1
    assert line.endswith(f" level=info event=something value={text}\n")


def test_bound_values_come_with_every_event(stream: io.StringIO) -> None:
    log = log_to(stream, JSONFormatter()).bind(service="x-1").bind(task="Task-1")
    log.warning("something", count=3)
    members = json.loads(stream.getvalue())
    assert members.pop("time").endswith("Z")
    assert members == {
        "level": "warning", "event": "something", "service": "x-1", "task": "Task-1", "count": 3,
    }  # fmt: skip


def test_a_fault_of_the_program_is_one_line_with_its_traceback(stream: io.StringIO) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        _ = 1 / 0
    log_to(stream, TextFormatter()).bug("worker.broken", caught.value)
    assert stream.getvalue().count("\n") == 1
    assert "ZeroDivisionError: division by zero" in stream.getvalue()


def test_what_a_library_says_is_in_the_same_form(stream: io.StringIO) -> None:
    record = logging.LogRecord("httpx", logging.WARNING, "", 1, "a %s", ("word",), None)
    assert (
        TextFormatter()
        .format(record)
        .endswith('level=warning event=library logger=httpx text="a word"')
    )


@pytest.fixture
def _restored_logging() -> object:
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    yield
    for handler in list(root.handlers):
        if handler not in before[0]:
            root.removeHandler(handler)
            handler.close()
    root.handlers[:] = before[0]
    root.setLevel(before[1])


@pytest.mark.usefixtures("_restored_logging")
def test_the_log_goes_to_a_file_and_leaves_requests_out(tmp_path: Path) -> None:
    file = tmp_path / "logs" / "worker.log"
    log = logs.configure(level="DEBUG", form="json", logfile=file)
    log.debug("something")
    logging.getLogger("httpx").info("HTTP Request: POST https://x/token")
    logging.getLogger().handlers[0].flush()
    (line,) = file.read_text().splitlines()
    assert json.loads(line)["event"] == "something"


@pytest.mark.usefixtures("_restored_logging")
def test_lines_for_the_log_before_are_not_lost(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "worker.log"
    logs.configure(level="INFO", form="text", logfile=file).info("first")
    logs.configure(level="INFO", form="text", logfile=file).info("second")
    logs.configure(level="INFO", form="text", logfile=None).info("third")
    logging.getLogger().handlers[0].flush()
    assert [line.rpartition("=")[2] for line in file.read_text().splitlines()] == [
        "first", "second",
    ]  # fmt: skip
    assert capfd.readouterr().err.endswith("level=info event=third\n")


def test_what_is_dropped_is_told_like_any_event() -> None:
    assert (
        TextFormatter().format(logs.dropped(7)).endswith("level=warning event=log.dropped lines=7")
    )
