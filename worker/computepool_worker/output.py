"""What the science prints: a bounded part is passed on, its end is kept, the rest is let go.

Pure: bytes and times go in, lines come out.
"""

import re

_BREAK = re.compile(rb"[\r\n]+")


class Tail:
    """The last ``limit`` bytes of a stream."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept = bytearray()

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        self._kept += data[-self._limit :]
        del self._kept[: -self._limit]

    def lines(self, count: int) -> list[str]:
        """Return the last ``count`` lines that are not blank, oldest first."""
        text = self._kept.decode("utf-8", errors="replace")
        return [line.rstrip() for line in text.splitlines() if line.strip()][-count:]


class LineGate:
    """Splits a stream into lines and lets ``per_second`` of them through, as many at once.

    Lines end at a line feed or a carriage return (progress bars); blank ones are passed over. A
    line longer than ``width`` bytes is cut there. What does not pass is counted, not kept.
    """

    def __init__(self, *, per_second: float, width: int) -> None:
        self._per_second = per_second
        self._width = width
        self._allowance = per_second
        self._last: float | None = None
        self._line = bytearray()
        self._cut = False
        self._dropped = 0

    def feed(self, data: bytes, now: float) -> list[str]:
        """Take the next bytes at the time ``now`` (s); return the lines to show."""
        self._refill(now)
        passed: list[str] = []
        begin = 0
        while self._allowance >= 1 and (found := _BREAK.search(data, begin)):
            self._extend(data[begin : found.start()])
            passed += self._end_line()
            begin = found.end()
        # A flood costs a search and no memory: nothing of what cannot pass is split or decoded.
        rest = data[begin:]
        dropped = rest.count(b"\n") or rest.count(b"\r")
        if dropped:
            self._dropped += dropped
            self._line.clear()
            self._cut = False
            rest = rest[max(rest.rfind(b"\n"), rest.rfind(b"\r")) + 1 :]
        self._extend(rest)
        return passed

    def finish(self) -> list[str]:
        """Return the line that the stream ended in, if it ended in one."""
        return self._end_line()

    def take_dropped(self) -> int:
        """Return how many lines did not pass since this was last asked."""
        dropped, self._dropped = self._dropped, 0
        return dropped

    def _refill(self, now: float) -> None:
        if self._last is not None:
            gained = max(0.0, now - self._last) * self._per_second
            self._allowance = min(self._per_second, self._allowance + gained)
        self._last = now

    def _extend(self, piece: bytes) -> None:
        room = self._width - len(self._line)
        self._line += piece[:room]
        self._cut = self._cut or len(piece) > room

    def _end_line(self) -> list[str]:
        text = self._line.decode("utf-8", errors="replace").rstrip()
        ending = " ..." if self._cut else ""
        self._line.clear()
        self._cut = False
        self._allowance -= 1
        return [text + ending] if text else []
