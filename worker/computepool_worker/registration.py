"""Whether this worker is still registered, asked by one at a time."""

import asyncio
import time
from collections.abc import Callable

from computepool_api.ids import ComputeManagerID, ComputeServiceID
from computepool_api.service_client import ComputeServiceClient
from computepool_api.transport import ComputeAPI

# What has been computed in so few seconds may be lost to a probe without an answer.
_STILL_WELL = 10.0


class Registration:
    """The registration of a service, whose loss is found out once and for good.

    The server can only be asked by registering again, which puts an empty registration in the place
    of a lost one: whoever asked next would be told that all is well. ``now`` is a clock, in s.
    """

    def __init__(
        self,
        api: ComputeAPI,
        client: ComputeServiceClient,
        service_id: ComputeServiceID,
        manager_id: ComputeManagerID | None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._client = client
        self._id = service_id
        self._manager = manager_id
        self._asking = asyncio.Lock()
        self._now = now
        self._lost = False
        self._task_began: float | None = None

    def note_task(self) -> None:
        """Note that the server has just given out a Task: what is at stake begins with it."""
        self._task_began = self._now()

    async def is_held(self) -> bool:
        """Ask the server. Raises ComputeAPIError where it gives no clear answer.

        A probe that is not answered proves nothing any more, and the result in hand is given up for
        it, never pushed. So hours of work are probed for only at a server that has just been seen
        to be well. A Task that was given out seconds ago has seen the server well itself, and is
        not worth that question, the dearest of all. What `holds_registration` asks after a probe's
        500, whether that says "taken" or "broken", is asked in any case: on it rests that a result
        is pushed under a registration that is held.
        """
        async with self._asking:
            if not self._lost:
                began, self._task_began = self._task_began, None
                if began is None or self._now() - began > _STILL_WELL:
                    await self._api.check()
                self._lost = not await self._client.holds_registration(self._id, self._manager)
            return not self._lost
