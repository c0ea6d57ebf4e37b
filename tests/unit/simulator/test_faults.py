"""Which requests a fault meets."""

import random
from typing import Any

import pytest

from simulator.endpoints import ENDPOINTS, endpoint_of
from simulator.faults import Fault, FaultBoard, FaultKind


def board(*faults: dict[str, Any]) -> FaultBoard:
    made = FaultBoard(random.Random(1))
    for fault in faults:
        made.add(Fault(**{"kind": FaultKind.STATUS, **fault}))
    return made


def struck(faults: FaultBoard, *endpoints: str) -> list[bool]:
    return [faults.strike(endpoint, f"/{endpoint}")[1] is not None for endpoint in endpoints]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        pytest.param({"endpoint": "claim"}, [True, False, False], id="once, if not told"),
        pytest.param({"endpoint": "claim", "count": 2}, [True, False, True], id="twice"),
        pytest.param({"endpoint": "claim", "count": None}, [True, False, True], id="always"),
        pytest.param({"endpoint": "*", "count": None}, [True, True, True], id="everywhere"),
        pytest.param({"endpoint": "cl*", "skip": 1}, [False, False, True], id="the second"),
        pytest.param({"endpoint": "*", "contains": "info"}, [False, True, False], id="by path"),
        pytest.param({"endpoint": "*", "probability": 0.0}, [False] * 3, id="never"),
    ],
)
def test_how_often_and_where(fault: dict[str, Any], expected: list[bool]) -> None:
    assert struck(board(fault), "claim", "info", "claim") == expected


def test_probability_is_kept_roughly() -> None:
    faults = board({"endpoint": "claim", "count": None, "probability": 0.3})
    assert 240 < sum(struck(faults, *["claim"] * 1000)) < 360


def test_latencies_come_on_top() -> None:
    slow = {"endpoint": "*", "kind": FaultKind.LATENCY, "seconds": 1.0, "count": None}
    latencies, other = board(slow, {"endpoint": "claim"}).strike("claim", "/claim")
    assert [fault.kind for fault in latencies] == [FaultKind.LATENCY]
    assert other is not None


def test_faults_are_cleared_one_by_one_or_all() -> None:
    faults = board({"endpoint": "claim"}, {"endpoint": "info"}, {"endpoint": "ping"})
    first = faults.faults[0]
    faults.clear(first.id)
    assert [fault.endpoint for fault in faults.faults] == ["info", "ping"]
    faults.clear()
    assert faults.faults == []


@pytest.mark.parametrize(
    "fault",
    [
        {"endpoint": "clam"},
        {"endpoint": "claim", "kind": FaultKind.LATENCY},
        {"endpoint": "claim", "probability": 2.0},
    ],
)
def test_faults_that_could_not_work(fault: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"no endpoint|needs seconds|between 0 and 1"):
        board(fault)


@pytest.mark.parametrize(
    ("method", "path", "name", "ids"),
    [
        ("POST", "/claim", "claim", {}),
        ("GET", "/claim", "other", {}),
        ("GET", "/tasks/T/transformation/gufe", "transformation_gufe", {"task": "T"}),
        ("GET", "/tasks/T/transformation", "transformation", {"task": "T"}),
        ("POST", "/taskhubs/H/claim", "hub_claim", {"hub": "H"}),
        ("POST", "/computemanager/m/clear_error", "manager_clear_error", {"manager": "m"}),
        ("GET", "/ping/", "other", {}),
    ],
)
def test_requests_are_recognised(method: str, path: str, name: str, ids: dict[str, str]) -> None:
    endpoint = endpoint_of(method, path)
    assert (endpoint.name, endpoint.ids) == (name, ids)
    assert name in (*ENDPOINTS, "other")
