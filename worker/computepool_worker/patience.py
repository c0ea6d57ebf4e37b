"""Asking a server again that is away, as the settings say.

The API's own repeats bridge an accident of seconds. These bridge the restart of a server, for
services whose machine was waited for (a job of an HPC cluster, say).
"""

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from computepool_api.errors import Unavailable
from computepool_worker.logs import EventLog

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Patience:
    """How often to ask again (-1: for ever), and how long to wait before, in seconds.

    The waits grow by the factor ``base`` up to ``longest``, and are spread by up to ``base``, as
    those of alchemiscale's own client.
    """

    retries: int
    base: float
    longest: float

    def pauses(self, jitter: Callable[[], float] = random.random) -> Iterator[float]:
        """Return the waits, one for each time of asking again."""
        pause = 1.0
        for _ in itertools.count() if self.retries < 0 else range(self.retries):
            pause = min(self.longest, pause * self.base)
            yield pause + self.base * jitter()


async def patiently(ask: Callable[[], Awaitable[T]], patience: Patience, log: EventLog) -> T:
    """Return what ``ask`` returns, and ask again while the server is away. Raises as ``ask``."""
    for pause in patience.pauses():
        try:
            return await ask()
        except Unavailable as error:
            log.warning("server.waited_for", error=str(error), seconds=pause)
        await asyncio.sleep(pause)
    return await ask()
