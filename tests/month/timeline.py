"""Virtual time: events in order, and the last of them for whoever asks what happened."""

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
REMEMBERED = 30


class Violation(AssertionError):
    """Something that must always hold did not."""


@dataclass(order=True, slots=True)
class Event:
    """Something that will happen at a time, unless it is cancelled."""

    at: float
    number: int
    call: Callable[[], None] = field(compare=False)
    cancelled: bool = field(default=False, compare=False)

    def cancel(self) -> None:
        self.cancelled = True


class Timeline:
    """Seconds since the epoch, and what happens when. Events at the same time keep their order."""

    def __init__(self) -> None:
        self.now = MONDAY.timestamp()
        self.begin = self.now
        self.happened = 0
        self.told = 0
        self._events: list[Event] = []
        self._number = 0
        self._story: deque[str] = deque(maxlen=REMEMBERED)

    @property
    def moment(self) -> datetime:
        """The present as a date."""
        return MONDAY + timedelta(seconds=self.now - self.begin)

    def after(self, seconds: float, call: Callable[[], None]) -> Event:
        """Let something happen in so many seconds."""
        self._number += 1
        event = Event(self.now + max(0.0, seconds), self._number, call)
        heapq.heappush(self._events, event)
        return event

    def tell(self, what: str) -> None:
        """Remember something that happened."""
        self.told += 1
        passed = timedelta(seconds=round(self.now - self.begin, 3))
        self._story.append(f"{passed}  {what}")

    @property
    def story(self) -> list[str]:
        """The last things that happened, oldest first."""
        return list(self._story)

    def step(self) -> bool:
        """Let the next event happen; whether there was one."""
        while self._events:
            event = heapq.heappop(self._events)
            if event.cancelled:
                continue
            self.now = event.at
            self.happened += 1
            event.call()
            return True
        return False
