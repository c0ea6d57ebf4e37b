"""The traps of the compute API that concern its client, each under its number in the contract.

Against the stand-in server where it has the behaviour, else against raw sockets. Those missing here
concern the worker's science (15, 16, 20, 21, 22) or decisions of operator and worker (7, 9, 12, 13,
14).
"""

import json
import uuid
from pathlib import Path

import pytest
from unit.computeapi.helpers import MakeAPI, names
from unit.computeapi.raw_server import (
    GARBAGE,
    HANG,
    RESET,
    RawServer,
    Reply,
    Request,
    broken,
    ok,
    status,
)

from computepool_api.credentials import Credentials
from computepool_api.endpoints import INFO
from computepool_api.errors import (
    ClaimAmbiguous,
    CredentialsRefused,
    InvalidRequest,
    ManagerNameTaken,
    ManagerNotRegistered,
    PushAmbiguous,
    ScopeRefused,
    ServiceIDTaken,
    ServiceNotRegistered,
    TaskUnusable,
    Unavailable,
)
from computepool_api.ids import ComputeManagerID, ComputeServiceID, to_alchemiscale_name
from computepool_api.manager_client import ComputeManagerClient
from computepool_api.models import OkInstruction, ShutdownInstruction, SkipInstruction
from computepool_api.scope import Scope
from computepool_api.service_client import ComputeServiceClient
from computepool_api.transport import ComputeAPI
from computepool_api.wire import Outgoing
from simulator.documents import encode_document, failed_document, ok_document
from simulator.identifiers import random_ids
from simulator.process import SimulatorProcess

MANAGER = ComputeManagerID.new("alchemiscale.a100", uuid.UUID(int=1))
OTHER = ComputeManagerID.new("alchemiscale.a100", uuid.UUID(int=2))
SERVICE = ComputeServiceID.new("a100_x7f2k", uuid.UUID(int=3))
TASK = "Task-0123456789abcdef0123456789abcdef-a-b-c"


@pytest.fixture
def manager(api: ComputeAPI) -> ComputeManagerClient:
    return ComputeManagerClient(api)


@pytest.fixture
def service(api: ComputeAPI) -> ComputeServiceClient:
    return ComputeServiceClient(api)


@pytest.fixture
def raw_service(raw_api: ComputeAPI) -> ComputeServiceClient:
    return ComputeServiceClient(raw_api)


def write_result(folder: Path, task: str, *, good: bool = True) -> Path:
    make = ok_document if good else failed_document
    chain = make(task, "NonTransformation-" + "0" * 32, new_id=random_ids(1))
    path = folder / "result.json"
    path.write_text(json.dumps(encode_document(chain)))
    return path


async def test_trap_01_connections_are_dropped_after_a_5xx(
    sim: SimulatorProcess, service: ComputeServiceClient, api: ComputeAPI
) -> None:
    """A 500 closes the connection without saying so; the next request on it fails with a reset."""
    sim.admin.set(close_delay=0.5)
    assert not await service.deregister(SERVICE)
    await api.check()
    audit = sim.admin.audit()
    answered_500 = {entry.connection for entry in audit if entry.status == 500}
    assert len(answered_500) == 2
    for entry in audit:
        same = [e.sequence for e in audit if e.connection == entry.connection]
        assert entry.status != 500 or entry.sequence == max(same)
    assert [entry.status for entry in audit if entry.endpoint == "check"] == [200, 200]


async def test_trap_01_a_reset_on_a_connection_that_served_is_repeated_once(
    raw: RawServer, raw_api: ComputeAPI
) -> None:
    """Or retry once on a reset before the response began."""
    raw.replies = [ok(), RESET, ok()]
    await raw_api.exchange(INFO, Outgoing("/info"))
    await raw_api.exchange(INFO, Outgoing("/info"))
    assert [request.connection for request in raw.requests] == [1, 1, 2]


async def test_trap_02_a_500_is_read_by_endpoint(
    sim: SimulatorProcess, manager: ComputeManagerClient, service: ComputeServiceClient
) -> None:
    """500 means "no such thing" as often as "broken"."""
    assert not await service.deregister(SERVICE)
    assert not await manager.clear_error("nobody")
    await service.register(SERVICE, None)
    with pytest.raises(ServiceIDTaken):
        await service.register(SERVICE, None)
    await service.deregister(SERVICE)
    sim.admin.clear_audit()
    with pytest.raises(ServiceNotRegistered):
        await service.claim(SERVICE, scopes=[])
    assert len(sim.admin.audit(endpoint="claim")) == 2


async def test_trap_02_a_500_of_claim_is_repeated_once_for_a_lock_conflict(
    sim: SimulatorProcess, service: ComputeServiceClient
) -> None:
    """Claim -> repeat once (lock conflict), then probe."""
    sim.admin.add_tasks(1)
    await service.register(SERVICE, None)
    sim.admin.fault("claim", "status", status=500)
    assert len((await service.claim(SERVICE, scopes=[])).tasks) == 1
    sim.admin.fault("claim", "status", status=500, count=2)
    with pytest.raises(Unavailable, match="is registered and the server is well"):
        await service.claim(SERVICE, scopes=[])
    sim.admin.fault("claim", "status", status=500, count=2)
    with pytest.raises(ClaimAmbiguous):
        await service.claim(SERVICE, scopes=[], count=2)


async def test_trap_02_a_500_says_nothing_while_the_server_is_not_well(
    sim: SimulatorProcess, service: ComputeServiceClient, manager: ComputeManagerClient
) -> None:
    """Unknown is never "gone": only with /check fine does a 500 have its meaning."""
    await service.register(SERVICE, None)
    sim.admin.fault("*", "status", status=500, contains="comput", count=None)
    sim.admin.fault("claim", "status", status=500, count=None)
    sim.admin.fault(
        "check", "status", status=503, body='{"detail": "S3 reachable: False"}', count=None
    )
    for call in (
        lambda: service.deregister(SERVICE),
        lambda: service.register(SERVICE, None),
        lambda: service.holds_registration(SERVICE, None),
        lambda: service.claim(SERVICE, scopes=[]),
        lambda: manager.clear_error("nobody"),
    ):
        with pytest.raises(Unavailable, match="S3 reachable: False"):
            await call()
    sim.admin.clear_faults()
    assert await service.holds_registration(SERVICE, None)


async def test_trap_02_a_500_of_token_has_two_meanings(
    sim: SimulatorProcess, make_api: MakeAPI
) -> None:
    """Token -> unknown identity or database down, back off."""
    api = make_api(sim.url, credentials=lambda: Credentials("nobody", "key"))
    with pytest.raises(Unavailable, match="does not know the identity 'nobody', or its database"):
        await api.check()
    assert len(sim.admin.audit(endpoint="token")) == 1


async def test_trap_03_heartbeats_do_not_report_loss_and_the_probe_does(
    sim: SimulatorProcess, service: ComputeServiceClient, manager: ComputeManagerClient
) -> None:
    """The only probe is to register again with the same id."""
    sim.admin.add_tasks(1)
    await manager.register(MANAGER)
    await service.register(SERVICE, MANAGER)
    await service.claim(SERVICE, scopes=[])
    assert await service.holds_registration(SERVICE, MANAGER)
    assert sim.admin.counts() == {"running": 1}

    sim.admin.advance(1801)
    await service.heartbeat(SERVICE)
    assert not await service.holds_registration(SERVICE, MANAGER)
    assert sim.admin.counts() == {"waiting": 1}
    assert await service.holds_registration(SERVICE, MANAGER)
    (registered,) = sim.admin.services()
    assert registered.manager_name == MANAGER.name


async def test_trap_03_the_probe_survives_the_end_of_the_manager(
    sim: SimulatorProcess, service: ComputeServiceClient, manager: ComputeManagerClient
) -> None:
    """Services live on when their manager deregisters: that is no loss."""
    await manager.register(MANAGER)
    await service.register(SERVICE, MANAGER)
    await manager.deregister(MANAGER)
    assert await service.holds_registration(SERVICE, MANAGER)
    await service.deregister(SERVICE)
    assert not await service.holds_registration(SERVICE, MANAGER)


@pytest.mark.parametrize("lost", [RESET, HANG, GARBAGE, status(502), status(503)])
async def test_trap_03_a_probe_without_an_answer_spoils_the_evidence(
    lost: Reply, raw: RawServer, raw_service: ComputeServiceClient
) -> None:
    """It may have put a new registration in place of the lost one: what follows is no proof."""
    replies = iter([lost, broken()])
    raw.replies = lambda request: ok() if request.target == "/check" else next(replies)
    with pytest.raises(Unavailable):
        await raw_service.holds_registration(SERVICE, None)
    assert not await raw_service.holds_registration(SERVICE, None)
    assert len(raw.of(f"/computeservice/{SERVICE}/register")) == 2


async def test_trap_03_a_probe_that_was_not_sent_spoils_nothing(
    raw: RawServer, raw_service: ComputeServiceClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that puts us off has not acted."""
    replies = iter([*[status(429)] * 3, broken()])
    raw.replies = lambda request: ok() if request.target == "/check" else next(replies)
    with pytest.raises(Unavailable):
        await raw_service.holds_registration(SERVICE, None)
    assert await raw_service.holds_registration(SERVICE, None)


async def test_trap_04_a_401_renews_the_token_once(
    sim: SimulatorProcess, api: ComputeAPI, service: ComputeServiceClient
) -> None:
    """401 has two meanings. Renew the token once and retry."""
    await api.check()
    sim.admin.rotate_tokens()
    await service.register(SERVICE, None)
    sim.admin.rotate_tokens()
    await service.claim(SERVICE, scopes=[])
    assert len(sim.admin.audit(endpoint="token")) == 3


async def test_trap_04_a_second_401_is_a_scope_refusal(
    sim: SimulatorProcess, make_api: MakeAPI, tmp_path: Path
) -> None:
    """A second 401 is a scope refusal (compare `detail`): give up on that task."""
    (task,) = sim.admin.add_tasks(1, scope="odd-a-b")
    sim.admin.add_identity("limited", "key", ["rig-*-*"])
    api = make_api(sim.url, credentials=lambda: Credentials("limited", "key"))
    service = ComputeServiceClient(api)
    for call in (
        lambda: service.fetch(task, tmp_path / "task.json"),
        lambda: service.push(task, SERVICE, write_result(tmp_path, task)),
    ):
        with pytest.raises(ScopeRefused, match="Targeted scope 'odd-a-b' not accessible"):
            await call()
    assert sim.admin.results(task) == []
    assert names(tmp_path) == ["result.json"]


async def test_trap_04_a_fresh_token_that_is_refused_is_of_the_credentials(
    raw: RawServer, raw_service: ComputeServiceClient, tmp_path: Path
) -> None:
    """Replicas that do not share their JWT secret refuse each other's tokens."""
    raw.replies = [status(401, "Could not validate credentials")]
    with pytest.raises(CredentialsRefused, match="a token just issued is refused"):
        await raw_service.fetch(TASK, tmp_path / "task.json")
    assert len(raw.requests) == len(raw.token_requests) == 2


async def test_trap_05_empty_lists_differ(
    raw: RawServer, raw_api: ComputeAPI, raw_service: ComputeServiceClient
) -> None:
    """Instruction reads empty as "all"; claim reads scopes as none and protocols as 500."""
    instruction = {"instruction": "OK", "compute_service_ids": [], "num_tasks": 0}
    raw.replies = [ok(instruction), ok([]), ok([])]
    await ComputeManagerClient(raw_api).instruction(MANAGER, [], [])
    await raw_service.claim(SERVICE, scopes=[], scopes_exclude=[], protocols=[])
    excluded = [Scope("a", "b")]
    await raw_service.claim(
        SERVICE, scopes=[Scope("a")], scopes_exclude=excluded, protocols=["P"], count=3
    )
    everything = {"org": None, "campaign": None, "project": None}
    assert [request.json for request in raw.requests] == [
        {"scopes": [], "protocols": []},
        {
            "scopes": [everything],
            "scopes_exclude": None,
            "compute_service_id": SERVICE,
            "count": 1,
            "protocols": None,
        },
        {
            "scopes": [everything | {"org": "a"}],
            "scopes_exclude": [everything | {"org": "a", "campaign": "b"}],
            "compute_service_id": SERVICE,
            "count": 3,
            "protocols": ["P"],
        },
    ]


@pytest.mark.parametrize("protocol", ["", "gufe.P", "a-b", "1P", "P\n"])
async def test_trap_05_protocols_that_would_be_a_500_are_not_sent(
    protocol: str, raw: RawServer, raw_api: ComputeAPI, raw_service: ComputeServiceClient
) -> None:
    """Names must be bare class names: dotted, dashed or empty gives 500."""
    with pytest.raises(InvalidRequest, match="class name without its module"):
        await ComputeManagerClient(raw_api).instruction(MANAGER, [], [protocol])
    with pytest.raises(InvalidRequest, match="class name without its module"):
        await raw_service.claim(SERVICE, scopes=[], protocols=[protocol])
    assert raw.requests == []


async def test_trap_06_steal_has_no_effect_on_a_free_name(
    sim: SimulatorProcess, manager: ComputeManagerClient
) -> None:
    """Steal on a free name is 500. Register with steal false; on 422 with status OK, steal."""
    await manager.register(MANAGER, steal=True)
    assert [entry.status for entry in sim.admin.audit(endpoint="manager_register")] == [200]

    with pytest.raises(ManagerNameTaken) as caught:
        await manager.register(OTHER)
    assert caught.value.held_status == "OK"
    await manager.register(OTHER, steal=True)
    assert [held.uuid for held in sim.admin.managers()] == [OTHER.uuid]


async def test_trap_06_a_manager_in_error_is_not_stolen_but_cleared(
    sim: SimulatorProcess, manager: ComputeManagerClient
) -> None:
    """With status ERROR stop and ask for clear_error (or call it when told to)."""
    await manager.register(MANAGER)
    await manager.report_error(MANAGER, "broken")
    for steal in (False, True):
        with pytest.raises(ManagerNameTaken, match="Clear its error first") as caught:
            await manager.register(OTHER, steal=steal)
        assert caught.value.held_status == "ERROR"
    assert await manager.clear_error(MANAGER.name)
    await manager.register(OTHER)


async def test_trap_06_the_holder_may_leave_between_the_two_requests(
    raw: RawServer, raw_api: ComputeAPI
) -> None:
    """The 500 of a steal says that the name is free by now."""
    taken = status(422, "ComputeManager with this name is already registered with status OK")
    replies = iter([taken, broken(), ok(MANAGER)])
    raw.replies = lambda request: (
        ok({"instruction": "SHUTDOWN", "message": "?"})
        if request.target.endswith("instruction")
        else next(replies)
    )
    await ComputeManagerClient(raw_api).register(MANAGER, steal=True)
    bodies = [request.json for request in raw.of(f"/computemanager/{MANAGER}/register")]
    assert bodies == [{"steal": False}, {"steal": True}, {"steal": False}]


async def test_trap_08_being_stolen_is_seen_as_shutdown_and_as_not_registered(
    manager: ComputeManagerClient,
) -> None:
    """Being stolen is only visible as SHUTDOWN or as 400 on status."""
    await manager.register(MANAGER)
    await manager.register(OTHER, steal=True)
    assert isinstance(await manager.instruction(MANAGER, [], []), ShutdownInstruction)
    with pytest.raises(ManagerNotRegistered, match="No record for ComputeManager"):
        await manager.report_ok(MANAGER, 0.5)
    with pytest.raises(ManagerNotRegistered, match="No record for ComputeManager"):
        await manager.report_error(MANAGER, "x")
    assert isinstance(await manager.instruction(OTHER, [], []), OkInstruction)


@pytest.fixture
async def claimed(sim: SimulatorProcess, service: ComputeServiceClient) -> str:
    sim.admin.add_tasks(1)
    await service.register(SERVICE, None)
    (task,) = (await service.claim(SERVICE, scopes=[])).tasks
    return task


@pytest.mark.parametrize("kind", ["reset", "status", "truncate", "garbage"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_trap_10_a_push_is_sent_once(
    kind: str,
    when: str,
    sim: SimulatorProcess,
    service: ComputeServiceClient,
    claimed: str,
    tmp_path: Path,
) -> None:
    """Pushing is not idempotent and cannot be queried."""
    sim.admin.fault("results", kind, when=when, status=500)
    with pytest.raises(PushAmbiguous, match="Never send it again"):
        await service.push(claimed, SERVICE, write_result(tmp_path, claimed))
    assert len(sim.admin.audit(endpoint="results")) == 1
    stored = 1 if when == "after" or kind in ("truncate",) else 0
    assert len(sim.admin.results(claimed)) == stored


async def test_trap_10_each_push_has_a_connection_of_its_own(
    sim: SimulatorProcess, service: ComputeServiceClient, claimed: str, tmp_path: Path
) -> None:
    """Open a fresh connection for each push, so that trap 1 cannot hit it."""
    key = await service.push(claimed, SERVICE, write_result(tmp_path, claimed))
    (push,) = sim.admin.audit(endpoint="results")
    others = [entry for entry in sim.admin.audit() if entry.endpoint != "results"]
    assert push.connection not in {entry.connection for entry in others}
    (stored,) = sim.admin.results(claimed)
    assert (f"{stored.key}-a-b-c", stored.ok, stored.creator) == (key, True, SERVICE)
    assert sim.admin.task(claimed).status == "complete"


async def test_trap_10_a_hanging_push_is_not_sent_again(
    raw: RawServer, make_api: MakeAPI, tmp_path: Path
) -> None:
    """Use a generous read timeout and do not resend after one."""
    raw.replies = [HANG]
    service = ComputeServiceClient(make_api(raw.url, patience=0.2 / 600))
    with pytest.raises(PushAmbiguous, match="no answer within 600 s") as caught:
        await service.push(TASK, SERVICE, write_result(tmp_path, TASK))
    assert caught.value.status is None
    assert len(raw.of(f"/tasks/{TASK}/results")) == 1


async def test_trap_11_a_task_that_is_not_given_out_is_unusable(
    sim: SimulatorProcess, service: ComputeServiceClient, claimed: str, tmp_path: Path
) -> None:
    """A task whose fetch fails for good stays running until its service deregisters."""
    result = write_result(tmp_path, claimed)
    for _ in range(2):
        await service.push(claimed, SERVICE, result)
    (child,) = sim.admin.add_tasks(1, extends=claimed)
    assert (await service.claim(SERVICE, scopes=[])).tasks == (child,)
    with pytest.raises(TaskUnusable, match="more than one result") as caught:
        await service.fetch(child, tmp_path / "task.json")
    assert caught.value.status == 500
    assert len(sim.admin.audit(endpoint="transformation_gufe")) == 2
    await service.deregister(SERVICE)
    assert sim.admin.task(child).status == "waiting"


async def test_trap_11_an_unhealthy_server_makes_no_task_unusable(
    sim: SimulatorProcess, service: ComputeServiceClient, claimed: str, tmp_path: Path
) -> None:
    """The 500 counts against the Task only when the server is well otherwise."""
    sim.admin.fault("transformation_gufe", "status", status=500, count=None)
    sim.admin.fault("check", "status", status=503, count=None)
    with pytest.raises(Unavailable, match="the server is not well"):
        await service.fetch(claimed, tmp_path / "task.json")
    sim.admin.clear_faults()
    sim.admin.fault("transformation_gufe", "status", status=500, count=1)
    await service.fetch(claimed, tmp_path / "task.json")


@pytest.mark.parametrize("kind", ["reset", "truncate", "garbage", "status"])
async def test_trap_11_a_claim_without_an_answer_is_ambiguous(
    kind: str, sim: SimulatorProcess, service: ComputeServiceClient
) -> None:
    """A claim whose answer was lost leaks its tasks: deregister and start with a new id."""
    sim.admin.add_tasks(2)
    await service.register(SERVICE, None)
    sim.admin.fault("claim", kind, when="after", status=502)
    with pytest.raises(ClaimAmbiguous, match="Deregister, which releases them"):
        await service.claim(SERVICE, scopes=[])
    assert len(sim.admin.audit(endpoint="claim")) == 1
    assert sim.admin.counts() == {"running": 1, "waiting": 1}
    await service.deregister(SERVICE)
    assert sim.admin.counts() == {"waiting": 2}


async def test_trap_17_null_from_claim_is_denial(
    sim: SimulatorProcess, service: ComputeServiceClient, claimed: str, tmp_path: Path
) -> None:
    """`null` from claim is not "no work"."""
    nothing = await service.claim(SERVICE, scopes=[])
    assert (nothing.tasks, nothing.denied) == ((), False)
    failure = write_result(tmp_path, claimed, good=False)
    for _ in range(4):
        await service.push(claimed, SERVICE, failure)
    denied = await service.claim(SERVICE, scopes=[])
    assert (denied.tasks, denied.denied) == ((), True)


async def test_trap_18_skip_has_no_num_tasks(
    sim: SimulatorProcess,
    manager: ComputeManagerClient,
    service: ComputeServiceClient,
    tmp_path: Path,
) -> None:
    """SKIP has no num_tasks; still send status OK, else the manager ages."""
    (task,) = sim.admin.add_tasks(1)
    await manager.register(MANAGER)
    await service.register(SERVICE, MANAGER)
    failure = write_result(tmp_path, task, good=False)
    for _ in range(4):
        await service.push(task, SERVICE, failure)
    assert await manager.instruction(MANAGER, [], []) == SkipInstruction((SERVICE,))
    await manager.report_ok(MANAGER, 1.0)


async def test_trap_19_every_body_has_its_content_type(
    raw: RawServer, raw_api: ComputeAPI, raw_service: ComputeServiceClient, tmp_path: Path
) -> None:
    """Content-Type missing: optional bodies are dropped silently, required ones are 422."""
    reference = {"gufe_key": "Ref-1", "org": "a", "campaign": "b", "project": "c"}

    def reply(request: Request) -> Reply:
        if request.target.endswith("results"):
            return ok(reference)
        if request.target.endswith("instruction"):
            return ok({"instruction": "SHUTDOWN", "message": ""})
        if request.target == "/claim":
            return ok([])
        return ok(next((i for i in (MANAGER, SERVICE) if i in request.target), None))

    raw.replies = reply
    manager = ComputeManagerClient(raw_api)
    await manager.register(MANAGER)
    await manager.instruction(MANAGER, [], [])
    await manager.report_ok(MANAGER, 0)
    await manager.report_error(MANAGER, "x")
    await manager.deregister(MANAGER)
    await manager.clear_error("name")
    await raw_service.register(SERVICE, MANAGER)
    await raw_service.heartbeat(SERVICE)
    await raw_service.claim(SERVICE, scopes=[])
    await raw_service.push(TASK, SERVICE, write_result(tmp_path, TASK))
    await raw_service.deregister(SERVICE)
    posts = [request for request in raw.requests if request.method == "POST"]
    assert len(posts) == 11
    for request in posts:
        assert request.headers["content-type"] == "application/json"
        assert request.body


async def test_trap_23_names_of_jobs_become_names_of_services(
    sim: SimulatorProcess, service: ComputeServiceClient
) -> None:
    """Derive service names by mapping every forbidden character to `_`; prefix a letter."""
    for job in ("a100-x7f2k", "4090s-pool.1"):
        await service.register(ComputeServiceID.new(to_alchemiscale_name(job), uuid.uuid4()), None)
    assert len(sim.admin.services()) == 2


async def test_trap_24_deregistering_in_error_does_nothing(
    sim: SimulatorProcess, manager: ComputeManagerClient
) -> None:
    """Manager deregister in ERROR does nothing although it says 200."""
    await manager.register(MANAGER)
    await manager.report_error(MANAGER, "broken")
    await manager.deregister(MANAGER)
    assert [held.status for held in sim.admin.managers()] == ["ERROR"]
    await manager.report_ok(MANAGER, 0.0)
    await manager.deregister(MANAGER)
    assert sim.admin.managers() == []


async def test_trap_25_an_older_server_ignores_exclusions(
    sim: SimulatorProcess, service: ComputeServiceClient
) -> None:
    """Unknown fields are ignored. Check claimed keys against the exclusion locally."""
    (task,) = sim.admin.add_tasks(1, scope="hm-a-b")
    await service.register(SERVICE, None)
    excluded = [Scope.parse("hm-a-*")]
    nothing = await service.claim(SERVICE, scopes=[Scope("hm")], scopes_exclude=excluded)
    assert nothing.tasks == ()
    sim.admin.set(obeys_scopes_exclude=False)
    with pytest.raises(InvalidRequest, match=f"gave out {task} against.*older than 0.8"):
        await service.claim(SERVICE, scopes=[Scope("hm")], scopes_exclude=excluded)
    await service.deregister(SERVICE)
    assert sim.admin.counts() == {"waiting": 1}


@pytest.mark.parametrize("answer", [[TASK], [TASK, None], [None, TASK], [TASK, TASK, TASK]])
async def test_trap_25_the_length_of_an_answer_means_nothing(
    answer: list[str | None], raw: RawServer, raw_service: ComputeServiceClient
) -> None:
    """Treat a claim answer as a list of any length; drop nulls."""
    raw.replies = [ok(answer)]
    claim = await raw_service.claim(SERVICE, scopes=[], count=2)
    assert set(claim.tasks) == {TASK}


async def test_trap_26_check_may_hang(raw: RawServer, make_api: MakeAPI) -> None:
    """`/check` may hang with the database down: use a timeout, and `/ping` for reachability."""
    raw.replies = lambda request: HANG if request.target == "/check" else ok({"api": "it"})
    api = make_api(raw.url, patience=0.01)
    await api.ping()
    with pytest.raises(Unavailable, match="no answer within 15 s"):
        await api.check()
    assert len(raw.of("/check")) == 1
