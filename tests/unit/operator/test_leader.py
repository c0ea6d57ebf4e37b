"""One instance leads: the Lease on a small API server over real HTTP, the time moved by hand."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

import pytest
from aiohttp import web
from unit.operator.api_server import Body, connected, serving, status_body

from computepool_operator.kubeapi import KubeAPI
from computepool_operator.leader import (
    CALL_SECONDS,
    LEASE_SECONDS,
    RENEW_DEADLINE_SECONDS,
    RETRY_SECONDS,
    Leadership,
)

PATH = "/apis/coordination.k8s.io/v1/namespaces/lab/leases"
LONG_AGO = "2026-03-01T12:00:00.000000Z"


@dataclass
class Time:
    """A clock that moves only when somebody sleeps, or a test says so."""

    now: float = 1000.0
    limit: float = 10_000.0
    suspended: float = 0.0
    """For how long the next sleep is longer than was asked for."""

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds + self.suspended
        self.suspended = 0.0
        assert self.now < self.limit, "it goes on for ever"
        await asyncio.sleep(0)


@dataclass
class Leases:
    """The API server: one Lease, replaced only by those who have seen its last version."""

    lease: Body | None = None
    on_request: Callable[[str], web.Response | None] = lambda _method: None
    requests: list[str] = field(default_factory=list)
    version: int = 1

    @property
    def spec(self) -> dict[str, Any]:
        assert self.lease is not None
        spec: dict[str, Any] = self.lease["spec"]
        return spec

    def hold(self, holder: str, *, seconds: int = LEASE_SECONDS, renewed: str = LONG_AGO) -> None:
        """Write it as another instance would."""
        spec = {
            "holderIdentity": holder,
            "leaseDurationSeconds": seconds,
            "acquireTime": LONG_AGO,
            "renewTime": renewed,
            "leaseTransitions": 3,
        }
        self.store({"metadata": {"name": "operator"}, "spec": spec})

    def store(self, lease: Body) -> Body:
        self.version += 1
        lease["metadata"]["resourceVersion"] = str(self.version)
        self.lease = deepcopy(lease)
        return self.lease

    async def answer(self, request: web.Request) -> web.Response:
        self.requests.append(request.method)
        if (other := self.on_request(request.method)) is not None:
            return other
        match request.method:
            case "GET" if self.lease is None:
                return refuse(404, "NotFound")
            case "GET":
                return web.json_response(self.lease)
            case "POST" if self.lease is not None:
                return refuse(409, "AlreadyExists")
            case "POST":
                return web.json_response(self.store(await request.json()), status=201)
        body = json.loads(await request.text())
        if self.lease is None or body["metadata"]["resourceVersion"] != str(self.version):
            return refuse(409, "Conflict")
        return web.json_response(self.store(body))


def refuse(code: int, reason: str) -> web.Response:
    return web.json_response(status_body(code, reason, "no"), status=code)


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def leases() -> Leases:
    return Leases()


@pytest.fixture
async def api(leases: Leases) -> AsyncIterator[KubeAPI]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", leases.answer)
    async with serving(app) as url, connected(url) as api:
        yield api


@dataclass
class Instance:
    """An instance of the operator, and when it began to lead."""

    leadership: Leadership
    time: Time
    started_at: list[float] = field(default_factory=list)
    on_start: Callable[[], None] = lambda: None

    async def started(self) -> None:
        self.started_at.append(self.time.now)
        self.on_start()

    async def lead(self) -> None:
        await self.leadership.lead(self.started)


MakeInstance = Callable[[str], Instance]


@pytest.fixture
def make(api: KubeAPI, time: Time) -> MakeInstance:
    def make(identity: str) -> Instance:
        leadership = Leadership(
            api,
            name="operator",
            namespace="lab",
            identity=identity,
            monotonic=time.monotonic,
            sleep=time.sleep,
        )
        return Instance(leadership, time)

    return make


@pytest.fixture
def ours(make: MakeInstance) -> Instance:
    return make("ours")


def cut_off_after(leases: Leases, requests: int) -> None:
    """Let so many requests through, and answer 503 from then on."""

    def answer(_method: str) -> web.Response | None:
        return refuse(503, "ServiceUnavailable") if len(leases.requests) > requests else None

    leases.on_request = answer


class TestTaking:
    async def test_a_lease_that_does_not_exist_is_made(
        self, ours: Instance, leases: Leases
    ) -> None:
        cut_off_after(leases, 2)
        await ours.lead()
        assert len(ours.started_at) == 1
        assert leases.spec["holderIdentity"] == "ours"
        assert leases.spec["leaseDurationSeconds"] == LEASE_SECONDS

    @pytest.mark.parametrize("holder", ["", "ours"])
    async def test_one_given_back_or_left_by_ourselves_is_taken_at_once(
        self, ours: Instance, leases: Leases, time: Time, holder: str
    ) -> None:
        leases.hold(holder)
        began = time.now
        cut_off_after(leases, 2)
        await ours.lead()
        assert ours.started_at == [began]

    async def test_one_that_is_not_renewed_is_taken_when_it_has_run_out(
        self, ours: Instance, leases: Leases, time: Time
    ) -> None:
        # Not by the clock of the holder, which may be anything.
        leases.hold("theirs", renewed="2999-01-01T00:00:00.000000Z")
        began = time.now
        ours.on_start = lambda: cut_off_after(leases, 0)
        await ours.lead()
        (started,) = ours.started_at
        assert began + LEASE_SECONDS <= started <= began + LEASE_SECONDS + RETRY_SECONDS
        assert leases.spec["leaseTransitions"] == 4
        assert leases.spec["acquireTime"] != LONG_AGO

    async def test_it_runs_for_as_long_as_its_holder_promised(
        self, ours: Instance, leases: Leases, time: Time
    ) -> None:
        leases.hold("theirs", seconds=60)
        began = time.now
        ours.on_start = lambda: cut_off_after(leases, 0)
        await ours.lead()
        assert ours.started_at[0] >= began + 60

    async def test_one_that_is_renewed_is_left_to_its_holder(
        self, ours: Instance, leases: Leases, time: Time
    ) -> None:
        leases.hold("theirs")

        def renew(method: str) -> None:
            if method == "GET" and len(leases.requests) % 5 == 0:
                leases.hold("theirs", renewed=f"2026-03-01T12:00:{len(leases.requests) % 60:02}Z")

        leases.on_request = renew
        time.limit = time.now + 300
        with pytest.raises(AssertionError, match="for ever"):
            await ours.lead()
        assert ours.started_at == []
        assert "PUT" not in leases.requests

    async def test_who_is_slower_than_another_does_not_lead(
        self, ours: Instance, leases: Leases, time: Time
    ) -> None:
        leases.hold("")

        def be_faster(method: str) -> None:
            if method == "PUT" and leases.spec["holderIdentity"] == "":
                leases.hold("theirs")

        leases.on_request = be_faster
        time.limit = time.now + LEASE_SECONDS - 1
        with pytest.raises(AssertionError, match="for ever"):
            await ours.lead()
        assert ours.started_at == []
        assert leases.spec["holderIdentity"] == "theirs"

    async def test_of_two_that_make_it_one_leads(
        self, make: MakeInstance, leases: Leases, time: Time
    ) -> None:
        instances = [make("one"), make("other")]
        # Both move the one clock, so a Lease must not run out while its holder waits for an answer.
        time.limit = time.now + LEASE_SECONDS - 1
        await asyncio.gather(*(one.lead() for one in instances), return_exceptions=True)
        assert sum(len(instance.started_at) for instance in instances) == 1


class TestHolding:
    async def test_it_is_renewed_all_the_while(
        self, ours: Instance, leases: Leases, time: Time
    ) -> None:
        leases.hold("ours")
        cut_off_after(leases, 40)
        began = time.now
        await ours.lead()
        assert leases.requests[:40] == ["GET", "PUT"] * 20
        assert time.now >= began + 19 * RETRY_SECONDS
        assert leases.spec["acquireTime"] == LONG_AGO
        assert leases.spec["renewTime"] != LONG_AGO
        assert leases.spec["leaseTransitions"] == 3

    async def test_a_short_outage_is_survived(
        self, ours: Instance, leases: Leases, time: Time
    ) -> None:
        def answer(_method: str) -> web.Response | None:
            away = 5 < len(leases.requests) <= 8 or len(leases.requests) > 20
            return refuse(503, "ServiceUnavailable") if away else None

        leases.on_request = answer
        began = time.now
        await ours.lead()
        assert time.now - began > 2 * RENEW_DEADLINE_SECONDS
        assert len(ours.started_at) == 1

    @pytest.mark.parametrize(
        "takes",
        [(0.0,), (1.0,), (CALL_SECONDS,), (0.0, 0.0, 0.0, RETRY_SECONDS - 0.01, CALL_SECONDS)],
    )
    @pytest.mark.parametrize("renewals", range(3))
    async def test_who_cannot_renew_stops_before_another_may_lead(
        self, ours: Instance, leases: Leases, time: Time, takes: tuple[float, ...], renewals: int
    ) -> None:
        written_at, lengths = [time.now], cycle(takes)

        def answer(method: str) -> web.Response | None:
            if len(leases.requests) <= 2 * (renewals + 1):
                if method != "GET":
                    written_at.append(time.now)
                return None
            time.now += next(lengths)
            return refuse(503, "ServiceUnavailable")

        leases.on_request = answer
        await ours.lead()
        assert len(ours.started_at) == 1
        assert time.now < written_at[-1] + LEASE_SECONDS

    @pytest.mark.parametrize("renewals", range(3))
    async def test_who_was_suspended_may_write_no_more_and_does_not_even_ask(
        self, ours: Instance, leases: Leases, time: Time, renewals: int
    ) -> None:
        held: list[bool] = []

        def suspend(_method: str) -> None:
            held.append(ours.leadership.held)
            if len(leases.requests) == 2 * (renewals + 1):
                time.now += LEASE_SECONDS
                held.append(ours.leadership.held)

        leases.on_request = suspend
        await ours.lead()
        assert held == [False, False, *[True] * (2 * renewals), False]
        assert len(leases.requests) == 2 * (renewals + 1)
        assert not ours.leadership.held

    async def test_who_was_suspended_while_nothing_was_asked_may_write_no_more(
        self, make: MakeInstance, leases: Leases, time: Time
    ) -> None:
        ours = make("ours")
        ours.on_start = lambda: setattr(time, "suspended", LEASE_SECONDS - RETRY_SECONDS)
        await ours.lead()
        assert leases.requests == ["GET", "POST"]

    async def test_it_is_held_until_shortly_before_another_may_lead(
        self, ours: Instance, leases: Leases, time: Time
    ) -> None:
        assert not ours.leadership.held
        spent: list[float] = []

        def look() -> None:
            began = time.now
            while ours.leadership.held:
                time.now += 0.125
            spent.append(time.now - began)

        ours.on_start = look
        await ours.lead()
        assert RENEW_DEADLINE_SECONDS < spent[0] < LEASE_SECONDS

    async def test_one_whose_lease_another_has_taken_stops(
        self, ours: Instance, leases: Leases, time: Time
    ) -> None:
        ours.on_start = lambda: leases.hold("theirs")
        began = time.now
        await ours.lead()
        assert time.now <= began + RENEW_DEADLINE_SECONDS
        assert leases.spec["holderIdentity"] == "theirs"

    async def test_one_that_begins_too_slowly_does_not_lead_on(
        self, ours: Instance, leases: Leases, time: Time
    ) -> None:
        async def slow() -> None:
            time.now += LEASE_SECONDS

        began = time.now
        await ours.leadership.lead(slow)
        assert time.now == began + LEASE_SECONDS
        assert "PUT" not in leases.requests


class TestGivingBack:
    async def test_another_may_lead_at_once(
        self, ours: Instance, make: MakeInstance, leases: Leases, time: Time
    ) -> None:
        leases.hold("ours")
        await ours.leadership.give_back()
        assert leases.spec["holderIdentity"] == ""
        began = time.now
        other = make("other")
        other.on_start = lambda: cut_off_after(leases, 0)
        await other.lead()
        assert other.started_at == [began]

    async def test_somebody_else_s_is_left_alone(self, ours: Instance, leases: Leases) -> None:
        leases.hold("theirs")
        before = deepcopy(leases.lease)
        await ours.leadership.give_back()
        assert leases.lease == before

    async def test_without_a_lease_or_a_server_nothing_happens(
        self, ours: Instance, leases: Leases, caplog: pytest.LogCaptureFixture
    ) -> None:
        await ours.leadership.give_back()
        leases.hold("ours")
        cut_off_after(leases, 0)
        await ours.leadership.give_back()
        assert leases.spec["holderIdentity"] == "ours"
        assert [record.getMessage() for record in caplog.records] == ["lease not given back"] * 2
