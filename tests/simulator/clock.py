"""Virtual time, so that expiries of an hour can be tested in a millisecond."""

import time
from collections.abc import Callable


class VirtualClock:
    """Seconds since the epoch: a real source of time plus what the tests have added to it."""

    def __init__(self, source: Callable[[], float] = time.time) -> None:
        self._source = source
        self._offset = 0.0

    def now(self) -> float:
        """Return the virtual time in seconds since the epoch."""
        return self._source() + self._offset

    @property
    def offset(self) -> float:
        """How many seconds the virtual time is ahead of its source."""
        return self._offset

    def advance(self, seconds: float) -> float:
        """Move the virtual time forward and return it; ValueError if that would be backwards."""
        if seconds < 0:
            raise ValueError(f"time only goes forward: cannot advance by {seconds} s")
        self._offset += seconds
        return self.now()
