"""What a manager says beyond the traps: answers that get lost, values that are refused."""

import math
import uuid

import pytest
from unit.computeapi.raw_server import RawServer, broken, ok, status

from computepool_api.errors import InvalidRequest, ManagerNameTaken, Unavailable, UnexpectedAnswer
from computepool_api.ids import ComputeManagerID
from computepool_api.manager_client import LONGEST_DETAIL, ComputeManagerClient
from computepool_api.models import OkInstruction
from computepool_api.scope import Scope
from computepool_api.transport import ComputeAPI
from simulator.process import SimulatorProcess

MANAGER = ComputeManagerID.new("alchemiscale.a100", uuid.UUID(int=1))
OTHER = ComputeManagerID.new("alchemiscale.a100", uuid.UUID(int=2))


@pytest.fixture
def manager(api: ComputeAPI) -> ComputeManagerClient:
    return ComputeManagerClient(api)


@pytest.fixture
def raw_manager(raw_api: ComputeAPI) -> ComputeManagerClient:
    return ComputeManagerClient(raw_api)


async def test_a_cycle(sim: SimulatorProcess, manager: ComputeManagerClient) -> None:
    sim.admin.add_tasks(3, scope="a-b-c", protocol="PA")
    sim.admin.add_tasks(2, scope="x-y-z", protocol="PB")
    await manager.register(MANAGER)
    for scopes, protocols, count in (
        ([], [], 5),
        ([Scope("a")], [], 3),
        ([], ["PB"], 2),
        ([Scope("a"), Scope("x", "y", "z")], ["PA", "PB"], 5),
        ([Scope("q")], [], 0),
    ):
        assert await manager.instruction(MANAGER, scopes, protocols) == OkInstruction(count, ())
    await manager.report_ok(MANAGER, 0.25)
    (held,) = sim.admin.managers()
    assert (held.status, held.saturation) == ("OK", 0.25)
    await manager.report_error(MANAGER, "no GPU")
    (held,) = sim.admin.managers()
    assert (held.status, held.detail) == ("ERROR", "no GPU")
    await manager.report_ok(MANAGER, 0)
    await manager.deregister(MANAGER)
    await manager.deregister(MANAGER)
    assert sim.admin.managers() == []


@pytest.mark.parametrize("kind", ["reset", "truncate", "status"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("steal", [False, True])
async def test_a_lost_answer_to_register_is_settled(
    kind: str, when: str, steal: bool, sim: SimulatorProcess, manager: ComputeManagerClient
) -> None:
    if steal:
        await manager.register(OTHER)
    sim.admin.fault("manager_register", kind, when=when, status=502, skip=1 if steal else 0)
    await manager.register(MANAGER, steal=steal)
    assert [held.uuid for held in sim.admin.managers()] == [MANAGER.uuid]


async def test_registering_the_same_id_again_succeeds(
    sim: SimulatorProcess, manager: ComputeManagerClient
) -> None:
    """A restart adopts the registration it had."""
    await manager.register(MANAGER)
    await manager.register(MANAGER)
    await manager.register(MANAGER, steal=True)
    assert [entry.status for entry in sim.admin.audit(endpoint="manager_register")] == [
        200,
        422,
        422,
    ]


async def test_a_server_that_never_answers_register(
    raw: RawServer, raw_manager: ComputeManagerClient
) -> None:
    raw.replies = [status(504)]
    with pytest.raises(Unavailable, match="answered 504") as caught:
        await raw_manager.register(MANAGER)
    assert len(raw.requests) == 3
    assert caught.value.endpoint == "POST /computemanager/{id}/register"


async def test_a_name_that_is_given_up_and_taken_all_the_while(
    raw: RawServer, raw_manager: ComputeManagerClient
) -> None:
    taken = status(422, "ComputeManager with this name is already registered with status OK")
    raw.replies = lambda request: (
        ok({"instruction": "SHUTDOWN", "message": "?"})
        if request.target.endswith("instruction")
        else (broken() if request.json["steal"] else taken)
    )
    with pytest.raises(Unavailable, match="given up and taken again"):
        await raw_manager.register(MANAGER, steal=True)
    assert len(raw.of(f"/computemanager/{MANAGER}/register")) == 6


@pytest.mark.parametrize("ours", [True, False])
async def test_a_steal_among_duplicates_says_taken_though_it_stole(
    ours: bool, raw: RawServer, raw_manager: ComputeManagerClient
) -> None:
    """Two registrations of one name: steal removes one of them and still answers 422."""
    taken = status(422, "ComputeManager with this name is already registered with status OK")
    shutdown = ok({"instruction": "SHUTDOWN", "message": "?"})
    mine = ok({"instruction": "OK", "compute_service_ids": [], "num_tasks": 0})
    asked = iter([shutdown, mine if ours else shutdown, *[shutdown] * 9])
    raw.replies = lambda request: next(asked) if request.target.endswith("instruction") else taken
    if ours:
        await raw_manager.register(MANAGER, steal=True)
    else:
        with pytest.raises(Unavailable):
            await raw_manager.register(MANAGER, steal=True)


async def test_a_steal_of_a_manager_that_goes_into_error_meanwhile(
    raw: RawServer, raw_manager: ComputeManagerClient
) -> None:
    taken = "ComputeManager with this name is already registered with status"
    raw.replies = [
        status(422, f"{taken} OK"),
        ok({"instruction": "SHUTDOWN", "message": "?"}),
        status(422, f"{taken} ERROR"),
        status(422, f"{taken} ERROR"),
    ]
    with pytest.raises(ManagerNameTaken) as caught:
        await raw_manager.register(MANAGER, steal=True)
    assert caught.value.held_status == "ERROR"


@pytest.mark.parametrize("kind", ["reset", "truncate", "status"])
async def test_a_lost_answer_to_clear_error(
    kind: str, sim: SimulatorProcess, manager: ComputeManagerClient
) -> None:
    await manager.register(MANAGER)
    await manager.report_error(MANAGER, "x")
    sim.admin.fault("manager_clear_error", kind, when="after", status=502)
    assert await manager.clear_error(MANAGER.name)
    assert sim.admin.managers() == []
    assert not await manager.clear_error(MANAGER.name)


async def test_a_name_to_clear_is_quoted(raw: RawServer, raw_manager: ComputeManagerClient) -> None:
    raw.replies = [ok()]
    await raw_manager.clear_error("a/b c")
    assert raw.requests[0].target == "/computemanager/a%2Fb%20c/clear_error"


@pytest.mark.parametrize("saturation", [-0.001, 1.001, math.nan, math.inf, -math.inf])
async def test_a_saturation_that_the_server_would_refuse(
    saturation: float, raw: RawServer, raw_manager: ComputeManagerClient
) -> None:
    with pytest.raises(InvalidRequest, match="not within 0 and 1"):
        await raw_manager.report_ok(MANAGER, saturation)
    assert raw.requests == []


async def test_the_detail_of_an_error(raw: RawServer, raw_manager: ComputeManagerClient) -> None:
    with pytest.raises(InvalidRequest, match="needs a detail"):
        await raw_manager.report_error(MANAGER, "")
    raw.replies = [ok(MANAGER)]
    await raw_manager.report_error(MANAGER, "x" * 200_000)
    (sent,) = raw.requests
    assert len(sent.json["detail"]) == LONGEST_DETAIL
    assert sent.json["saturation"] is None


async def test_a_success_of_another_form_is_none(
    raw: RawServer, raw_manager: ComputeManagerClient
) -> None:
    raw.replies = [ok({"status": "fine"})]
    for call in (
        lambda: raw_manager.register(MANAGER),
        lambda: raw_manager.instruction(MANAGER, [], []),
        lambda: raw_manager.report_ok(MANAGER, 0.5),
        lambda: raw_manager.deregister(MANAGER),
        lambda: raw_manager.clear_error("x"),
    ):
        with pytest.raises(UnexpectedAnswer):
            await call()


@pytest.mark.parametrize("code", [400, 403, 404, 422])
async def test_refusals_without_a_meaning_of_their_own(
    code: int, raw: RawServer, raw_manager: ComputeManagerClient
) -> None:
    raw.replies = [status(code, "why not")]
    for call in (
        lambda: raw_manager.register(MANAGER),
        lambda: raw_manager.instruction(MANAGER, [], []),
        lambda: raw_manager.report_ok(MANAGER, 0.5),
        lambda: raw_manager.deregister(MANAGER),
        lambda: raw_manager.clear_error("x"),
    ):
        with pytest.raises(InvalidRequest, match="why not") as caught:
            await call()
        assert caught.value.status == code
