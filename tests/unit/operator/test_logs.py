"""One line per event: words, then facts as fields."""

import json
import logging
import subprocess
import sys

import pytest

from computepool_operator.logs import JSONFormatter, TextFormatter

logger = logging.getLogger("computepool_operator.test")


@pytest.fixture
def last(caplog: pytest.LogCaptureFixture) -> "Last":
    caplog.set_level(logging.INFO)
    return Last(caplog)


class Last:
    """The last record, in either form."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog

    def json(self) -> dict[str, object]:
        line = JSONFormatter().format(self._caplog.records[-1])
        assert "\n" not in line
        read: dict[str, object] = json.loads(line)
        return read

    def text(self) -> str:
        return TextFormatter().format(self._caplog.records[-1])


def test_json_has_time_level_event_and_facts(last: Last) -> None:
    logger.info("job created", extra={"pool": "a100", "number": 3})
    line = last.json()
    assert str(line.pop("time")).endswith("Z")
    assert line == {
        "level": "info",
        "logger": "computepool_operator.test",
        "event": "job created",
        "pool": "a100",
        "number": 3,
    }


def test_text_is_for_people(last: Last) -> None:
    logger.warning("watch broken", extra={"path": "/api/v1/pods", "error": "timed out", "none": ""})
    assert last.text()[24:] == (' WARNING watch broken path=/api/v1/pods error="timed out" none=""')


def test_text_without_facts_ends_with_the_event(last: Last) -> None:
    logger.info("serving pools")
    assert last.text().endswith("INFO    serving pools")


def test_a_fact_of_several_lines_stays_on_one(last: Last) -> None:
    logger.info("x", extra={"error": "a\nb"})
    assert "\n" not in last.text()


def test_a_fact_that_json_does_not_know_is_written_as_text(last: Last) -> None:
    logger.info("x", extra={"path": ValueError("odd")})
    assert last.json()["path"] == "odd"


def test_a_traceback_is_a_field(last: Last) -> None:
    try:
        int("a bug")
    except ValueError:
        logger.exception("cycle failed")
    assert "ValueError: invalid literal" in str(last.json()["traceback"])
    assert "ValueError: invalid literal" in last.text()


def test_kopfs_own_fields_are_left_out(last: Last) -> None:
    logger.info("x", extra={"k8s_ref": {"uid": "1"}, "k8s_skip": True, "settings": object()})
    assert set(last.json()) == {"time", "level", "logger", "event"}


SCRIPT = """
import logging
from computepool_operator.logs import set_up
set_up({log_format!r}, debug={debug})
logging.getLogger("computepool_operator.loop").info("ours", extra={{"pool": "a100"}})
for name in ("kopf.objects", "httpx", "kubernetes.aio"):
    logging.getLogger(name).info("theirs, in detail")
    logging.getLogger(name).warning("theirs, of importance")
"""


@pytest.mark.parametrize("log_format", ["json", "text"])
@pytest.mark.parametrize(("debug", "lines"), [(False, 4), (True, 7)])
def test_a_process_writes_each_event_once_to_stderr(
    log_format: str, debug: bool, lines: int
) -> None:
    script = SCRIPT.format(log_format=log_format, debug=debug)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    written = done.stderr.splitlines()
    assert len(written) == lines
    assert sum("ours" in line for line in written) == 1
    if log_format == "json":
        assert all(json.loads(line)["event"] for line in written)
