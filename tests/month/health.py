"""How long everything has been well: the time in which the operator owes what it promises."""

from __future__ import annotations

from collections.abc import Callable

from month.timeline import Timeline


class WellClock:
    """Seconds in which the operator was up, not halted, and both APIs answered."""

    def __init__(self, timeline: Timeline, well: Callable[[], bool]) -> None:
        self.seconds = 0.0
        self.well = False
        self._timeline = timeline
        self._well = well
        self._at = timeline.now

    def tick(self) -> None:
        """Take the time since the last tick into account; called after each event."""
        if self.well:
            self.seconds += self._timeline.now - self._at
        self._at = self._timeline.now
        self.well = self._well()
