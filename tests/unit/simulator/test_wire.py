"""The server as a client sees it: faults, resets, tokens, and the audit log."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from simulator.faults import Fault, FaultKind, When
from simulator.records import Identity
from simulator.scopes import Scope
from simulator.serving import Addresses, Running, running
from simulator.settings import settings_of_version
from simulator.simulator import Options, Simulator

SERVICE = "svc-" + "0" * 32
MANAGER = "mgr-" + "0" * 32
ME = Identity("me", "key", ("*-*-*",))


@pytest.fixture
async def server() -> AsyncIterator[Running]:
    async with running(Simulator(Options(identities=[ME], seed=1))) as server:
        yield server


@pytest.fixture
async def client(server: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with logged_in(server.url) as client:
        yield client


@contextlib.asynccontextmanager
async def logged_in(url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client with a token."""
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as client:
        answer = await client.post("/token", data={"username": "me", "password": "key"})
        client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        yield client


def inject(server: Running, endpoint: str, kind: FaultKind, **details: Any) -> None:
    server.simulator.faults.add(Fault(endpoint, kind, **details))


async def register(client: httpx.AsyncClient) -> httpx.Response:
    return await client.post(f"/computeservice/{SERVICE}/register")


def registered(server: Running) -> bool:
    return SERVICE in server.simulator.store.registry.services


@pytest.mark.parametrize("when", When)
@pytest.mark.parametrize("kind", [FaultKind.RESET, FaultKind.STATUS, FaultKind.GARBAGE])
async def test_the_server_acts_before_the_fault_or_not_at_all(
    server: Running, client: httpx.AsyncClient, kind: FaultKind, when: When
) -> None:
    inject(server, "service_register", kind, when=when)
    if kind is FaultKind.RESET:
        with pytest.raises(httpx.ReadError):
            await register(client)
    else:
        answer = await register(client)
        assert answer.status_code == (503 if kind is FaultKind.STATUS else 200)
        assert answer.text == ("injected 503" if kind is FaultKind.STATUS else '{"unexpected": tru')
    assert registered(server) is (when is When.AFTER)
    assert (await client.get("/info")).status_code == 200


async def test_a_status_fault_says_what_it_is_told(
    server: Running, client: httpx.AsyncClient
) -> None:
    inject(server, "info", FaultKind.STATUS, status=429, body="{}", headers={"Retry-After": "7"})
    answer = await client.get("/info")
    assert (answer.status_code, answer.json(), answer.headers["retry-after"]) == (429, {}, "7")


async def test_a_truncated_answer_breaks_off_in_its_body(
    server: Running, client: httpx.AsyncClient
) -> None:
    inject(server, "service_register", FaultKind.TRUNCATE)
    with pytest.raises(httpx.RemoteProtocolError, match=r"incomplete|complete message"):
        await register(client)
    assert registered(server)


async def test_a_hang_lasts_until_the_client_gives_up(
    server: Running, client: httpx.AsyncClient
) -> None:
    inject(server, "service_register", FaultKind.HANG, when=When.AFTER)
    with pytest.raises(httpx.ReadTimeout):
        await client.post(f"/computeservice/{SERVICE}/register", timeout=0.1)
    assert registered(server)


async def test_a_hang_with_an_end_closes_the_connection(
    server: Running, client: httpx.AsyncClient
) -> None:
    inject(server, "info", FaultKind.HANG, seconds=0.05)
    with pytest.raises(httpx.RemoteProtocolError):
        await client.get("/info")


@pytest.mark.parametrize("when", When)
async def test_latency_delays_the_true_answer(
    server: Running, client: httpx.AsyncClient, when: When
) -> None:
    inject(server, "service_register", FaultKind.LATENCY, seconds=0.1, when=when)
    started = time.monotonic()
    waiting = asyncio.create_task(register(client))
    await asyncio.sleep(0.05)
    assert registered(server) is (when is When.AFTER)
    answer = await waiting
    assert answer.status_code == 200
    assert time.monotonic() - started >= 0.1


async def test_the_next_request_after_a_500_meets_a_reset(
    server: Running, client: httpx.AsyncClient
) -> None:
    broken = await client.post("/computeservice/nobody/deregister")
    assert (broken.status_code, broken.text) == (500, "Internal Server Error")
    assert "connection" not in broken.headers
    with pytest.raises(httpx.ReadError):
        await client.get("/info")
    assert (await client.get("/info")).status_code == 200


@pytest.mark.parametrize(("size", "zipped"), [(999, False), (1000, True)])
async def test_answers_are_gzipped_from_1000_bytes(
    client: httpx.AsyncClient, size: int, zipped: bool
) -> None:
    quotes = 2
    service = "s" * (size - quotes - 33) + "-" + "0" * 32
    answer = await client.post(f"/computeservice/{service}/heartbeat")
    assert len(answer.content) == size
    assert (answer.headers.get("content-encoding") == "gzip") is zipped


async def test_tokens_expire_with_the_virtual_clock(
    server: Running, client: httpx.AsyncClient
) -> None:
    assert (await client.get("/info")).status_code == 200
    server.simulator.clock.advance(1802)
    answer = await client.get("/info")
    assert (answer.status_code, answer.json()) == (
        401,
        {"detail": "Could not validate credentials"},
    )


async def test_rotating_the_secret_ends_all_tokens(
    server: Running, client: httpx.AsyncClient
) -> None:
    server.simulator.store.rotate_secret()
    assert (await client.get("/info")).status_code == 401


async def test_the_audit_log_tells_who_did_what(server: Running, client: httpx.AsyncClient) -> None:
    workload = server.simulator.store.workload
    await register(client)
    inject(server, "claim", FaultKind.RESET)
    body = {"scopes": [{}], "compute_service_id": SERVICE, "count": 1}
    with pytest.raises(httpx.ReadError):
        await client.post("/claim", json=body)
    await client.post("/claim", json=body)
    _, first, lost, claim = server.simulator.audit.entries()
    assert (first["endpoint"], first["ids"]) == ("service_register", {"service": SERVICE})
    assert (lost["status"], lost["fault"]) == (None, "reset")
    assert claim["notes"] == {"identity": "me", "service": SERVICE, "tasks": []}
    assert (claim["status"], claim["sequence"]) == (200, 4)
    assert claim["seconds"] is not None
    assert [e["sequence"] for e in server.simulator.audit.entries(since=3)] == [4]
    assert workload.tasks == {}


async def test_a_path_prefix_is_part_of_every_address() -> None:
    simulator = Simulator(Options(identities=[ME], prefix="/compute"))
    async with running(simulator) as server, logged_in(server.url) as client:
        assert server.url.endswith("/compute")
        assert (await client.get("/info")).status_code == 200
        redirect = await client.get("/ping/")
        assert redirect.headers["location"] == f"{server.url}/ping"
        origin = server.url.removesuffix("/compute")
        for path in ("/ping", f"/computeservice/{SERVICE}/register", "/compute"):
            assert (await client.post(f"{origin}{path}")).status_code == 404


async def test_a_server_before_0_7_has_no_managers() -> None:
    options = Options(identities=[ME], settings=settings_of_version("0.6.1"))
    async with running(Simulator(options)) as server, logged_in(server.url) as client:
        assert (await client.post(f"/computemanager/{MANAGER}/register")).status_code == 404
        assert (await register(client)).status_code == 200


async def test_two_servers_run_side_by_side() -> None:
    async with (
        running(Simulator(Options(identities=[ME]))) as one,
        running(Simulator(Options(identities=[ME])), Addresses(host="127.0.0.1")) as two,
        logged_in(one.url) as client,
    ):
        assert one.url != two.url
        two.simulator.store.workload.hub(Scope("a", "b", "c"), "only here")
        assert (await client.get("/taskhubs")).json() == []
