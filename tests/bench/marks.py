"""What a run has cost, read from what the server saw and from the results. Pure.

Nothing is taken from the services' own words, so that any service can be measured. Times are in
seconds since the epoch.
"""

import datetime as dt
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Seen:
    """A run as the server saw it.

    ``executions`` are begin and end of each Task's units, in the order of ``pushed``, which is when
    the results came. ``peak_memory`` is the largest resident memory of the started process, and
    ``whole_memory`` that of it and its children together, in bytes.
    """

    started: float
    registered: float
    executions: Sequence[tuple[float, float]]
    pushed: Sequence[float]
    peak_memory: int
    whole_memory: int


@dataclass(frozen=True, slots=True)
class Figures:
    """Seconds, and MiB. ``overhead`` is what a Task takes besides the execution of its units."""

    start_to_registered: float
    registered_to_executing: float
    start_to_executing: float
    overhead: float
    parent_memory: float
    whole_memory: float


def figures(seen: Seen) -> Figures:
    """Take the figures of one run of at least two Tasks. Raises ValueError for fewer."""
    if len(seen.executions) < 2 or len(seen.executions) != len(seen.pushed):
        raise ValueError("a run of at least two Tasks is needed, and a result of each")
    first = seen.executions[0][0]
    # From one result to the next there is one Task: claimed, fetched, executed and pushed.
    overheads = [
        arrived - before - (end - begin)
        for before, arrived, (begin, end) in zip(
            seen.pushed, seen.pushed[1:], seen.executions[1:], strict=False
        )
    ]
    return Figures(
        start_to_registered=seen.registered - seen.started,
        registered_to_executing=first - seen.registered,
        start_to_executing=first - seen.started,
        overhead=statistics.median(overheads),
        parent_memory=seen.peak_memory / 2**20,
        whole_memory=seen.whole_memory / 2**20,
    )


def medians(runs: Sequence[Figures]) -> Figures:
    """Return the median of each figure."""
    return Figures(
        *(statistics.median(getattr(run, name) for run in runs) for name in Figures.__slots__)
    )


def execution(document: Any) -> tuple[float, float]:
    """Read from a stored result when its first unit began and its last one ended."""
    begun = [_instant(value) for value in _values(document, "start_time")]
    ended = [_instant(value) for value in _values(document, "end_time")]
    return min(begun), max(ended)


def _values(document: Any, name: str) -> Iterator[Any]:
    if isinstance(document, dict):
        for key, value in document.items():
            if key == name and isinstance(value, dict):
                yield value
            else:
                yield from _values(value, name)
    elif isinstance(document, list | tuple):
        for value in document:
            yield from _values(value, name)


def _instant(value: dict[str, Any]) -> float:
    # Without a zone it is local time, as gufe writes it.
    return dt.datetime.fromisoformat(value["isotime"]).timestamp()
