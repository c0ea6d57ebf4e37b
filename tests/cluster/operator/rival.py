"""Another manager that has, or takes, a pool's name on the server."""

from __future__ import annotations

import asyncio
import uuid

from cluster.operator.world import IDENTIFIER, KEY, World, manager_name

from computepool_api.credentials import Credentials
from computepool_api.ids import ComputeManagerID
from computepool_api.manager_client import ComputeManagerClient
from computepool_api.transport import ComputeAPI


class Rival:
    """Somebody else's manager of the same name."""

    def __init__(self, world: World, name: str = "") -> None:
        """Give it a name of its own, or that of the pool's manager."""
        self._url = world.url
        self.id = ComputeManagerID.new(name or manager_name(world.namespace), uuid.uuid4())

    def register(self, *, steal: bool = False) -> None:
        """Take the name."""
        asyncio.run(self._register(steal=steal))

    def fail(self) -> None:
        """Say ERROR."""
        asyncio.run(self._fail())

    def leave(self) -> None:
        """Give the name up."""
        asyncio.run(self._leave())

    def _api(self) -> ComputeAPI:
        return ComputeAPI(self._url, lambda: Credentials(IDENTIFIER, KEY))

    async def _register(self, *, steal: bool) -> None:
        async with self._api() as api:
            await ComputeManagerClient(api).register(self.id, steal=steal)

    async def _fail(self) -> None:
        async with self._api() as api:
            await ComputeManagerClient(api).report_error(self.id, "a rival's trouble")

    async def _leave(self) -> None:
        async with self._api() as api:
            await ComputeManagerClient(api).deregister(self.id)
