"""The common endpoints, the URL, TLS, and what is on the wire."""

import asyncio
import gzip
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from unit.computeapi.helpers import IDENTITY, MakeAPI
from unit.computeapi.raw_server import (
    HANG,
    End,
    RawServer,
    Reply,
    Request,
    http,
    jwt,
    ok,
    status,
)

from computepool_api import __version__
from computepool_api.endpoints import INFO
from computepool_api.errors import InvalidRequest, Unavailable, UnexpectedAnswer
from computepool_api.scope import Scope
from computepool_api.transport import ComputeAPI
from computepool_api.wire import Outgoing, normalise_url
from simulator.process import SimulatorProcess
from simulator.records import Identity
from simulator.serving import Addresses, running
from simulator.simulator import Options, Simulator
from testcluster.pki import Authority, new_authority

INFORM = Outgoing("/info")
API = {"api": "AlchemiscaleComputeAPI"}
IDENTITIES = [Identity(IDENTITY.identifier, IDENTITY.key, ("*-*-*",))]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://compute.example.org", "https://compute.example.org"),
        ("https://compute.example.org/", "https://compute.example.org"),
        (" https://compute.example.org//\n", "https://compute.example.org"),
        ("http://10.0.0.1:8080/alchemiscale/compute/", "http://10.0.0.1:8080/alchemiscale/compute"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_base_urls(given: str, kept: str) -> None:
    assert normalise_url(given) == kept


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("", "no URL"),
        ("compute.example.org", "no URL"),
        ("ftp://compute.example.org", "no URL"),
        ("https://", "no URL"),
        ("https:///path", "no URL"),
        ("https://host:0", "no URL"),
        ("https://host:port", "cannot be read"),
        ("https://[::1", "cannot be read"),
        ("https://host/?a=b", "query or fragment"),
        ("https://host/#top", "query or fragment"),
        ("https://me:secret@host", "user name or a password"),
        ("https://secret@host", "user name or a password"),
        ("https://:secret@host", "user name or a password"),
        ("https://me:se/cret@host", "cannot be read"),
        ("https://me/secret@host", "user name or a password"),
        ("https:/me:secret@host", "user name or a password"),
        ("https://ho#st:secret@host", "user name or a password"),
        ("https://" + "ü" * 80, "cannot be read"),
        ("https://me:secret@host:port", "cannot be read"),
    ],
)
def test_useless_base_urls(given: str, told: str, make_api: MakeAPI) -> None:
    with pytest.raises(ValueError, match=told) as caught:
        make_api(given)
    assert "secret" not in str(caught.value)


async def test_what_is_on_the_wire(raw: RawServer, make_api: MakeAPI) -> None:
    await make_api(raw.url + "/prefix/").exchange(INFO, INFORM)
    (request,) = raw.requests
    assert request.target == "/prefix/info"
    assert request.headers["authorization"] == f"Bearer {jwt()}"
    assert request.headers["accept-encoding"] == "gzip"
    agent = request.headers["user-agent"]
    assert agent == f"computepool/{__version__} (alchemiscale compute API client)"


async def test_a_prefix_is_kept(make_api: MakeAPI) -> None:
    async with running(Simulator(Options(IDENTITIES, prefix="/deep/compute"))) as server:
        assert server.url.endswith("/deep/compute")
        await make_api(server.url).check()


async def test_redirects_are_not_followed(raw: RawServer, make_api: MakeAPI) -> None:
    target = "https://user:secret@elsewhere.example.org/ping?token=secret"
    raw.replies = [status(308, headers=[f"Location: {target}"])]
    with pytest.raises(InvalidRequest, match=r"redirect to https://elsewhere\.example\.org/ping,"):
        await make_api(raw.url).ping()
    assert len(raw.requests) == 1


async def test_a_connection_is_kept_alive_between_calls(raw: RawServer, make_api: MakeAPI) -> None:
    api = make_api(raw.url)
    for _ in range(3):
        await api.exchange(INFO, INFORM)
    assert raw.connections == 1


async def test_gzipped_answers_are_read(raw: RawServer, make_api: MakeAPI) -> None:
    packed = gzip.compress(json.dumps(["a-b-c"] * 200).encode())
    raw.replies = [Reply(http(200, raw=packed, headers=["Content-Encoding: gzip"]))]
    assert await make_api(raw.url).visible_scopes("me") == [Scope("a", "b", "c")] * 200


async def test_an_endless_answer_is_not_taken_into_memory(
    raw: RawServer, make_api: MakeAPI
) -> None:
    packed = gzip.compress(b'"' + b"x" * 9_000_000 + b'"', 1)
    raw.replies = [Reply(http(200, raw=packed, headers=["Content-Encoding: gzip"]))]
    with pytest.raises(Unavailable, match="more than 8388608 bytes"):
        await make_api(raw.url).taskhubs()


async def test_a_server_that_trickles_cannot_hold_a_call(make_api: MakeAPI) -> None:
    """Each piece comes within the read timeout; the deadline of the try ends it."""

    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while not writer.is_closing():
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.01)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(trickle, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        api = make_api(f"http://127.0.0.1:{port}", patience=0.01)
        with pytest.raises(Unavailable, match="no whole answer within 20 s"):
            await api.ping()


async def test_ping_tells_another_service(raw: RawServer, make_api: MakeAPI) -> None:
    raw.replies = [ok("<html>"), ok({"api": "AlchemiscaleComputeAPI"})]
    api = make_api(raw.url)
    with pytest.raises(UnexpectedAnswer, match="another service"):
        await api.ping()
    await api.ping()
    assert raw.token_requests == []


async def test_check_says_which_store_is_down(sim: SimulatorProcess, api: ComputeAPI) -> None:
    await api.check()
    sim.admin.set(object_store_up=False)
    with pytest.raises(Unavailable, match="S3 reachable: False") as caught:
        await api.check()
    assert caught.value.status == 503
    assert len(sim.admin.audit(endpoint="check")) == 2


async def test_check_of_another_shape(raw: RawServer, make_api: MakeAPI) -> None:
    raw.replies = [Reply(http(200, raw=b"<html>"))]
    with pytest.raises(UnexpectedAnswer, match="expected null"):
        await make_api(raw.url).check()


async def test_scopes_and_hubs(sim: SimulatorProcess, api: ComputeAPI) -> None:
    sim.admin.add_identity("some one", "k", ["a-b-*", "a-c-d"])
    sim.admin.add_tasks(scope="a-b-c")
    sim.admin.add_tasks(scope="x-b-c")
    assert set(await api.visible_scopes("some one")) == {Scope("a", "b"), Scope("a", "c", "d")}
    assert await api.visible_scopes("nobody") == []
    assert len(await api.taskhubs()) == 2
    (hub,) = await api.taskhubs(Scope("a"))
    assert hub.endswith("-a-b-c")


async def test_scopes_of_another_form(raw: RawServer, make_api: MakeAPI) -> None:
    raw.replies = [ok(["a-b-c", "a*b"])]
    with pytest.raises(UnexpectedAnswer, match="is no scope"):
        await make_api(raw.url).visible_scopes("me")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return new_authority(tmp_path_factory.mktemp("pki"))


async def test_the_ca_of_a_private_deployment(
    authority: Authority, make_api: MakeAPI, tmp_path: Path
) -> None:
    pair = authority.issue("server", user="server", hosts=["127.0.0.1"])
    where = Addresses(certificate=pair.certificate, certificate_key=pair.key)
    bundle = str(authority.pair.certificate)
    async with running(Simulator(Options(IDENTITIES)), where) as server:
        assert server.url.startswith("https:")
        await make_api(server.url, verify=bundle).check()
        await make_api(server.url, verify=ssl.create_default_context(cafile=bundle)).check()
        await make_api(server.url, verify=False).check()
        with pytest.raises(Unavailable, match="certificate of the server is not trusted") as caught:
            await make_api(server.url).check()
        assert "name the CA that signed it" in str(caught.value)
        with pytest.raises(Unavailable, match="not trusted"):
            await make_api(server.url, verify=str(tmp_path)).check()
        with pytest.raises(Unavailable, match=r"no TLS with the server|connection ended"):
            await make_api(server.url.replace("https:", "http:")).check()


@dataclass
class Rotation:
    """A server of a private authority that is replaced, and the bundle that clients read."""

    server: RawServer
    tls: ssl.SSLContext
    bundle: Path
    old: Authority
    new: Authority

    def serve(self, authority: Authority) -> None:
        pair = authority.issue("rotating", user="server", hosts=["127.0.0.1"])
        self.tls.load_cert_chain(pair.certificate, pair.key)

    def trust(self, authority: Authority) -> None:
        """Put another file in the bundle's place, as the kubelet does."""
        file = self.bundle.with_suffix(".new")
        file.write_bytes(authority.pair.certificate.read_bytes())
        file.replace(self.bundle)


@pytest.fixture
async def rotation(
    authority: Authority, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Rotation]:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    old = new_authority(tmp_path_factory.mktemp("old"))
    server = RawServer()
    found = Rotation(server, tls, tmp_path / "ca.crt", old, authority)
    found.serve(old)
    found.trust(old)
    # So each call makes a connection of its own.
    server.replies = [ok(API, headers=["Connection: close"])]
    async with server.running(tls=tls):
        yield found


async def test_a_bundle_that_is_replaced_is_read_at_the_next_try(
    rotation: Rotation, make_api: MakeAPI, pauses: list[float]
) -> None:
    api = make_api(rotation.server.url, verify=str(rotation.bundle))
    await api.ping()
    rotation.serve(rotation.new)
    with pytest.raises(Unavailable, match="not trusted"):
        await api.ping()
    rotation.trust(rotation.new)
    pauses.clear()
    await api.ping()
    assert len(pauses) == 1
    await api.ping()
    assert len(pauses) == 1
    rotation.serve(rotation.old)
    with pytest.raises(Unavailable, match="not trusted"):
        await api.ping()


async def test_a_bundle_that_is_just_being_replaced_is_read_later(
    rotation: Rotation, make_api: MakeAPI
) -> None:
    api = make_api(rotation.server.url, verify=str(rotation.bundle))
    rotation.serve(rotation.new)
    rotation.bundle.unlink()
    with pytest.raises(Unavailable, match="not trusted"):
        await api.ping()
    rotation.bundle.write_text("-----BEGIN CERTIF")
    with pytest.raises(Unavailable, match="not trusted"):
        await api.ping()
    rotation.trust(rotation.new)
    await api.ping()


async def test_a_request_under_way_goes_on_when_the_bundle_is_replaced(
    rotation: Rotation, make_api: MakeAPI
) -> None:
    arrived = asyncio.Event()

    def reply(request: Request) -> Reply:
        if request.target == "/info":
            arrived.set()
            return HANG
        return ok(API)

    rotation.server.replies = reply
    api = make_api(rotation.server.url, verify=str(rotation.bundle))
    async with asyncio.TaskGroup() as tasks:
        under_way = tasks.create_task(api.exchange(INFO, INFORM))
        await arrived.wait()
        rotation.serve(rotation.new)
        rotation.trust(rotation.new)
        await api.ping()
        await api.ping()
        # It was not broken off, which would have it sent again.
        assert len(rotation.server.of("/info")) == 1
        under_way.cancel()


async def test_a_certificate_of_another_host(authority: Authority, make_api: MakeAPI) -> None:
    pair = authority.issue("other", user="other", hosts=["elsewhere.example.org"])
    where = Addresses(certificate=pair.certificate, certificate_key=pair.key)
    async with running(Simulator(Options(IDENTITIES)), where) as server:
        with pytest.raises(Unavailable, match=r"not trusted \(IP address mismatch"):
            await make_api(server.url, verify=str(authority.pair.certificate)).ping()


async def test_tls_to_a_server_without_it(make_api: MakeAPI) -> None:
    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(http(400))
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Unavailable, match=r"no TLS with the server \(WRONG_VERSION_NUMBER\)"):
            await make_api(f"https://127.0.0.1:{port}").ping()


async def test_the_proxy_of_the_environment_is_used(
    raw: RawServer, make_api: MakeAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", raw.url)
    raw.replies = [status(403)]
    with pytest.raises(Unavailable, match="the proxy refuses to connect"):
        await make_api("https://compute.example.org").ping()
    assert {request.method for request in raw.requests} == {"CONNECT"}


async def test_statuses_without_a_meaning_of_their_own(raw: RawServer, make_api: MakeAPI) -> None:
    raw.replies = [status(404)]
    api = make_api(raw.url)
    for call in (api.ping, api.check, api.taskhubs, lambda: api.visible_scopes("me")):
        with pytest.raises(InvalidRequest, match="path prefix included"):
            await call()
    raw.token_replies = [status(422, [{"loc": ["body", "username"], "msg": "Field required"}])]
    with pytest.raises(InvalidRequest, match=r"body\.username: Field required"):
        await make_api(raw.url).check()


async def test_authorities_that_the_environment_names_in_vain(
    make_api: MakeAPI, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "ca.pem"
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with pytest.raises(ValueError, match=r"^SSL_CERT_FILE cannot be used: No such file") as caught:
        make_api("https://host")
    assert str(file) not in str(caught.value)
    file.write_text("no certificate")
    with pytest.raises(ValueError, match=r"^SSL_CERT_FILE cannot be used: .*no certificate"):
        make_api("https://host")
    make_api("http://host")


def test_a_bundle_that_is_not_there(make_api: MakeAPI, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"CA bundle .*ca\.pem cannot be used: No such file"):
        make_api("https://host", verify=str(tmp_path / "ca.pem"))
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(ValueError, match=r"CA bundle .*ca\.pem cannot be used"):
        make_api("https://host", verify=str(tmp_path / "ca.pem"))


async def test_a_name_that_does_not_resolve(make_api: MakeAPI) -> None:
    with pytest.raises(Unavailable, match=r"http://nowhere\.invalid: no connection \("):
        await make_api("http://nowhere.invalid").ping()


async def test_a_context_manager_closes_the_connections(raw: RawServer) -> None:
    async with ComputeAPI(raw.url, lambda: IDENTITY) as api:
        assert repr(api) == f"ComputeAPI('{raw.url}')"
        await api.check()
    with pytest.raises(RuntimeError, match="closed"):
        await api.check()


async def test_a_chunked_5xx_is_read_and_its_connection_dropped(
    raw: RawServer, make_api: MakeAPI
) -> None:
    chunked = (
        b"HTTP/1.1 503 Unavailable\r\nTransfer-Encoding: chunked\r\n\r\n"
        b'e\r\n{"detail":"no"\r\n1\r\n}\r\n0\r\n\r\n'
    )
    raw.replies = [Reply(chunked), ok()]
    api = make_api(raw.url)
    with pytest.raises(Unavailable, match="answered 503: no"):
        await api.check()
    await api.check()
    assert [request.connection for request in raw.requests] == [1, 2]


async def test_a_5xx_cut_short_is_still_a_5xx(raw: RawServer, make_api: MakeAPI) -> None:
    cut = b"HTTP/1.1 503 Unavailable\r\nContent-Length: 100\r\n\r\nhal"
    raw.replies = [Reply(cut, End.CLOSE)]
    with pytest.raises(Unavailable, match="answered 503"):
        await make_api(raw.url).check()
