"""`python -m demo up|down`: what `make demo` and `make demo-down` run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from demo import play
from testcluster.errors import TestClusterError


def main() -> int:
    """Run one command; return 0, or 1 with the reason on standard error."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("command", choices=["up", "down"])
    parser.add_argument("--state", type=Path, required=True, metavar="DIR", help="state folder")
    parser.add_argument("--kubeconfig", metavar="FILE", help="use the cluster this file leads to")
    parser.add_argument("--tasks", type=int, default=12, help="how many Tasks wait (default: 12)")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long each one takes")
    options = parser.parse_args()
    try:
        if options.command == "down":
            play.down(options.state)
        else:
            play.up(options.state, options.kubeconfig, options.tasks, options.seconds)
    except TestClusterError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
