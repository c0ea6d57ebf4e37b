"""`python -m month`: simulate a month, print where the GPU-seconds went, fail on a violation."""

import argparse
import sys
import time

from month.report import report
from month.simulation import Month
from month.timeline import Violation


def main() -> int:
    """Run one month; return 0, or 1 with the seed and the last events when something broke."""
    parser = argparse.ArgumentParser(prog="python -m month", description=__doc__)
    parser.add_argument("--days", type=float, default=30.0, help="how long users submit Tasks")
    parser.add_argument("--seed", type=int, default=1, help="equal seeds give equal months")
    parser.add_argument("--max-tasks", type=int, default=1, help="Tasks for each worker")
    parser.add_argument("--load", type=float, default=0.6, help="share of the GPUs in demand")
    parser.add_argument("--fair", action="store_true", help="nothing goes wrong")
    options = parser.parse_args()
    began = time.monotonic()
    month = Month(
        options.seed,
        options.days,
        max_tasks=options.max_tasks,
        load=options.load,
        fair=options.fair,
    )
    try:
        summary = month.run()
    except Violation as violation:
        print(f"seed {options.seed}: {violation}\nThe last events:", file=sys.stderr)
        print("\n".join(f"  {line}" for line in month.timeline.story), file=sys.stderr)
        return 1
    print(report(summary, time.monotonic() - began))
    return 0


if __name__ == "__main__":
    sys.exit(main())
