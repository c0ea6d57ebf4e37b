"""Lines for whoever reads the log, written by a thread of their own.

Who reads stderr may stop reading: somebody pressed Ctrl-S, looks at it with a pager, or a log
driver waits for its disk. A write blocks then, and must not take heartbeats and signals with it.
"""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable

# Some thousands of lines; the process as a whole is meant to stay under 60 MiB.
_CAPACITY = 2**20
_PATIENCE = 1.0
_AGAIN = 0.05


class OutflowHandler(logging.Handler):
    """Writes to a file descriptor, in order, and never lets the logging thread wait for it.

    Lines that find no room are dropped; ``dropped`` makes the record that says how many, and that
    is written in their place once there is room again. ``capacity`` is in bytes.
    """

    def __init__(
        self,
        descriptor: int,
        dropped: Callable[[int], logging.LogRecord],
        *,
        owned: bool = False,
        capacity: int = _CAPACITY,
    ) -> None:
        """Begin to write to ``descriptor``, and close it at the end if it is ``owned``."""
        super().__init__()
        self._descriptor = descriptor
        self._record_of = dropped
        self._owned = owned
        self._capacity = capacity
        # The first line is the one that is being written.
        self._lines: deque[bytes] = deque()
        self._held = 0
        self._dropped = 0
        self._closed = False
        self._changed = threading.Condition()
        # A daemon: one that is blocked must not keep the process.
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take the line of ``record``, or count it as dropped."""
        try:
            line = self._line(record)
        except Exception:  # noqa: BLE001  # as every handler does: logging must not raise
            self.handleError(record)
            return
        with self._changed:
            # A line of any length may be the only one. After a first that is dropped there is no
            # room for any, so that the gap is in one place.
            full = self._dropped or self._held + len(line) > self._capacity
            if self._closed or (self._lines and full):
                self._dropped += 1
                return
            self._add(line)

    def flush(self) -> None:
        """Wait until all is written, but not long for a reader that doesn't read."""
        with self._changed:
            self._changed.wait_for(lambda: not self._lines, timeout=_PATIENCE)

    def close(self) -> None:
        """Take no more lines; `flush` waits for those that are there."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        super().close()

    def _line(self, record: logging.LogRecord) -> bytes:
        return f"{self.format(record)}\n".encode("utf-8", "backslashreplace")

    def _add(self, line: bytes) -> None:
        self._lines.append(line)
        self._held += len(line)
        self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines or self._closed)
                if not self._lines:
                    break
                line = self._lines[0]
            written = _write(self._descriptor, line)
            with self._changed:
                self._lines.popleft()
                self._held -= len(line)
                self._changed.notify_all()
                if not written:
                    self._dropped += 1
                elif self._dropped:
                    self._add(self._line(self._record_of(self._dropped)))
                    self._dropped = 0
        if self._owned:
            os.close(self._descriptor)


def _write(descriptor: int, line: bytes) -> bool:
    """Write all of ``line``, and return whether that was possible.

    Not through ``sys.stderr``: its lock, held in a blocked write, makes Python abort at its end.
    """
    rest = memoryview(line)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            # Somebody who shares the descriptor has set it so.
            time.sleep(_AGAIN)
        except OSError:
            return False
    return True
