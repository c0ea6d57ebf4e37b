"""`python -m lanes [LANE ...]`: run all tests, or some lanes of them, side by side."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from lanes.running import ROOT, Run, pytest_command, report, run
from lanes.table import LANES, PREPARATION, Lane, arguments, queues
from testcluster import ways


def main(words: Sequence[str] | None = None) -> int:
    """Run the lanes that are named, or all; return 0 if all tests have passed."""
    parser = argparse.ArgumentParser(prog="python -m lanes", description=__doc__)
    names = [lane.name for lane in LANES]
    parser.add_argument("lanes", nargs="*", metavar="LANE", help=f"of {', '.join(names)}")
    parser.add_argument("--reports", type=Path, metavar="DIR", help="write JUnit reports there")
    options = parser.parse_args(words)
    if unknown := set(options.lanes) - set(names):
        parser.error(f"there is no lane {', '.join(sorted(unknown))}: they are {', '.join(names)}")
    wanted = [lane for lane in LANES if not options.lanes or lane.name in options.lanes]
    began = time.monotonic()
    try:
        runs = asyncio.run(_run(wanted, options.reports))
    except (asyncio.CancelledError, KeyboardInterrupt):
        return 128 + signal.SIGINT
    return report(runs, time.monotonic() - began, _say)


async def _run(wanted: Sequence[Lane], reports: Path | None) -> list[Run]:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)

    def command(lane: Lane) -> list[str]:
        if lane is PREPARATION:
            return [sys.executable, "-u", "-m", "stage"]
        xml = [f"--junitxml={reports.absolute() / lane.name}.xml"] if reports else []
        return pytest_command(lane, arguments(lane), xml)

    way = ways.choose(None, os.environ.get("KUBECONFIG")).way
    ours = way == "embedded" and os.geteuid() == 0 and any(lane.cluster for lane in wanted)
    os.chdir(ROOT)
    return await run(
        queues(wanted, shared=way != "embedded"),
        command,
        _say,
        preparation=PREPARATION if ours else None,
    )


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
