"""The child's main loop: reads requests, lets the science do them, writes answers.

It imports no science itself, so that it can be tested where there is none.
"""

import contextlib
import functools
import gc
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Protocol

from computepool_worker.boundary import (
    Answer,
    Begun,
    Done,
    Execute,
    Fail,
    Prepare,
    Ready,
    Refused,
    decode,
    encode,
)
from computepool_worker.child.nvml import DeviceMemory
from computepool_worker.child.usage import cpu_seconds, watched

log = logging.getLogger(__name__)


class Science(Protocol):
    """What can execute Tasks."""

    def prepare(self, request: Prepare) -> Ready:
        """Import what takes long, look at the device, and say whether Tasks can be executed."""

    def execute(self, request: Execute, tell: Callable[[Begun], None]) -> Done:
        """Execute a Task and write its result; ``tell`` of each unit that begins.

        Raises OSError or MemoryError if this machine is to blame for there being no result, any
        other Exception if it is the Task's.
        """

    def fail(self, request: Fail) -> Done:
        """Write a failed result for a Task that is not executed. Raises as ``execute``."""


def serve(requests: IO[bytes], answers: IO[bytes], science: Science) -> None:
    """Answer requests until there are no more."""
    device: DeviceMemory | None = None
    for line in requests:
        match decode(line):
            case Prepare() as request:
                ready = _prepare(request, science)
                uuid = ready.facts.get("device_uuid")
                device = None if uuid is None else DeviceMemory(uuid)
                _say(answers, ready)
            case Execute() as request:
                _say(answers, _execute(request, science, answers, device))
                # A finished simulation's device memory is freed before the next Task needs it.
                gc.collect()
            case Fail() as request:
                _say(answers, _attempt(request.task, functools.partial(science.fail, request)))
            case _:
                continue


def _say(answers: IO[bytes], answer: Answer) -> None:
    answers.write(encode(answer))
    answers.flush()


def _prepare(request: Prepare, science: Science) -> Ready:
    try:
        return science.prepare(request)
    except ImportError as error:
        log.exception("the child cannot get ready")
        return Ready(
            ok=False,
            reason=f"a library cannot be imported: {error}: take an image (or environment) that "
            "has gufe, OpenMM and what they need",
            fault="image",
        )
    except Exception as error:
        log.exception("the child cannot get ready")
        return Ready(ok=False, reason=f"{type(error).__name__}: {error}")


def _execute(
    request: Execute, science: Science, answers: IO[bytes], device: DeviceMemory | None
) -> Done | Refused:
    def tell(unit: Begun) -> None:
        _say(answers, unit)

    def execute() -> Done:
        before = cpu_seconds()
        with _workplace(Path(request.scratch)), watched(device) as peaks:
            done = science.execute(request, tell)
        return replace(
            done,
            cpu_seconds=cpu_seconds() - before,
            peak_memory=peaks.memory,
            peak_device_memory=peaks.device_memory,
        )

    return _attempt(request.task, execute)


def _attempt(task: str, work: Callable[[], Done]) -> Done | Refused:
    try:
        return work()
    except (OSError, MemoryError) as error:
        log.exception("there is no result for %s", task)
        return Refused(task, "host", f"{type(error).__name__}: {error}")
    except Exception as error:
        log.exception("there is no result for %s", task)
        return Refused(task, "task", f"{type(error).__name__}: {error}")


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
