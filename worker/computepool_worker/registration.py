"""Whether this worker is still registered, asked by one at a time."""

import asyncio

from computepool_api.ids import ComputeManagerID, ComputeServiceID
from computepool_api.service_client import ComputeServiceClient
from computepool_api.transport import ComputeAPI


class Registration:
    """The registration of a service, whose loss is found out once and for good.

    The server can only be asked by registering again, which puts an empty registration in the place
    of a lost one: whoever asked next would be told that all is well.
    """

    def __init__(
        self,
        api: ComputeAPI,
        client: ComputeServiceClient,
        service_id: ComputeServiceID,
        manager_id: ComputeManagerID | None,
    ) -> None:
        self._api = api
        self._client = client
        self._id = service_id
        self._manager = manager_id
        self._asking = asyncio.Lock()
        self._lost = False

    async def is_held(self) -> bool:
        """Ask the server. Raises ComputeAPIError where it gives no clear answer."""
        async with self._asking:
            if not self._lost:
                # A probe without an answer proves nothing any more, and a result would be lost for
                # it: so it is sent only to a server that has just been seen to be well.
                await self._api.check()
                self._lost = not await self._client.holds_registration(self._id, self._manager)
            return not self._lost
