"""A pod whose Job has gone may be at work for hours: its service is left alone as long as it is."""

from datetime import timedelta
from typing import Any

import pytest
from unit.operator.builders import MINUTE, NOON, make_service_id, make_spec, ok

from computepool_operator.memory import Memory
from computepool_operator.names import JOB_NAME_LABEL, TERMINATION_GRACE, service_id
from computepool_operator.plan import Observation, plan
from computepool_operator.reading import departed, service_of
from computepool_operator.reaping import UNKNOWN_FOR, Fleet, Reaping, services_to_reap
from computepool_operator.workers import Departed

SERVICE = make_service_id("a100-x")
UID = "7fe2c18e-5b01-ecfb-10a6-1c941f82df6e"
LONG_AGO = {str(SERVICE): NOON - timedelta(hours=1)}


def test_the_service_of_an_orphan_is_not_reaped_however_long_it_lives() -> None:
    alive = Fleet(orphans=(SERVICE,), prefix="a100_")
    assert services_to_reap(alive, [SERVICE], LONG_AGO, NOON) == Reaping()


def test_once_the_orphan_is_gone_its_time_begins() -> None:
    nobody = Fleet(prefix="a100_")
    first = services_to_reap(nobody, [SERVICE], {}, NOON)
    assert first == Reaping(left_since=((SERVICE, NOON),), settling=True)
    left_since = dict(first.left_since)
    assert services_to_reap(nobody, [SERVICE], left_since, NOON + UNKNOWN_FOR).reap == (SERVICE,)


def test_the_plan_heeds_orphans() -> None:
    memory = Memory(reported_at=NOON - MINUTE, left_since=tuple(LONG_AGO.items()))
    seen = Observation((), ok(0, [SERVICE]), 1, orphans=(SERVICE,), service_prefix="a100_")
    assert plan(make_spec(), seen, memory, NOON).reap == ()


def failed_pod(container: dict[str, Any]) -> dict[str, Any]:
    """A pod that is said to have failed, and its worker's container as its node has shown it."""
    return {
        "metadata": {
            "uid": UID,
            "labels": {JOB_NAME_LABEL: "a100-x"},
            "creationTimestamp": "2026-03-01T11:00:00Z",
        },
        "status": {
            "phase": "Failed",
            "containerStatuses": [{"name": "worker", "state": container}],
        },
    }


def test_an_orphan_that_has_ended_counts_from_its_end() -> None:
    pod = failed_pod({"terminated": {"finishedAt": "2026-03-01T12:00:00Z"}})
    grace = timedelta(seconds=TERMINATION_GRACE)
    assert departed(pod) == Departed(service_id("a100-x", UID), NOON, ended=True, grace=grace)


@pytest.mark.parametrize(("container", "ended"), [("running", False), ("terminated", True)])
def test_a_pod_that_the_control_plane_gave_up_may_be_at_work(container: str, ended: bool) -> None:
    """PodGC says Failed of the pods of a node that is gone, before it removes them."""
    gone = departed(failed_pod({container: {}}), NOON)
    assert gone is not None
    assert gone.ended is ended


def test_the_service_of_a_pod_is_named_by_its_job_and_its_uid() -> None:
    pod: dict[str, Any] = {"metadata": {"uid": UID, "labels": {JOB_NAME_LABEL: "a100-x"}}}
    assert service_of(pod) == service_id("a100-x", UID)
    assert service_of({"metadata": {"uid": UID}}) is None


@pytest.mark.parametrize("name", ["Foo_Bar", "", "a100-x!"])
def test_a_pod_that_somebody_else_has_made_under_our_labels_has_none(name: str) -> None:
    pod: dict[str, Any] = {"metadata": {"uid": UID, "labels": {JOB_NAME_LABEL: name}}}
    assert service_of(pod) is None
    assert departed(pod, NOON) is None
