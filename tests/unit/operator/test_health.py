"""What the kubelet is answered, over real HTTP."""

import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx
import pytest

from computepool_operator.health import HealthServer


@dataclass
class Operator:
    """What the probes are about, and a client that asks like the kubelet."""

    http: httpx.AsyncClient
    stuck: list[str] = field(default_factory=list)
    ready: bool = True

    async def ask(self, path: str) -> tuple[int, str]:
        answer = await self.http.get(path)
        return answer.status_code, answer.text


@pytest.fixture
async def operator() -> AsyncIterator[Operator]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
        found = Operator(http)
        server = HealthServer(port, stuck=lambda: found.stuck, ready=lambda: found.ready)
        await server.start()
        yield found
        await server.stop()
        with pytest.raises(httpx.ConnectError):
            await http.get("/livez")


async def test_all_is_well(operator: Operator) -> None:
    assert await operator.ask("/livez") == (200, "ok\n")
    assert await operator.ask("/readyz") == (200, "ok\n")


async def test_cycles_that_do_not_end_are_named(operator: Operator) -> None:
    operator.stuck = ["lab/a100", "lab/h100"]
    assert await operator.ask("/livez") == (503, "cycles do not end: lab/a100, lab/h100\n")
    operator.stuck = []
    assert (await operator.ask("/livez"))[0] == 200


async def test_before_the_first_lists_it_lives_and_is_not_ready(operator: Operator) -> None:
    operator.ready = False
    status, text = await operator.ask("/readyz")
    assert (status, "not been listed" in text) == (503, True)
    assert (await operator.ask("/livez"))[0] == 200


async def test_there_is_nothing_else(operator: Operator) -> None:
    assert (await operator.ask("/metrics"))[0] == 404


async def test_a_server_that_was_never_started_can_be_stopped() -> None:
    await HealthServer(0, stuck=list, ready=lambda: True).stop()
