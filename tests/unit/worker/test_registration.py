"""The loss of a registration is found out once and for good, and with few questions."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from computepool_api.credentials import Credentials
from computepool_api.errors import Unavailable
from computepool_api.ids import ComputeServiceID
from computepool_api.service_client import ComputeServiceClient
from computepool_api.transport import ComputeAPI
from computepool_worker.registration import Registration
from simulator.faults import Fault, FaultKind
from simulator.records import Identity
from simulator.serving import running
from simulator.simulator import Options, Simulator

ID = ComputeServiceID.new("worker", uuid.UUID(int=7))
PROBE = ["service_register", "check"]


@dataclass
class Scene:
    """A registration at a server, and a clock (s) that only the test moves."""

    client: ComputeServiceClient
    simulator: Simulator
    held: Registration
    time: float = 0.0

    def asked(self) -> list[str]:
        """Which endpoints were asked since the last call."""
        asked = [str(entry["endpoint"]) for entry in self.simulator.audit.entries()]
        self.simulator.audit.clear()
        return asked

    def answer(self, endpoint: str, status: int) -> None:
        self.simulator.faults.add(Fault(endpoint, FaultKind.STATUS, status=status))


@asynccontextmanager
async def registered() -> AsyncIterator[Scene]:
    identity = Identity("compute-identity", "compute-key", ("*-*-*",))
    simulator = Simulator(Options(identities=[identity]))
    async with running(simulator) as server:
        credentials = Credentials("compute-identity", "compute-key")
        async with ComputeAPI(server.url, lambda: credentials, user_agent="test") as api:
            client = ComputeServiceClient(api)
            await client.register(ID, None)
            held = Registration(api, client, ID, None, lambda: scene.time)
            scene = Scene(client, simulator, held)
            scene.asked()
            yield scene


async def test_it_is_held_until_it_is_lost_and_then_for_good() -> None:
    async with registered() as scene:
        assert await scene.held.is_held()
        assert await scene.held.is_held()
        await scene.client.deregister(ID)
        assert not await scene.held.is_held()
        # The first question has registered it anew, without its claims.
        assert not await scene.held.is_held()


async def test_two_that_ask_at_once_hear_the_same() -> None:
    async with registered() as scene:
        await scene.client.deregister(ID)
        assert not any(await asyncio.gather(scene.held.is_held(), scene.held.is_held()))


@pytest.mark.parametrize(
    ("seconds", "asked"), [(0, PROBE), (9, PROBE), (11, ["check", *PROBE])], ids=str
)
async def test_a_short_task_has_seen_the_server_well_itself(
    seconds: float, asked: list[str]
) -> None:
    async with registered() as scene:
        scene.held.note_task()
        scene.time += seconds
        assert await scene.held.is_held()
        assert scene.asked() == asked


async def test_it_has_so_for_one_question() -> None:
    async with registered() as scene:
        scene.held.note_task()
        assert await scene.held.is_held()
        assert await scene.held.is_held()
        assert scene.asked() == [*PROBE, "check", *PROBE]


async def test_hours_of_work_are_not_lost_to_a_probe_without_an_answer() -> None:
    async with registered() as scene:
        scene.held.note_task()
        scene.time += 3600
        scene.answer("check", 503)
        scene.answer("service_register", 503)
        with pytest.raises(Unavailable):
            await scene.held.is_held()
        assert scene.asked() == ["check"]
        scene.simulator.faults.clear()
        assert await scene.held.is_held()


@pytest.mark.parametrize("short", [True, False])
async def test_a_500_of_a_server_that_is_not_well_proves_nothing(short: bool) -> None:
    async with registered() as scene:
        await scene.client.deregister(ID)
        if short:
            scene.held.note_task()
        scene.answer("service_register", 500)
        scene.simulator.faults.add(
            Fault("check", FaultKind.STATUS, status=503, skip=0 if short else 1)
        )
        with pytest.raises(Unavailable):
            await scene.held.is_held()
        assert not await scene.held.is_held()


async def test_what_a_probe_without_an_answer_leaves_open_counts_as_lost() -> None:
    async with registered() as scene:
        scene.held.note_task()
        scene.answer("service_register", 503)
        with pytest.raises(Unavailable):
            await scene.held.is_held()
        assert not await scene.held.is_held()
