"""Starting the child process, without an event loop, and writing requests to it."""

import contextlib
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from computepool_worker import boundary, orphans

COMMAND_VARIABLE = "COMPUTEPOOL_WORKER_CHILD"


@dataclass(frozen=True, slots=True)
class Started:
    """A child that was started and asked to get ready, and the parent's ends of its pipes."""

    process: "subprocess.Popen[bytes]"
    requests: IO[bytes]
    answers: IO[bytes]


def command(environment: Mapping[str, str]) -> list[str]:
    """Return the child's command, without the arguments that name its pipes.

    The environment may name another program, which then has to keep to the same boundary.
    """
    given = environment.get(COMMAND_VARIABLE)
    if given:
        return shlex.split(given)
    # -P: no file that happens to lie in the working directory is imported in place of a library.
    return [sys.executable, "-P", "-m", "computepool_worker.child"]


def without(environment: Mapping[str, str], secret: Sequence[str]) -> dict[str, str]:
    """Return the child's environment: the science needs no credentials."""
    return {name: value for name, value in environment.items() if name not in secret}


def start(
    program: Sequence[str],
    request: boundary.Prepare,
    environment: Mapping[str, str] | None = None,
) -> Started:
    """Start the child and ask it to get ready. Raises OSError if there is no such program.

    ``environment`` None is this process's own. The child leads a session and process group of its
    own, so that whatever the science starts can be ended with it; what leaves them is adopted.
    """
    orphans.adopt()
    child_requests, requests = os.pipe()
    answers, child_answers = os.pipe()
    pipes = ["--requests", str(child_requests), "--answers", str(child_answers)]
    try:
        process = orphans.start_apart(
            lambda: subprocess.Popen(
                [*program, *pipes],
                bufsize=0,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(child_requests, child_answers),
                start_new_session=True,
            )
        )
    except OSError:
        os.close(requests)
        os.close(answers)
        raise
    finally:
        os.close(child_requests)
        os.close(child_answers)
    started = Started(process, os.fdopen(requests, "wb", 0), os.fdopen(answers, "rb", 0))
    send(started.requests, request)
    return started


def send(requests: IO[bytes], message: boundary.Request) -> None:
    """Write a request to the child."""
    # A child that has died is noticed by its exit, with more to tell than a broken pipe.
    with contextlib.suppress(BrokenPipeError):
        requests.write(boundary.encode(message))
