"""Logs: one line per event, as key=value pairs or as a JSON object, to stderr or to a file.

A log line says what happened in one word (``event``) and the plain values that belong to it. No
caller passes credentials here; what the libraries would say about requests is left out.
"""

import json
import logging
import os
import sys
import time
import traceback
from pathlib import Path

from computepool_worker.outflow import OutflowHandler

LOGGER = "computepool_worker"


class EventLog:
    """Writes events; ``bind`` gives one that adds the same values to each."""

    def __init__(self, logger: logging.Logger, **values: object) -> None:
        self._logger = logger
        self._values = values

    def bind(self, **values: object) -> "EventLog":
        """Return a log that adds ``values`` to every event."""
        return EventLog(self._logger, **{**self._values, **values})

    def debug(self, event: str, **values: object) -> None:
        """Say something that only helps to find a fault."""
        self._write(logging.DEBUG, event, values)

    def info(self, event: str, **values: object) -> None:
        """Say what happened as it should."""
        self._write(logging.INFO, event, values)

    def warning(self, event: str, **values: object) -> None:
        """Say what went wrong and is dealt with."""
        self._write(logging.WARNING, event, values)

    def error(self, event: str, **values: object) -> None:
        """Say what ends the worker before its time."""
        self._write(logging.ERROR, event, values)

    def bug(self, event: str, error: BaseException) -> None:
        """Say that this program has a fault, with the traceback of ``error``."""
        self._write(
            logging.CRITICAL, event, {"traceback": "".join(traceback.format_exception(error))}
        )

    def _write(self, level: int, event: str, values: dict[str, object]) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, event, extra={"values": {**self._values, **values}})


def configure(*, level: str, form: str, logfile: Path | None) -> EventLog:
    """Set the logging of this process up and return its log.

    ``form`` is ``text`` or ``json``. Raises OSError if ``logfile`` cannot be opened.
    """
    handler = _to_stderr() if logfile is None else _to_file(logfile)
    handler.setFormatter(JSONFormatter() if form == "json" else TextFormatter())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
        if isinstance(old, OutflowHandler):
            old.flush()
            old.close()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logger = logging.getLogger(LOGGER)
    logger.setLevel(level)
    return EventLog(logger)


def _to_stderr() -> logging.Handler:
    # None where the process was started without one: its number may be anything's then.
    if sys.stderr is None:
        return logging.NullHandler()
    return OutflowHandler(sys.stderr.fileno(), dropped)


def _to_file(logfile: Path) -> logging.Handler:
    logfile.parent.mkdir(parents=True, exist_ok=True)
    appending = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    return OutflowHandler(os.open(logfile, appending, 0o666), dropped, owned=True)


def dropped(lines: int) -> logging.LogRecord:
    """Return the record that says how many lines found no room."""
    record = logging.LogRecord(LOGGER, logging.WARNING, "", 0, "log.dropped", None, None)
    record.values = {"lines": lines}
    return record


def _members(record: logging.LogRecord) -> dict[str, object]:
    instant = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    values = getattr(record, "values", None)
    head: dict[str, object] = {
        "time": f"{instant}.{int(record.msecs):03d}Z",
        "level": record.levelname.lower(),
    }
    if values is None:
        return {**head, "event": "library", "logger": record.name, "text": record.getMessage()}
    shown = {name: value for name, value in values.items() if value is not None}
    return {**head, "event": record.getMessage(), **shown}


class TextFormatter(logging.Formatter):
    """``time=... level=... event=... key=value``; a value with a space in it stands in quotes."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of ``record``, never with a line break in it."""
        return " ".join(f"{name}={_text(value)}" for name, value in _members(record).items())


class JSONFormatter(logging.Formatter):
    """The same as one JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of ``record``."""
        return json.dumps(_members(record), default=str)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.3f}"
    text = str(value)
    if text and all(character.isprintable() and character not in ' "=' for character in text):
        return text
    return json.dumps(text, ensure_ascii=False)
