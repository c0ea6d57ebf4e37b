"""From a pool's spec to a client of its server: Secret, authority, and what is said without."""

import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from unit.operator.builders import make_spec
from unit.operator.fake_kube import NAMESPACE, FakeKube, Fault, mirrored

from computepool_api.errors import Unavailable
from computepool_api.transport import ComputeAPI
from computepool_operator.connection import Connection, NotConnected
from computepool_operator.pool import ComputeAPISpec
from computepool_operator.reasons import Reason
from simulator.records import Identity
from simulator.serving import Addresses, Running, running
from simulator.simulator import Options, Simulator
from testcluster.pki import Authority, new_authority

SECRET = f"/api/v1/namespaces/{NAMESPACE}/secrets/alchemiscale-compute"
BUNDLE = f"/api/v1/namespaces/{NAMESPACE}/configmaps/authority"
IDENTITIES = [Identity(name, f"{name}s-key", ("*-*-*",)) for name in ("first", "second")]


@dataclass
class Wire:
    kube: FakeKube
    connection: Connection
    server: Running
    reference: dict[str, str] = field(default_factory=dict)

    @property
    def spec(self) -> ComputeAPISpec:
        given: dict[str, Any] = {"url": self.server.url}
        if self.reference:
            given["ca_bundle_ref"] = self.reference
        return make_spec(compute_api=given).compute_api

    async def secret(self, identifier: str, key: str | None = None) -> None:
        pair = {"identifier": identifier, "key": key or f"{identifier}s-key"}
        data = {name: base64.b64encode(v.encode()).decode() for name, v in pair.items()}
        await self.kube.put(SECRET, {"data": data})

    async def bundle(self, text: str) -> None:
        self.reference = {"name": "authority", "key": "ca.crt"}
        await self.kube.put(BUNDLE, {"data": {"ca.crt": text}})

    async def prepare(self) -> ComputeAPI:
        return await self.connection.prepare(self.spec)

    async def not_connected(self) -> NotConnected:
        with pytest.raises(NotConnected) as caught:
            await self.prepare()
        return caught.value

    @property
    def identities(self) -> list[str]:
        """Whose tokens the requests so far have carried."""
        return [
            entry["notes"]["identity"]
            for entry in self.server.simulator.audit.entries()
            if "identity" in entry["notes"] and entry["endpoint"] == "taskhubs"
        ]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return new_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    kube = FakeKube()
    simulator = Simulator(Options(identities=IDENTITIES))
    async with running(simulator) as server, kube.running() as api, mirrored(api) as cluster:
        connection = Connection(cluster, NAMESPACE)
        found = Wire(kube, connection, server)
        await found.secret("first")
        yield found
        await connection.close()


class TestCredentials:
    async def test_the_secret_is_used(self, wire: Wire) -> None:
        await (await wire.prepare()).taskhubs()
        assert wire.identities == ["first"]

    async def test_while_nothing_changes_the_client_stays(self, wire: Wire) -> None:
        assert await wire.prepare() is await wire.prepare()

    async def test_a_changed_secret_is_used_at_the_next_cycle(self, wire: Wire) -> None:
        await (await wire.prepare()).taskhubs()
        await wire.secret("second")
        await (await wire.prepare()).taskhubs()
        assert wire.identities == ["first", "second"]

    async def test_a_changed_url_is_another_client(self, wire: Wire) -> None:
        before = await wire.prepare()
        other = make_spec(compute_api={"url": "https://elsewhere.example.org"}).compute_api
        assert await wire.connection.prepare(other) is not before

    async def test_a_secret_that_is_gone_is_missing(self, wire: Wire) -> None:
        await wire.kube.remove(SECRET)
        verdict = (await wire.not_connected()).verdict
        assert verdict.reason is Reason.SECRET_MISSING
        assert "no Secret alchemiscale-compute in namespace lab: create it" in verdict.message

    async def test_a_secret_that_may_not_be_read_is_missing_for_that_reason(
        self, wire: Wire
    ) -> None:
        wire.kube.faults.append(Fault("GET", "/secrets/alchemiscale-compute", 403, message="RBAC"))
        verdict = (await wire.not_connected()).verdict
        assert verdict.reason is Reason.SECRET_MISSING
        assert "may not read the Secret alchemiscale-compute: RBAC" in verdict.message

    async def test_half_a_secret_is_incomplete(self, wire: Wire) -> None:
        await wire.kube.put(SECRET, {"data": {"identifier": "Zmlyc3Q="}})
        verdict = (await wire.not_connected()).verdict
        assert verdict.reason is Reason.SECRET_INCOMPLETE
        assert verdict.message.startswith("The Secret alchemiscale-compute has no key key")

    async def test_kubernetes_that_is_away_is_not_a_missing_secret(self, wire: Wire) -> None:
        wire.kube.faults.append(Fault("GET", "/secrets/alchemiscale-compute", 503))
        assert (await wire.not_connected()).verdict.reason is Reason.KUBERNETES_UNAVAILABLE

    async def test_nothing_of_a_secret_is_shown(self, wire: Wire) -> None:
        await wire.prepare()
        assert "firsts-key" not in repr(vars(wire.connection))


class TestSurroundings:
    @pytest.mark.parametrize(
        ("variable", "value"),
        [
            ("HTTPS_PROXY", "http://user:12#s3cret@proxy:3128"),
            ("ALL_PROXY", "socks5://user:s3cret@proxy:1080"),
            ("SSL_CERT_FILE", "/s3cret"),
        ],
    )
    async def test_a_variable_of_no_use_is_said_until_it_is_mended(
        self, wire: Wire, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
    ) -> None:
        private = make_spec(compute_api={"url": "https://compute.example.org"}).compute_api
        monkeypatch.setenv(variable, value)
        with pytest.raises(NotConnected) as caught:
            await wire.connection.prepare(private)
        verdict = caught.value.verdict
        assert verdict.reason is Reason.COMPUTE_API_UNAVAILABLE
        assert f"{variable} cannot be used" in verdict.message
        assert "s3c" not in verdict.message
        monkeypatch.delenv(variable)
        await wire.connection.prepare(private)

    async def test_a_url_that_only_the_client_refuses_is_said_and_not_shown(
        self, wire: Wire
    ) -> None:
        spec = make_spec(compute_api={"url": "https://user/s3cret@host"}).compute_api
        with pytest.raises(NotConnected) as caught:
            await wire.connection.prepare(spec)
        assert "the URL of the compute API has an @" in caught.value.verdict.message
        assert "s3cret" not in caught.value.verdict.message


class TestLastWords:
    async def test_a_secret_that_is_gone_by_now_still_serves(self, wire: Wire) -> None:
        await wire.prepare()
        await wire.kube.remove(SECRET)
        await (await wire.connection.last(wire.spec)).taskhubs()
        assert wire.identities == ["first"]

    async def test_a_bundle_that_is_broken_by_now_does_not_keep_from_the_last_words(
        self, wire: Wire
    ) -> None:
        before = await wire.prepare()
        await wire.bundle("no certificate")
        await wire.not_connected()
        last = await wire.connection.last(wire.spec)
        assert last is before
        await last.check()

    async def test_unless_it_was_never_there(self, wire: Wire) -> None:
        await wire.kube.remove(SECRET)
        with pytest.raises(NotConnected):
            await wire.connection.last(wire.spec)


class TestAuthority:
    @pytest.fixture
    async def private(self, wire: Wire, authority: Authority) -> AsyncIterator[Wire]:
        """The same with a server whose certificate no public authority has signed."""
        pair = authority.issue("server", user="server", hosts=["127.0.0.1"])
        where = Addresses(certificate=pair.certificate, certificate_key=pair.key)
        async with running(Simulator(Options(identities=IDENTITIES)), where) as server:
            wire.server = server
            yield wire
            await wire.connection.close()

    async def test_is_trusted_when_the_pool_names_it(
        self, private: Wire, authority: Authority
    ) -> None:
        await private.bundle(authority.pair.certificate.read_text())
        await (await private.prepare()).taskhubs()
        assert private.identities == ["first"]

    async def test_comments_in_any_script_do_not_matter(
        self, private: Wire, authority: Authority
    ) -> None:
        text = authority.pair.certificate.read_text()
        await private.bundle(f"# Zertifikat für die Prüfstelle\n{text}")
        await (await private.prepare()).taskhubs()
        assert private.identities == ["first"]

    async def test_is_not_trusted_otherwise(self, private: Wire) -> None:
        api = await private.prepare()
        with pytest.raises(Unavailable, match="certificate"):
            await api.ping()

    @pytest.mark.parametrize("text", ["not a certificate", "ü", "-----BEGIN CERTIFICATE-----\nx\n"])
    async def test_a_bundle_that_is_none_is_said(self, wire: Wire, text: str) -> None:
        await wire.bundle(text)
        verdict = (await wire.not_connected()).verdict
        assert verdict.reason is Reason.CA_BUNDLE_INVALID
        assert "key ca.crt of ConfigMap authority holds no certificate" in verdict.message

    async def test_a_config_map_that_is_missing_is_said(self, wire: Wire) -> None:
        wire.reference = {"name": "authority", "key": "ca.crt"}
        verdict = (await wire.not_connected()).verdict
        assert verdict.reason is Reason.CA_BUNDLE_INVALID
        assert "no ConfigMap authority in namespace lab: create it" in verdict.message

    async def test_a_key_that_is_missing_is_said(self, wire: Wire) -> None:
        await wire.bundle("")
        verdict = (await wire.not_connected()).verdict
        assert verdict.reason is Reason.CA_BUNDLE_INVALID
        assert "has no key ca.crt" in verdict.message

    async def test_it_works_again_once_the_bundle_is_mended(
        self, private: Wire, authority: Authority
    ) -> None:
        await private.bundle("not a certificate")
        await private.not_connected()
        await private.bundle(authority.pair.certificate.read_text())
        await (await private.prepare()).taskhubs()
