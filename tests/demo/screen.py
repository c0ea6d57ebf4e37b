"""What a person sees while the demo runs."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable
from typing import Any

BAR = 24


def step(text: str) -> None:
    """Announce a step."""
    print(f"\n=== {text}", flush=True)


def say(text: str) -> None:
    """Say something in passing."""
    print(f"    {text}", flush=True)


def progress(line: str) -> None:
    """Show how a long step comes along."""
    print(f"    ... {line}", flush=True)


def shell(*commands: str) -> None:
    """Show commands as a person would type them."""
    for command in commands:
        print(f"    $ {command}", flush=True)


def bar(complete: int, running: int, total: int) -> str:
    """A bar of Tasks: done, being executed, waiting."""
    done = BAR * complete // total
    busy = -(-BAR * (complete + running) // total) - done
    return "#" * done + "+" * busy + "." * (BAR - done - busy)


COLUMNS: dict[str, tuple[int, Callable[[dict[str, Any]], Any]]] = {
    "NAME": (6, lambda pool: pool["metadata"]["name"]),
    "READY": (7, lambda pool: _ready(pool)),
    "REASON": (16, lambda pool: _status(pool, "reason")),
    "TASKS": (6, lambda pool: _status(pool, "tasks", "waiting")),
    "ACTIVE": (7, lambda pool: _status(pool, "workers", "active")),
    "MAX": (4, lambda pool: pool["spec"]["maxComputeServices"]),
    "SATURATION": (10, lambda pool: _status(pool, "saturation")),
}
"""The columns of `kubectl get computepools` with their widths, and how each is read."""


def header() -> str:
    """The line above the rows."""
    titles = "".join(title.ljust(width) for title, (width, _read) in COLUMNS.items())
    return f"{'':55}{titles}"


def row(seconds: float, counts: dict[str, int], pool: dict[str, Any]) -> str:
    """One line: the time, the Tasks, and the row of `kubectl get computepools`."""
    total = sum(counts.values())
    complete, running = counts.get("complete", 0), counts.get("running", 0)
    tasks = f"[{bar(complete, running, total)}] {complete:>2} of {total} complete"
    table = "".join(str(read(pool)).ljust(width) for width, read in COLUMNS.values())
    return f"{seconds:5.0f} s  {tasks:<46}{table}".rstrip()


def _ready(pool: dict[str, Any]) -> str:
    conditions = _status(pool, "conditions") or []
    return next((c["status"] for c in conditions if c["type"] == "Ready"), "")


def _status(pool: dict[str, Any], *path: str) -> Any:
    value: Any = pool.get("status") or {}
    for key in path:
        value = value.get(key, "") if isinstance(value, dict) else ""
    return value


def summary(text: str) -> None:
    """The last words."""
    print("\n" + textwrap.indent(textwrap.dedent(text).strip(), "    ") + "\n", flush=True)
    sys.stdout.flush()
