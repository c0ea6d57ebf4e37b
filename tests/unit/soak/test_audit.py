"""The audit of a soak notices what it is there to notice."""

from typing import Any

import pytest

from e2e.recorder import Change
from simulator.views import RequestView, ResultView, TaskView
from soak.audit import most_unfinished, wrongs_of_managers, wrongs_of_task

RESULT = ResultView(key="ProtocolDAGResultRef-1", ok=True, creator="a-1", pushed=3.0)


def history(*events: tuple[str, str | None]) -> list[dict[str, Any]]:
    return [{"time": n, "event": e, "service": s} for n, (e, s) in enumerate(events)]


def task(status: str, results: int, *events: tuple[str, str | None]) -> TaskView:
    return TaskView(
        key="Task-1-a-b-c",
        scope="a-b-c",
        status=status,
        priority=10,
        extends=None,
        transformation_key="",
        claimed_by=None,
        hubs=[],
        results=[RESULT] * results,
        history=history(("created", None), *events),
    )


CLAIMED, STORED, RELEASED = ("claimed", "a-1"), ("result stored", "a-1"), ("released", "a-1")


def test_a_task_that_went_well() -> None:
    went_well = task("complete", 1, CLAIMED, RELEASED, CLAIMED, STORED)
    assert wrongs_of_task(went_well, may_fail=False) == []


@pytest.mark.parametrize(
    ("went", "told"),
    [
        (task("complete", 2, CLAIMED, STORED, STORED), "2 results"),
        (task("running", 0, CLAIMED), "ended as running"),
        (task("error", 1, CLAIMED, ("failure stored", "a-1")), "ended as error"),
        (task("complete", 1, ("claimed", "b-2"), STORED), "a-1 pushed, and b-2 held it"),
        (task("complete", 1, CLAIMED, RELEASED, STORED), "a-1 pushed, and None held it"),
    ],
)
def test_a_task_that_went_wrong(went: TaskView, told: str) -> None:
    assert any(told in wrong for wrong in wrongs_of_task(went, may_fail=False))


def test_a_poison_task_may_end_in_error() -> None:
    went = task("error", 1, CLAIMED, ("failure stored", "a-1"))
    assert wrongs_of_task(went, may_fail=True) == []


def change(version: int, kind: str, name: str, *, what: str = "MODIFIED", **status: Any) -> Change:
    metadata: dict[str, Any] = {"name": name, "resourceVersion": str(version)}
    if kind == "Pod":
        metadata["labels"] = {"batch.kubernetes.io/job-name": name.removesuffix("-pod")}
    return Change(0.0, what, {"kind": kind, "metadata": metadata, "status": status})


ENDED: dict[str, Any] = {"conditions": [{"type": "Complete", "status": "True"}]}


@pytest.mark.parametrize(
    ("end", "most"),
    [
        (change(3, "Job", "a", **ENDED), 1),
        (change(3, "Job", "a", what="DELETED"), 1),
        (change(3, "Pod", "a-pod", phase="Failed"), 1),
        (change(3, "Pod", "a-pod", what="DELETED"), 1),
        (change(5, "Pod", "a-pod", phase="Failed"), 2),
    ],
)
def test_jobs_are_unfinished_until_their_pod_has_ended(end: Change, most: int) -> None:
    # Seen in another order than it happened.
    seen = [change(1, "Job", "a"), change(4, "Job", "b"), end, change(2, "Pod", "a-pod")]
    assert most_unfinished(seen) == most


def request(number: int, manager: str, **notes: Any) -> RequestView:
    return RequestView(
        sequence=number,
        wall=0.0,
        virtual=0.0,
        method="POST",
        path="",
        endpoint="manager_register",
        connection="",
        ids={"manager": manager},
        status=200,
        seconds=0.0,
        fault=None,
        notes=notes,
    )


def test_a_second_manager_and_a_shutdown_are_noticed() -> None:
    assert wrongs_of_managers([request(1, "a-1"), request(2, "a-1")]) == []
    assert wrongs_of_managers([request(1, "a-1"), request(2, "a-2")]) != []
    assert wrongs_of_managers([request(1, "a-1", instruction="SHUTDOWN")]) != []
