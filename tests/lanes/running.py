"""Run lanes, and show what a person wants to see of them.

While they run: their progress lines, their ends, and now and then how far they are. Why tests
failed is shown when their lane has ended; that they failed is said once more at the end of all.
"""

from __future__ import annotations

import asyncio
import re
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lanes.table import BUSY, Lane

ROOT = Path(__file__).parents[2]
NEWS_SECONDS = 30.0
LAST_WORDS = 200
"""Lines."""

Say = Callable[[str], None]
Command = Callable[[Lane], Sequence[str]]
_PERCENT = re.compile(r"\[ *(\d+)%\]$")
_SUMMARY = re.compile(r"=+ short test summary info =+")
_TROUBLE = re.compile(r"=+ (ERRORS|FAILURES) =+")
_FAILED = ("FAILED ", "ERROR ")


@dataclass(slots=True)
class Run:
    """One lane: what it has said so far, and its exit code once it has ended."""

    lane: Lane
    lines: list[str] = field(default_factory=list)
    began: float = 0.0
    seconds: float = 0.0
    code: int | None = None

    @property
    def failed(self) -> bool:
        """Whether something is wrong with it, or it has not ended by itself."""
        return self.code != 0

    @property
    def percent(self) -> str:
        """How far it is, as pytest said last."""
        found = (_PERCENT.search(line) for line in reversed(self.lines))
        return next((f" {match[1]}%" for match in found if match), "")

    def result(self) -> str:
        """One line: how it ended."""
        last = self.lines[-1].strip("= ") if self.lines else "it said nothing"
        return f"{'FAILED' if self.failed else 'passed'} in {self.seconds:.0f} s: {last}"

    def summary(self) -> list[str]:
        """What pytest says last of all: what failed, and what was skipped and why."""
        starts = [n for n, line in enumerate(self.lines) if _SUMMARY.fullmatch(line)]
        return self.lines[starts[-1] + 1 : -1] if starts else []

    def trouble(self) -> list[str]:
        """Why tests failed; the last it has said, if pytest has not got so far."""
        starts = [n for n, line in enumerate(self.lines) if _TROUBLE.fullmatch(line)]
        return self.lines[starts[0] :] if starts else self.lines[-LAST_WORDS:]


def pytest_command(lane: Lane, selected: Iterable[str], options: Iterable[str]) -> list[str]:
    """Return the command that runs a lane's tests."""
    nice = [] if lane.cluster else ["nice", "-n", str(BUSY)]
    alone = ["-p", "no:cacheprovider"]  # its file is not made for several writers
    return [*nice, sys.executable, "-u", "-m", "pytest", "-v", *alone, *selected, *options]


async def run(
    queues: Sequence[Sequence[Lane]],
    command: Command,
    say: Say,
    *,
    preparation: Lane | None = None,
) -> list[Run]:
    """Run all lanes to their ends; cancelled, it lets each of them clean up first.

    Those that use a cluster begin when `preparation` has ended, however it ends: what is still
    missing they say themselves.
    """
    first = [] if preparation is None else [[preparation]]
    runs = {lane.name: Run(lane) for queue in [*first, *queues] for lane in queue}
    prepared = asyncio.Event()

    async def prepare() -> None:
        if preparation is not None:
            await _run_one(runs[preparation.name], command(preparation), say)
        prepared.set()

    async def one_after_the_other(queue: Sequence[Lane]) -> None:
        if queue[0].cluster:
            await prepared.wait()
        for lane in queue:
            await _run_one(runs[lane.name], command(lane), say)

    news = asyncio.create_task(_tell_news(list(runs.values()), say))
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(prepare())
            for queue in queues:
                group.create_task(one_after_the_other(queue))
    finally:
        news.cancel()
    return list(runs.values())


async def _run_one(run: Run, command: Sequence[str], say: Say) -> None:
    # A process group of its own: a terminal's Ctrl-C reaches it through us, and once only.
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=2**24,
        process_group=0,
    )
    assert process.stdout is not None
    run.began = time.monotonic()
    reading = asyncio.create_task(_read(process.stdout, run, say))
    try:
        run.code = await process.wait()
        await reading
    except asyncio.CancelledError:
        process.send_signal(signal.SIGINT)
        await process.wait()
        raise
    finally:
        run.seconds = time.monotonic() - run.began
    for line in run.trouble() if run.failed else run.summary():
        say(f"{run.lane.name}: {line}")
    say(f"{run.lane.name}: {run.result()}")


async def _read(stream: asyncio.StreamReader, run: Run, say: Say) -> None:
    async for raw in stream:
        line = raw.decode(errors="replace").rstrip()
        run.lines.append(line)
        if line.startswith("[") and not _PERCENT.search(line):
            say(f"{run.lane.name}: {line}")


async def _tell_news(runs: Sequence[Run], say: Say) -> None:
    while True:
        await asyncio.sleep(NEWS_SECONDS)
        going = [run for run in runs if run.began and run.code is None]
        say("still running: " + ", ".join(f"{run.lane.name}{run.percent}" for run in going))


def report(runs: Sequence[Run], seconds: float, say: Say) -> int:
    """Say how all lanes ended, and last what failed; return the exit code for all."""
    say(f"\n=== {len(runs)} lanes in {seconds:.0f} s")
    for run in runs:
        say(f"{run.lane.name:10} {run.result()}")
    failed = [run for run in runs if run.failed]
    for run in failed:
        for line in run.summary():
            if line.startswith(_FAILED):
                say(f"{run.lane.name}: {line}")
    return 1 if failed else 0
