"""The program ``computepool-worker``."""

import os
import sys
import time
from typing import NoReturn

from computepool_worker.stop_signal import StopSignal


def main() -> int:
    """Run the worker and return its exit code (see `computepool_api.outcomes`)."""
    # Listening to signals comes first, then what takes this process time to import.
    stop = StopSignal(time.monotonic)
    stop.install()
    from computepool_worker import cli

    arguments = cli.parse(sys.argv[1:])
    if isinstance(arguments, cli.CheckArguments):
        from computepool_worker import check

        return check.run(arguments, os.environ, stop)

    from computepool_worker.startup import run

    return run(arguments, os.environ, stop)


def program() -> NoReturn:
    """Run the worker as a process: no thread that hangs keeps it from its end."""
    from computepool_worker.leaving import leave

    leave(main)


if __name__ == "__main__":
    program()
