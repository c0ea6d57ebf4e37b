"""The child's main loop: reads requests, lets the science do them, writes answers.

It imports no science itself, so that it can be tested where there is none.
"""

import contextlib
import gc
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Protocol

from computepool_worker.boundary import (
    Answer,
    Done,
    Execute,
    Prepare,
    Ready,
    Refused,
    decode,
    encode,
)

log = logging.getLogger(__name__)


class Science(Protocol):
    """What can execute Tasks."""

    def prepare(self, request: Prepare) -> Ready:
        """Import what takes long, look at the device, and say whether Tasks can be executed."""

    def execute(self, request: Execute) -> Done:
        """Execute a Task and write its result.

        Raises OSError or MemoryError if this machine is to blame for there being no result, any
        other Exception if it is the Task's.
        """


def serve(requests: IO[bytes], answers: IO[bytes], science: Science) -> None:
    """Answer requests until there are no more."""
    for line in requests:
        match decode(line):
            case Prepare() as request:
                _say(answers, _prepare(request, science))
            case Execute() as request:
                _say(answers, _execute(request, science))
                # A finished simulation's device memory is freed before the next Task needs it.
                gc.collect()
            case _:
                continue


def _say(answers: IO[bytes], answer: Answer) -> None:
    answers.write(encode(answer))
    answers.flush()


def _prepare(request: Prepare, science: Science) -> Ready:
    try:
        return science.prepare(request)
    except Exception as error:
        log.exception("the child cannot get ready")
        return Ready(ok=False, reason=f"{type(error).__name__}: {error}")


def _execute(request: Execute, science: Science) -> Done | Refused:
    try:
        with _workplace(Path(request.scratch)):
            return science.execute(request)
    except (OSError, MemoryError) as error:
        log.exception("there is no result for %s", request.task)
        return Refused(request.task, "host", f"{type(error).__name__}: {error}")
    except Exception as error:
        log.exception("there is no result for %s", request.task)
        return Refused(request.task, "task", f"{type(error).__name__}: {error}")


@contextlib.contextmanager
def _workplace(directory: Path) -> Iterator[None]:
    """Let files that the science leaves anywhere land in a directory that is removed."""
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = tempfile.tempdir = str(directory)
    os.chdir(directory)
    try:
        yield
    finally:
        os.chdir("/")
        tempfile.tempdir = None
        if before is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before
