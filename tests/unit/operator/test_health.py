"""What the kubelet is told: alive while cycles end, ready once the mirrors are filled."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import pytest

from computepool_operator.health import HealthServer


@dataclass
class Probe:
    """The server, what it is told, and where it listens."""

    stuck: list[str] = field(default_factory=list)
    ready: bool = False
    url: str = ""

    async def get(self, path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.get(self.url + path) as answer:
            return answer.status, await answer.text()


@pytest.fixture
async def probe(unused_tcp_port: int) -> AsyncIterator[Probe]:
    found = Probe(url=f"http://127.0.0.1:{unused_tcp_port}")
    server = HealthServer(unused_tcp_port, stuck=lambda: found.stuck, ready=lambda: found.ready)
    await server.start()
    yield found
    await server.stop()


async def test_alive_while_cycles_come_to_an_end(probe: Probe) -> None:
    assert await probe.get("/livez") == (200, "ok\n")


async def test_not_alive_while_one_does_not_and_it_is_named(probe: Probe) -> None:
    probe.stuck = ["lab/a100", "lab/h100"]
    assert await probe.get("/livez") == (503, "cycles do not end: lab/a100, lab/h100\n")


async def test_alive_again(probe: Probe) -> None:
    probe.stuck = ["lab/a100"]
    await probe.get("/livez")
    probe.stuck = []
    assert (await probe.get("/livez"))[0] == 200


async def test_not_ready_before_jobs_and_pods_are_listed(probe: Probe) -> None:
    assert (await probe.get("/readyz"))[0] == 503
    probe.ready = True
    assert (await probe.get("/readyz"))[0] == 200


async def test_readiness_says_nothing_about_life(probe: Probe) -> None:
    # An API server that is away makes the operator not ready; a restart would not help.
    assert (await probe.get("/livez"))[0] == 200


async def test_a_server_that_never_started_stops() -> None:
    await HealthServer(0, stuck=list, ready=bool).stop()
