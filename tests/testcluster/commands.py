"""Run a command to its end and turn failure into a readable error."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from testcluster.errors import TestClusterError

TAIL_LINES = 25


def tail(text: str, lines: int = TAIL_LINES) -> str:
    """Return the last ``lines`` lines of ``text``."""
    return "\n".join(text.strip().splitlines()[-lines:])


def run(
    argv: Sequence[str | Path],
    *,
    text_input: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = 600.0,
) -> str:
    """Run ``argv`` and return its standard output.

    Raises TestClusterError with the end of its output when it fails, is missing, or is still
    running after ``timeout`` seconds (it is killed then).
    """
    words = [str(word) for word in argv]
    shown = " ".join(words)
    try:
        done = subprocess.run(
            words,
            input=text_input,
            stdin=None if text_input is not None else subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            env=env,
            cwd=cwd,
            timeout=timeout,
        )
    except FileNotFoundError as error:
        raise TestClusterError(f"cannot run `{shown}`: {error}") from error
    except subprocess.TimeoutExpired as error:
        raise TestClusterError(f"`{shown}` was still running after {timeout:.0f} s") from error
    if done.returncode != 0:
        said = tail(done.stderr or done.stdout)
        raise TestClusterError(f"`{shown}` failed with exit code {done.returncode}:\n{said}")
    return done.stdout
