"""What a service says beyond the traps: lost answers, half-sent bodies, odd files."""

import asyncio
import base64
import contextlib
import gzip
import json
import random
import uuid
from pathlib import Path

import pytest
from unit.computeapi.helpers import MakeAPI, names
from unit.computeapi.raw_server import (
    RESET,
    End,
    RawServer,
    Reply,
    Request,
    http,
    jwt,
    ok,
    status,
)

from computepool_api.errors import (
    ClaimAmbiguous,
    InvalidRequest,
    ManagerUnknown,
    PushAmbiguous,
    ServiceIDTaken,
    ServiceNotRegistered,
    Unavailable,
    UnexpectedAnswer,
)
from computepool_api.ids import ComputeManagerID, ComputeServiceID
from computepool_api.manager_client import ComputeManagerClient
from computepool_api.scope import Scope
from computepool_api.service_client import ComputeServiceClient
from computepool_api.transport import ComputeAPI
from simulator.process import SimulatorProcess

MANAGER = ComputeManagerID.new("alchemiscale.a100", uuid.UUID(int=1))
SERVICE = ComputeServiceID.new("a100_x7f2k", uuid.UUID(int=3))
TASK = "Task-0123456789abcdef0123456789abcdef-a-b-c"
RESULTS = f"/tasks/{TASK}/results"
REFERENCE = {"gufe_key": "ProtocolDAGResultRef-1", "org": "a", "campaign": "b", "project": "c"}


@pytest.fixture
def service(api: ComputeAPI) -> ComputeServiceClient:
    return ComputeServiceClient(api)


@pytest.fixture
def raw_service(raw_api: ComputeAPI) -> ComputeServiceClient:
    return ComputeServiceClient(raw_api)


@pytest.fixture
def result(tmp_path: Path) -> Path:
    path = tmp_path / "result.json"
    path.write_text('{"latin-1": "x"}')
    return path


@pytest.fixture
def cut_result(tmp_path: Path) -> Path:
    path = tmp_path / "result.json"
    path.write_text('{"latin-1": "cut sho')
    return path


@pytest.fixture
def large_result(tmp_path: Path) -> Path:
    """One that does not fit in the buffers between client and server, gzipped."""
    noise = random.Random(1).randbytes(6_000_000)
    path = tmp_path / "result.json"
    path.write_text(json.dumps({"latin-1": base64.b64encode(noise).decode()}))
    return path


async def test_a_life(
    sim: SimulatorProcess, api: ComputeAPI, service: ComputeServiceClient, tmp_path: Path
) -> None:
    (task,) = sim.admin.add_tasks(1)
    await ComputeManagerClient(api).register(MANAGER)
    await service.register(SERVICE, MANAGER)
    await service.heartbeat(SERVICE)
    claim = await service.claim(SERVICE, scopes=[Scope("a")], protocols=["StandInProtocol"])
    assert (claim.tasks, claim.denied) == ((task,), False)
    await service.fetch(task, tmp_path / "task.json")
    chain, previous = json.loads((tmp_path / "task.json").read_text())
    assert chain[-1][0].startswith("NonTransformation-")
    assert previous is None
    assert await service.deregister(SERVICE)
    assert sim.admin.services() == []


async def test_a_manager_that_is_not_registered(
    sim: SimulatorProcess, service: ComputeServiceClient
) -> None:
    with pytest.raises(ManagerUnknown, match="Could not find ComputeManagerRegistration"):
        await service.register(SERVICE, MANAGER)
    assert sim.admin.services() == []


@pytest.mark.parametrize("kind", ["reset", "truncate", "status"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_lost_answer_to_register_is_settled(
    kind: str, when: str, sim: SimulatorProcess, service: ComputeServiceClient
) -> None:
    sim.admin.fault("service_register", kind, when=when, status=504)
    await service.register(SERVICE, None)
    assert [held.id for held in sim.admin.services()] == [SERVICE]
    with pytest.raises(ServiceIDTaken):
        await service.register(SERVICE, None)


async def test_a_register_that_failed_may_be_called_again(
    sim: SimulatorProcess, service: ComputeServiceClient
) -> None:
    """The first call arrived and had no answer in all its tries."""
    sim.admin.fault("service_register", "reset", when="after", count=3)
    with pytest.raises(Unavailable):
        await service.register(SERVICE, None)
    await service.register(SERVICE, None)


@pytest.mark.parametrize("kind", ["reset", "truncate", "status"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_lost_answer_to_deregister(
    kind: str, when: str, sim: SimulatorProcess, service: ComputeServiceClient
) -> None:
    await service.register(SERVICE, None)
    sim.admin.fault("service_deregister", kind, when=when, status=502)
    assert await service.deregister(SERVICE)
    assert not await service.deregister(SERVICE)


async def test_a_deregister_that_never_has_an_answer(
    raw: RawServer, raw_service: ComputeServiceClient
) -> None:
    raw.replies = [RESET]
    with pytest.raises(Unavailable):
        await raw_service.deregister(SERVICE)
    assert len(raw.requests) == 3


async def test_a_claim_on_a_lost_registration_leaves_none_behind(
    sim: SimulatorProcess, api: ComputeAPI, service: ComputeServiceClient
) -> None:
    await ComputeManagerClient(api).register(MANAGER)
    await service.register(SERVICE, MANAGER)
    sim.admin.advance(1801)
    await service.heartbeat(SERVICE)
    with pytest.raises(ServiceNotRegistered):
        await service.claim(SERVICE, scopes=[])
    assert sim.admin.services() == []


@pytest.mark.parametrize("answer", [ok("text"), ok([1]), ok(["zzz"]), Reply(http(200, raw=b"<"))])
async def test_an_answer_to_claim_of_another_form_is_ambiguous(
    answer: Reply, raw: RawServer, raw_service: ComputeServiceClient
) -> None:
    """Something may have been claimed: deregistering is right, deciding nothing is not enough."""
    raw.replies = [answer]
    with pytest.raises(ClaimAmbiguous) as caught:
        await raw_service.claim(SERVICE, scopes=[])
    assert caught.value.status == 200


async def test_a_task_outside_the_scopes_is_noticed(
    raw: RawServer, raw_service: ComputeServiceClient
) -> None:
    raw.replies = [ok([TASK])]
    with pytest.raises(InvalidRequest, match=f"gave out {TASK} against"):
        await raw_service.claim(SERVICE, scopes=[Scope("x")])


async def test_a_claim_of_nothing(raw: RawServer, raw_service: ComputeServiceClient) -> None:
    with pytest.raises(InvalidRequest, match="claims nothing"):
        await raw_service.claim(SERVICE, scopes=[], count=0)
    assert raw.requests == []


async def test_the_form_of_older_servers_is_fetched_as_it_is(
    sim: SimulatorProcess, service: ComputeServiceClient, tmp_path: Path
) -> None:
    (task,) = sim.admin.add_tasks(1)
    sim.admin.set(transformation_form="json_string")
    await service.fetch(task, tmp_path / "task.json")
    transformation, _ = json.loads((tmp_path / "task.json").read_text())
    assert json.loads(transformation)["__qualname__"] == "NonTransformation"


@pytest.mark.parametrize("kind", ["reset", "truncate", "status"])
async def test_a_fetch_that_breaks_off_is_repeated(
    kind: str, sim: SimulatorProcess, service: ComputeServiceClient, tmp_path: Path
) -> None:
    (task,) = sim.admin.add_tasks(1)
    sim.admin.fault("transformation_gufe", kind, count=2, status=503)
    await service.fetch(task, tmp_path / "task.json")
    assert names(tmp_path) == ["task.json"]
    assert json.loads((tmp_path / "task.json").read_text())


async def test_a_gzip_cut_short_is_not_taken_for_a_task(
    raw: RawServer, raw_service: ComputeServiceClient, tmp_path: Path
) -> None:
    packed = gzip.compress(json.dumps([["x"] * 5000, None]).encode())
    headers = ["Content-Encoding: gzip"]
    cut = Reply(http(200, raw=packed[:-9], headers=headers))
    raw.replies = [cut, Reply(http(200, raw=packed, headers=headers))]
    await raw_service.fetch(TASK, tmp_path / "task.json")
    assert len(raw.requests) == 2
    raw.replies = [cut]
    with pytest.raises(Unavailable, match="gzipped answer ends early"):
        await raw_service.fetch(TASK, tmp_path / "other.json")
    assert names(tmp_path) == ["task.json"]


@pytest.mark.parametrize("body", [b"<html>login</html>", b"", b"  ", b'{"detail": 1}', b"null"])
async def test_what_is_no_task_is_not_written(
    body: bytes, raw: RawServer, raw_service: ComputeServiceClient, tmp_path: Path
) -> None:
    raw.replies = [Reply(http(200, raw=body))]
    with pytest.raises(UnexpectedAnswer, match="expected a JSON list"):
        await raw_service.fetch(TASK, tmp_path / "task.json")
    assert names(tmp_path) == []


async def test_a_full_disk_is_an_os_error(
    raw: RawServer, raw_service: ComputeServiceClient, tmp_path: Path
) -> None:
    raw.replies = [ok([[], None])]
    with pytest.raises(OSError, match="nowhere"):
        await raw_service.fetch(TASK, tmp_path / "nowhere" / "task.json")
    with pytest.raises(OSError, match="nowhere"):
        await raw_service.push(TASK, SERVICE, tmp_path / "nowhere" / "result.json")


@pytest.mark.parametrize("key", ["zzz", "Task-1-a-b-*", "Task-1-a-b-c/../../token", ""])
async def test_what_is_no_task_is_not_asked_for(
    key: str, raw: RawServer, raw_service: ComputeServiceClient, result: Path
) -> None:
    with pytest.raises(InvalidRequest, match="is no Task key"):
        await raw_service.fetch(key, result)
    with pytest.raises(InvalidRequest, match="is no Task key"):
        await raw_service.push(key, SERVICE, result)
    assert raw.requests == []


async def test_what_a_push_sends(
    raw: RawServer, raw_service: ComputeServiceClient, result: Path
) -> None:
    raw.replies = [ok(REFERENCE)]
    key = await raw_service.push(TASK, SERVICE, result)
    assert key == "ProtocolDAGResultRef-1-a-b-c"
    sent = raw.requests[-1]
    assert sent.headers["content-encoding"] == "gzip"
    assert "transfer-encoding" not in sent.headers
    assert json.loads(gzip.decompress(sent.body)) == {
        "protocoldagresult": {"latin-1": "x"},
        "compute_service_id": SERVICE,
    }
    assert names(result.parent) == ["result.json"]


async def test_a_large_push_is_not_begun_with_a_token_that_is_refused(
    raw: RawServer, raw_service: ComputeServiceClient, large_result: Path
) -> None:
    raw.token_replies = [ok({"access_token": jwt(n=n)}) for n in (1, 2)]

    def reply(request: Request) -> Reply:
        if request.headers["authorization"] != f"Bearer {jwt(n=2)}":
            return status(401, "Could not validate credentials")
        return ok(REFERENCE)

    raw.replies = reply
    await raw_service.push(TASK, SERVICE, large_result)
    assert len(raw.of(RESULTS)) == 1


async def test_a_small_push_costs_one_request(
    raw: RawServer, raw_service: ComputeServiceClient, result: Path
) -> None:
    raw.replies = [ok(REFERENCE)]
    await raw_service.push(TASK, SERVICE, result)
    assert [request.target for request in raw.requests if request.target != "/token"] == [RESULTS]


async def test_a_push_that_meets_a_401_is_sent_again_with_a_new_token(
    raw: RawServer, raw_service: ComputeServiceClient, result: Path
) -> None:
    """A 401 is given before anything is done."""
    raw.replies = [status(401, "Could not validate credentials"), ok(REFERENCE)]
    await raw_service.push(TASK, SERVICE, result)
    first, second = raw.of(RESULTS)
    assert first.body == second.body
    assert first.connection != second.connection


@pytest.mark.parametrize("end", [End.RESET, End.CLOSE])
async def test_a_push_that_was_cut_short_has_not_happened(
    end: End, raw: RawServer, make_api: MakeAPI, large_result: Path
) -> None:
    """The server has not had the last piece, so it cannot have stored anything."""
    raw.replies = lambda request: Reply(end=end) if request.target == RESULTS else ok()
    raw.take_of_body[RESULTS] = 100_000
    with pytest.raises(Unavailable):
        await ComputeServiceClient(make_api(raw.url)).push(TASK, SERVICE, large_result)
    assert len(raw.of(RESULTS)) == 1
    assert names(large_result.parent) == ["result.json"]


async def test_a_push_that_a_proxy_gives_up_half_way_has_not_happened(
    raw: RawServer, make_api: MakeAPI, large_result: Path
) -> None:
    raw.replies = lambda request: Reply(http(502), End.KEEP) if request.target == RESULTS else ok()
    raw.take_of_body[RESULTS] = 100_000
    with pytest.raises(Unavailable):
        await ComputeServiceClient(make_api(raw.url)).push(TASK, SERVICE, large_result)


async def test_a_push_that_is_too_large_for_a_proxy_is_told_so(
    raw: RawServer, raw_service: ComputeServiceClient, result: Path
) -> None:
    raw.replies = [Reply(http(413, raw=b"<html>Request Entity Too Large</html>"))]
    with pytest.raises(InvalidRequest, match="client_max_body_size"):
        await raw_service.push(TASK, SERVICE, result)
    assert len(raw.of(RESULTS)) == 1


async def test_a_push_that_is_put_off_has_not_happened(
    raw: RawServer, raw_service: ComputeServiceClient, result: Path
) -> None:
    raw.replies = [status(429)]
    with pytest.raises(Unavailable):
        await raw_service.push(TASK, SERVICE, result)
    assert len(raw.of(RESULTS)) == 1


async def test_a_push_is_tried_again_while_nobody_listens(make_api: MakeAPI, result: Path) -> None:
    """Resend only after a connect error: the server restarts between two tries."""
    async with contextlib.AsyncExitStack() as later:
        before, after = RawServer(), RawServer()
        before.last_path = "/token"
        after.replies = [ok(REFERENCE)]

        async def sleep(_: float) -> None:
            await later.enter_async_context(after.running(before.port))

        async with before.running():
            api = make_api(before.url, sleep=sleep)
            key = await ComputeServiceClient(api).push(TASK, SERVICE, result)
        assert key == "ProtocolDAGResultRef-1-a-b-c"
        assert before.of(RESULTS) == []
        assert len(after.of(RESULTS)) == 1


async def test_an_unreadable_success_of_a_push_is_ambiguous(
    raw: RawServer, raw_service: ComputeServiceClient, result: Path
) -> None:
    raw.replies = [ok("stored")]
    with pytest.raises(PushAmbiguous) as caught:
        await raw_service.push(TASK, SERVICE, result)
    assert caught.value.status == 200


async def test_a_result_that_was_not_written_out_is_not_sent(
    raw: RawServer, raw_service: ComputeServiceClient, cut_result: Path
) -> None:
    with pytest.raises(InvalidRequest, match="was not written out"):
        await raw_service.push(TASK, SERVICE, cut_result)
    assert raw.requests == []


async def test_heartbeats_go_on_during_a_large_push(
    raw: RawServer, make_api: MakeAPI, large_result: Path
) -> None:
    replies: dict[str, Reply] = {RESULTS: ok(REFERENCE), "/info": ok()}
    raw.replies = lambda request: replies.get(request.target, ok(SERVICE))
    service = ComputeServiceClient(make_api(raw.url))
    pushing = asyncio.create_task(service.push(TASK, SERVICE, large_result))
    beats = 0
    while not pushing.done():
        await service.heartbeat(SERVICE)
        beats += 1
    await pushing
    assert beats > 10


async def test_a_success_of_another_form_is_none(
    raw: RawServer, raw_service: ComputeServiceClient
) -> None:
    raw.replies = [ok({"status": "fine"})]
    for call in (
        lambda: raw_service.register(SERVICE, None),
        lambda: raw_service.heartbeat(SERVICE),
        lambda: raw_service.holds_registration(SERVICE, None),
        lambda: raw_service.deregister(SERVICE),
    ):
        with pytest.raises(UnexpectedAnswer):
            await call()


@pytest.mark.parametrize("code", [400, 403, 404, 422])
async def test_refusals_without_a_meaning_of_their_own(
    code: int, raw: RawServer, raw_service: ComputeServiceClient, result: Path
) -> None:
    raw.replies = [status(code, "why not")]
    for call in (
        lambda: raw_service.register(SERVICE, None),
        lambda: raw_service.heartbeat(SERVICE),
        lambda: raw_service.holds_registration(SERVICE, None),
        lambda: raw_service.claim(SERVICE, scopes=[]),
        lambda: raw_service.fetch(TASK, result),
        lambda: raw_service.push(TASK, SERVICE, result),
        lambda: raw_service.deregister(SERVICE),
    ):
        with pytest.raises(InvalidRequest, match="why not") as caught:
            await call()
        assert caught.value.status == code
