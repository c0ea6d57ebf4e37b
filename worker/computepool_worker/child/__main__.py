"""The child's program; the worker starts it with the two pipes it is to use."""

import argparse
import faulthandler
import os
import sys

from computepool_worker.child.lifeline import die_with_parent
from computepool_worker.child.loop import serve
from computepool_worker.child.science import GufeScience


def main() -> int:
    """Execute what is asked for until there is nothing more, and return 0."""
    parser = argparse.ArgumentParser(prog="computepool_worker.child")
    parser.add_argument("--requests", type=int, required=True, metavar="FD")
    parser.add_argument("--answers", type=int, required=True, metavar="FD")
    arguments = parser.parse_args()
    die_with_parent()
    # A segfault then leaves a traceback on stderr, which the parent reports.
    faulthandler.enable()
    for pipe in (arguments.requests, arguments.answers):
        # The pipes are for this process alone, not for what the science starts.
        os.set_inheritable(pipe, False)
    with os.fdopen(arguments.requests, "rb") as requests, os.fdopen(arguments.answers, "wb") as out:
        serve(requests, out, GufeScience())
    return 0


if __name__ == "__main__":
    sys.exit(main())
