"""Many notes in a short time, and few calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Throttle:
    """Calls a function after each note, but never twice within `spacing` seconds.

    A note that comes alone is followed at once, and the last of many is never lost.
    """

    def __init__(self, function: Callable[[], None], spacing: float) -> None:
        self._function = function
        self._spacing = spacing
        self._called_at = float("-inf")
        self._waiting: asyncio.TimerHandle | None = None

    def note(self) -> None:
        """Have the function called: now, or as soon as the spacing allows."""
        if self._waiting is not None:
            return
        loop = asyncio.get_running_loop()
        at = self._called_at + self._spacing
        if loop.time() >= at:
            self._call()
        else:
            self._waiting = loop.call_at(at, self._call)

    def stop(self) -> None:
        """Drop what waits."""
        if self._waiting is not None:
            self._waiting.cancel()
        self._waiting = None

    def _call(self) -> None:
        self._waiting = None
        self._called_at = asyncio.get_running_loop().time()
        self._function()
