"""The simulator as a process, and its admin port through the typed client."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from simulator.client import AdminClient, AdminError
from simulator.documents import encode_document, failed_document, push_body
from simulator.identifiers import random_ids
from simulator.process import SimulatorProcess

SERVICE = "svc-" + "0" * 32


@pytest.fixture(scope="module")
def shared() -> Iterator[SimulatorProcess]:
    with SimulatorProcess(["--seed", "1"]) as simulator:
        yield simulator


@pytest.fixture
def simulator(shared: SimulatorProcess) -> SimulatorProcess:
    shared.admin.reset()
    return shared


@pytest.fixture
def admin(simulator: SimulatorProcess) -> AdminClient:
    return simulator.admin


@pytest.fixture
def api(simulator: SimulatorProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=simulator.url, trust_env=False) as client:
        form = {"username": simulator.identifier, "password": simulator.key}
        token = client.post("/token", data=form).json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        yield client


def test_it_is_small(simulator: SimulatorProcess) -> None:
    status = Path(f"/proc/{simulator.pid}/status")
    if not status.exists():
        pytest.skip("no /proc here to read the memory from")
    resident = status.read_text().partition("VmRSS:")[2].split()[0]
    assert int(resident) < 120 * 1024


def test_tasks_appear_as_they_were_added(admin: AdminClient, api: httpx.Client) -> None:
    first, second = admin.add_tasks(2, scope="a-b-c", seconds=3.0, priority=5, stand_in={"x": 1})
    [child] = admin.add_tasks(1, extends=first, hubs=("one", "two"), hub_weight=0.25)
    assert [t.key for t in admin.tasks()] == [first, second, child]
    assert admin.counts() == {"waiting": 3}
    assert (admin.task(first).priority, admin.task(child).extends) == (5, first)
    assert [hub.weight for hub in admin.hubs()] == [0.5, 0.25, 0.25]
    chain, previous = api.get(f"/tasks/{first}/transformation/gufe").json()
    assert chain[-1][1]["stand_in"] == {"seconds": 3.0, "behaviour": "ok", "units": 1, "x": 1}
    assert previous is None


def test_tasks_are_found_by_scope_and_status(admin: AdminClient) -> None:
    [one] = admin.add_tasks(1, scope="a-b-c")
    [other] = admin.add_tasks(1, scope="x-y-z")
    admin.set_task_status(other, "invalid")
    assert [t.key for t in admin.tasks(scope="a-*-*")] == [one]
    assert [t.key for t in admin.tasks(status="invalid")] == [other]


def test_registrations_appear_with_their_ages(admin: AdminClient, api: httpx.Client) -> None:
    manager = "mgr-" + "0" * 32
    api.post(f"/computemanager/{manager}/register")
    body = {"status": "ERROR", "detail": "boom"}
    api.post(f"/computemanager/{manager}/status", json=body)
    api.post(f"/computeservice/{SERVICE}/register", json={"compute_manager_id": manager})
    [key] = admin.add_tasks(1)
    api.post("/claim", json={"scopes": [{}], "compute_service_id": SERVICE, "count": 1})
    admin.advance(100)
    [held], [service] = admin.managers(), admin.services()
    assert (held.id, held.status, held.detail, held.saturation) == (manager, "ERROR", "boom", None)
    assert (service.id, service.manager_name, service.claims) == (SERVICE, "mgr", [key])
    assert 100 <= held.status_age < 110
    assert 100 <= service.heartbeat_age < 110


def test_a_failed_result_appears_with_its_traceback(admin: AdminClient, api: httpx.Client) -> None:
    [key] = admin.add_tasks(1)
    transformation = admin.task(key).transformation_key
    document = failed_document(key, transformation, new_id=random_ids(3), traceback="it broke")
    headers = {"Content-Type": "application/json"}
    body = push_body(encode_document(document), SERVICE)
    assert api.post(f"/tasks/{key}/results", content=body, headers=headers).status_code == 200
    [entry] = admin.task(key).results
    assert (entry.ok, entry.tracebacks) == (False, ["it broke"])


def test_settings_faults_and_audit(admin: AdminClient, api: httpx.Client) -> None:
    assert admin.set(max_failures=1)["max_failures"] == 1
    assert admin.settings()["max_failures"] == 1
    fault = admin.fault("info", "status", status=429)
    assert api.get("/info").status_code == 429
    assert [f["struck"] for f in admin.faults()] == [1]
    admin.clear_faults(fault)
    assert admin.faults() == []
    [request] = admin.audit(endpoint="info")
    assert (request.status, request.fault, request.path) == (429, "status", "/info")
    admin.clear_audit()
    assert admin.audit() == []


def test_identities_and_tokens(admin: AdminClient, simulator: SimulatorProcess) -> None:
    admin.add_identity("other", "its key", ["a-b-c"])
    form = {"username": "other", "password": "its key"}
    token = httpx.post(f"{simulator.url}/token", data=form).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    assert httpx.get(f"{simulator.url}/info", headers=headers).status_code == 200
    admin.rotate_tokens()
    assert httpx.get(f"{simulator.url}/info", headers=headers).status_code == 401


def test_reset_forgets_everything(admin: AdminClient) -> None:
    admin.add_tasks(1)
    admin.advance(1000)
    admin.set(max_failures=0)
    admin.fault("*", "reset")
    admin.reset()
    assert not any([admin.tasks(), admin.hubs(), admin.faults(), admin.audit()])
    assert admin.settings()["max_failures"] == 3
    assert abs(admin.now() - time.time()) < 60


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda admin: admin.task("Task-0-a-b-c"), "404"),
        (lambda admin: admin.results("Task-0-a-b-c"), "404"),
        (lambda admin: admin.set_hub_weight("TaskHub-0-a-b-c", 0.5), "404"),
        (lambda admin: admin.clear_faults(99), "404"),
        (lambda admin: admin.add_tasks(1, extends="Task-0-a-b-c"), "404"),
        (lambda admin: admin.add_tasks(1, scope="a-b-*"), "no wildcard"),
        (lambda admin: admin.set(nonsense=1), "no such setting"),
        (lambda admin: admin.set(database_up="yes"), "wants bool"),
        (lambda admin: admin.fault("clam", "reset"), "no endpoint"),
        (lambda admin: admin.fault("claim", "explode"), "422"),
        (lambda admin: admin.fault("claim", "reset", surprise=1), "422"),
        (lambda admin: admin.advance(-1), "422"),
        (lambda admin: admin.add_identity("x", "y", ["nonsense"]), "not a scope"),
    ],
)
def test_what_cannot_be_done_is_said(
    admin: AdminClient, call: Callable[[AdminClient], object], complaint: str
) -> None:
    with pytest.raises(AdminError, match=complaint):
        call(admin)


def test_a_process_that_does_not_start_shows_why() -> None:
    with pytest.raises(RuntimeError, match="unrecognized arguments: --nonsense"):
        SimulatorProcess(["--nonsense"]).start()


def test_it_can_be_started_again(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("from a file\n")
    simulator = SimulatorProcess(["--identifier", "me", "--key-file", str(key)])
    simulator.stop()
    with simulator:
        form = {"username": "me", "password": "from a file"}
        assert httpx.post(f"{simulator.url}/token", data=form).status_code == 200
    assert simulator.log() == ""
    with pytest.raises(RuntimeError, match="not running"):
        _ = simulator.pid
