"""The loss of a registration is found out once and for good."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from computepool_api.credentials import Credentials
from computepool_api.ids import ComputeServiceID
from computepool_api.service_client import ComputeServiceClient
from computepool_api.transport import ComputeAPI
from computepool_worker.registration import Registration
from simulator.records import Identity
from simulator.serving import running
from simulator.simulator import Options, Simulator

ID = ComputeServiceID.new("worker", uuid.UUID(int=7))


@asynccontextmanager
async def registration() -> AsyncIterator[tuple[Registration, ComputeServiceClient]]:
    identity = Identity("compute-identity", "compute-key", ("*-*-*",))
    async with running(Simulator(Options(identities=[identity]))) as server:
        credentials = Credentials("compute-identity", "compute-key")
        async with ComputeAPI(server.url, lambda: credentials, user_agent="test") as api:
            client = ComputeServiceClient(api)
            await client.register(ID, None)
            yield Registration(api, client, ID, None), client


async def test_it_is_held_until_it_is_lost_and_then_for_good() -> None:
    async with registration() as (held, client):
        assert await held.is_held()
        assert await held.is_held()
        await client.deregister(ID)
        assert not await held.is_held()
        # The first question has registered it anew, without its claims.
        assert not await held.is_held()


async def test_two_that_ask_at_once_hear_the_same() -> None:
    async with registration() as (held, client):
        await client.deregister(ID)
        assert not any(await asyncio.gather(held.is_held(), held.is_held()))
