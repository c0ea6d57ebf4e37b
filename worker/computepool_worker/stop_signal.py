"""Being told to stop.

The module imports next to nothing, because it has to listen before anything slow happens: as
process 1 of a container, a process without a handler does not even die of SIGTERM.
"""

import signal
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

# SIGHUP too: it is what a batch system or a closed terminal sends.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StopSignal:
    """Whether and when this process was told to stop. Only the first signal counts.

    ``name`` is the signal's name and ``at`` the time of its arrival by the given clock (s), both
    None before.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._event: asyncio.Event | None = None
        self._numbers: tuple[signal.Signals, ...] = SIGNALS
        self.name: str | None = None
        self.at: float | None = None

    def install(self) -> None:
        """Begin to listen. SIGHUP that was ignored before stays so: nohup was asked for."""
        if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
            self._numbers = tuple(number for number in SIGNALS if number != signal.SIGHUP)
        for number in self._numbers:
            signal.signal(number, self._early)

    def attach(self, loop: "asyncio.AbstractEventLoop") -> None:
        """Let a signal wake ``loop``, also one that came before."""
        import asyncio

        self._event = asyncio.Event()
        for number in self._numbers:
            loop.add_signal_handler(number, self._note, number)
        if self.at is not None:
            self._event.set()

    def detach(self, loop: "asyncio.AbstractEventLoop") -> None:
        """Let no signal disturb the last steps any more."""
        for number in self._numbers:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)

    async def wait(self) -> None:
        """Return when a signal has come. Raises RuntimeError before ``attach``."""
        if self._event is None:
            raise RuntimeError("attach comes before wait")
        await self._event.wait()

    def heed(self, number: signal.Signals) -> None:
        """Take notice of a signal that came before anything listened."""
        self._note(number)

    def _early(self, number: int, _frame: FrameType | None) -> None:
        self._note(number)

    def _note(self, number: int) -> None:
        if self.at is None:
            self.at = self._monotonic()
            self.name = signal.Signals(number).name
        if self._event is not None:
            self._event.set()
