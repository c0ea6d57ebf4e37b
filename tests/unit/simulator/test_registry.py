"""Managers and services: who may register, what is swept, and when."""

import pytest

from simulator.errors import BrokenError, RefusedError
from simulator.records import ManagerStatus, TaskStatus
from simulator.settings import Settings

from .conftest import EVERYTHING, START, Bench

TAKEN = "ComputeManager with this name is already registered with status {}"


def _set(bench: Bench, manager: str, status: str, name: str = "boom") -> None:
    detail, saturation = (None, 0.5) if status == "OK" else (name, None)
    bench.store.set_manager_status(manager, status, detail, saturation)


@pytest.mark.parametrize(
    ("held", "steal", "outcome"),
    [
        pytest.param(None, False, "registered", id="a free name is registered"),
        pytest.param(None, True, "broken", id="stealing a free name breaks the server"),
        pytest.param("OK", False, "refused", id="a name that is OK is refused"),
        pytest.param("OK", True, "registered", id="a name that is OK can be stolen"),
        pytest.param("ERROR", False, "refused", id="a name in ERROR is refused"),
        pytest.param("ERROR", True, "refused", id="a name in ERROR cannot be stolen"),
    ],
)
def test_registering_a_manager(bench: Bench, held: str | None, steal: bool, outcome: str) -> None:
    if held:
        _set(bench, bench.manager(), held)
    other = bench.store.manager_id(f"manager-{7:032x}")
    match outcome:
        case "registered":
            bench.store.check_manager_free(other, steal=steal)
            bench.store.add_manager(other)
            assert [m.id for m in bench.store.registry.managers] == [other]
        case "refused":
            with pytest.raises(RefusedError, match=TAKEN.format(held)):
                bench.store.check_manager_free(other, steal=steal)
        case "broken":
            with pytest.raises(BrokenError):
                bench.store.check_manager_free(other, steal=steal)


def test_a_registered_manager_is_ok_with_saturation_zero(bench: Bench) -> None:
    bench.manager()
    [manager] = bench.store.registry.managers
    assert (manager.status, manager.detail, manager.saturation) == (ManagerStatus.OK, "", 0.0)


@pytest.mark.parametrize(
    ("status", "detail", "saturation", "refusal"),
    [
        pytest.param("OK", None, 0.0, None, id="idle"),
        pytest.param("OK", None, 1.0, None, id="full"),
        pytest.param("OK", "", 0.5, None, id="an empty detail is none"),
        pytest.param("OK", None, None, "saturation is required", id="OK needs a saturation"),
        pytest.param("OK", "fine", 0.5, "detail should only", id="OK takes no detail"),
        pytest.param("OK", None, 1.0001, "between 0 and 1", id="fuller than full"),
        pytest.param("OK", None, -0.1, "between 0 and 1", id="emptier than empty"),
        pytest.param("OK", None, float("nan"), "between 0 and 1", id="not a number"),
        pytest.param("ERROR", "boom", None, None, id="an error with its story"),
        pytest.param("ERROR", None, None, "detail is required", id="ERROR needs a detail"),
        pytest.param("ERROR", "", None, "detail is required", id="ERROR needs more than nothing"),
        pytest.param("ERROR", "boom", 0.5, "saturation should only", id="ERROR has no saturation"),
        pytest.param("ok", None, 0.5, '"ok" is not a valid', id="lower case"),
        pytest.param("BUSY", None, 0.5, '"BUSY" is not a valid', id="another word"),
    ],
)
def test_status(
    bench: Bench, status: str, detail: str | None, saturation: float | None, refusal: str | None
) -> None:
    manager = bench.manager()
    if refusal is None:
        bench.store.set_manager_status(manager, status, detail, saturation)
        [held] = bench.store.registry.managers
        assert (held.status, held.detail, held.saturation) == (status, detail, saturation)
        return
    with pytest.raises(RefusedError, match=refusal) as raised:
        bench.store.set_manager_status(manager, status, detail, saturation)
    assert raised.value.status == 400


def test_status_of_a_stranger_is_refused(bench: Bench) -> None:
    with pytest.raises(RefusedError, match="No record for ComputeManager: stranger-"):
        bench.store.set_manager_status(bench.id("stranger"), "OK", None, 0.5)


def test_a_status_sweeps_other_silent_managers_by_their_own_expiry(bench: Bench) -> None:
    settings = bench.store.settings
    silent, failed = bench.manager("silent"), bench.manager("failed")
    _set(bench, failed, "ERROR")
    bench.time.advance(settings.manager_expiry + 1)
    _set(bench, bench.manager("speaker"), "OK")
    names = [m.id.name for m in bench.store.registry.managers]
    assert names == ["failed", "speaker"], silent
    bench.time.advance(settings.manager_error_expiry)
    _set(bench, bench.id("speaker"), "OK")
    assert [m.id.name for m in bench.store.registry.managers] == ["speaker"]


def test_a_stale_manager_refreshes_itself_with_its_own_status(bench: Bench) -> None:
    manager = bench.manager()
    bench.time.advance(10 * bench.store.settings.manager_expiry)
    _set(bench, manager, "OK")
    assert [m.last_status for m in bench.store.registry.managers] == [bench.time.now]


def test_a_refused_status_sweeps_nobody(bench: Bench) -> None:
    bench.manager("silent")
    bench.time.advance(bench.store.settings.manager_expiry + 1)
    speaker = bench.manager("speaker")
    with pytest.raises(RefusedError):
        bench.store.set_manager_status(speaker, "OK", None, None)
    assert len(bench.store.registry.managers) == 2


@pytest.mark.parametrize("status", ["OK", "ERROR"])
def test_deregistering_removes_a_manager_unless_it_is_in_error(bench: Bench, status: str) -> None:
    manager = bench.manager()
    _set(bench, manager, status)
    bench.store.registry.deregister_manager(bench.store.manager_id(manager))
    assert len(bench.store.registry.managers) == (1 if status == "ERROR" else 0)


@pytest.mark.parametrize(
    ("name", "status", "clears"),
    [
        pytest.param("manager", "ERROR", True, id="in ERROR"),
        pytest.param("manager", "OK", False, id="OK"),
        pytest.param("other", "ERROR", False, id="unknown name"),
        pytest.param("1manager", "ERROR", False, id="malformed name"),
    ],
)
def test_clearing_an_error(bench: Bench, name: str, status: str, clears: bool) -> None:
    _set(bench, bench.manager(), status)
    if clears:
        bench.store.registry.clear_error(name)
        assert bench.store.registry.managers == []
        return
    with pytest.raises(BrokenError):
        bench.store.registry.clear_error(name)
    assert len(bench.store.registry.managers) == 1


def test_a_new_manager_adopts_the_services_of_its_name(bench: Bench) -> None:
    manager = bench.manager()
    service = bench.service(manager=f"manager-{99:032x}")
    bench.store.registry.deregister_manager(bench.store.manager_id(manager))
    assert bench.manager() == manager
    answer = bench.store.instruction(manager, [], [], EVERYTHING)
    assert answer["compute_service_ids"] == [service]


def test_a_service_of_an_unknown_manager_is_refused_and_not_stored(bench: Bench) -> None:
    with pytest.raises(RefusedError, match="Could not find ComputeManagerRegistration"):
        bench.service(manager=bench.id("nobody"))
    assert bench.store.registry.services == {}


def test_a_service_id_can_be_registered_once(bench: Bench) -> None:
    bench.service()
    with pytest.raises(BrokenError):
        bench.service()


@pytest.mark.parametrize("malformed", ["a-b-" + "0" * 32, "1a-" + "0" * 32, "abc", "abc-xyz"])
def test_malformed_service_ids_break_the_server_since_0_8(bench: Bench, malformed: str) -> None:
    with pytest.raises(BrokenError):
        bench.store.register_service(malformed, None)
    bench.store.settings = Settings(checks_service_ids=False)
    bench.store.register_service(malformed, None)


def test_a_late_heartbeat_removes_its_own_sender_and_frees_its_tasks(bench: Bench) -> None:
    service = bench.service()
    [task] = bench.tasks()
    bench.claim(service)
    bench.time.advance(bench.store.settings.service_expiry + 1)
    bench.store.heartbeat(service)
    assert bench.store.registry.services == {}
    assert (task.status, task.claimed_by) == (TaskStatus.WAITING, None)


def test_a_heartbeat_in_time_keeps_its_sender(bench: Bench) -> None:
    service = bench.service()
    for _ in range(3):
        bench.time.advance(bench.store.settings.service_expiry)
        bench.store.heartbeat(service)
    assert bench.store.registry.services[service].heartbeat == bench.time.now > START


def test_a_stranger_sweeps_too(bench: Bench) -> None:
    bench.service()
    bench.time.advance(bench.store.settings.service_expiry + 1)
    bench.store.heartbeat("not even an id")
    assert bench.store.registry.services == {}


@pytest.mark.parametrize(
    ("ages", "allowed"),
    [
        pytest.param([0, 0, 0], True, id="as many as are forgiven"),
        pytest.param([0, 0, 0, 0], False, id="one too many"),
        pytest.param([0, 0, 0, 601], True, id="old failures are forgotten"),
    ],
)
def test_denial(bench: Bench, ages: list[float], allowed: bool) -> None:
    manager = bench.manager()
    service = bench.service(manager=manager)
    for age in sorted(ages, reverse=True):
        bench.store.registry.log_failure(service, bench.time.now - age)
    answer = bench.store.instruction(manager, [], [], EVERYTHING)
    assert bench.store.may_claim(service) is allowed
    assert answer["instruction"] == ("OK" if allowed else "SKIP")
    assert ("num_tasks" in answer) is allowed


def test_an_unregistered_service_may_not_even_ask(bench: Bench) -> None:
    with pytest.raises(BrokenError):
        bench.store.may_claim(bench.id("nobody"))


def test_strangers_are_told_to_shut_down(bench: Bench) -> None:
    answer = bench.store.instruction(bench.id("nobody"), [], [], EVERYTHING)
    assert answer["instruction"] == "SHUTDOWN"
