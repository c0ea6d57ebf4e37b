import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from unit.computeapi.helpers import IDENTITY, MakeAPI
from unit.computeapi.raw_server import RawServer

from computepool_api.transport import ComputeAPI
from simulator.process import SimulatorProcess


@pytest.fixture
async def raw() -> AsyncIterator[RawServer]:
    async with RawServer().running() as server:
        yield server


@pytest.fixture
def pauses() -> list[float]:
    """The pauses that were asked for, none of which is waited for."""
    return []


@pytest.fixture
async def make_api(pauses: list[float]) -> AsyncIterator[MakeAPI]:
    """Make clients that do not pause, and are closed in the end."""
    made: list[ComputeAPI] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await asyncio.sleep(0)

    def make(url: str, **options: Any) -> ComputeAPI:
        settings: dict[str, Any] = {
            "credentials": lambda: IDENTITY,
            "sleep": sleep,
            "random": random.Random(7),
            **options,
        }
        api = ComputeAPI(url, **settings)
        made.append(api)
        return api

    yield make
    for api in made:
        await api.aclose()


@pytest.fixture
def api(sim: SimulatorProcess, make_api: MakeAPI) -> ComputeAPI:
    """A client of the stand-in compute API."""
    return make_api(sim.url)


@pytest.fixture
def raw_api(raw: RawServer, make_api: MakeAPI) -> ComputeAPI:
    """A client of the raw server, with a twentieth of the usual patience."""
    return make_api(raw.url, patience=0.02)
