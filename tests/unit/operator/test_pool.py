"""The models of spec and status: defaults, leniency, what they write."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import ValidationError

from computepool_operator.pool import (
    Condition,
    CredentialsSecretRef,
    PoisonTask,
    PoolSpec,
    PoolStatus,
    QuarantinedNode,
    TasksStatus,
)

MINIMAL: dict[str, Any] = {
    "computeAPI": {
        "url": "https://compute.example.org",
        "credentialsSecretRef": {"name": "alchemiscale-compute"},
    },
    "worker": {"image": "registry.example.org/worker:v1"},
}

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_the_defaults_are_those_of_the_design() -> None:
    spec = PoolSpec.model_validate(MINIMAL)
    given = {"compute_api": {"url", "credentials_secret_ref"}, "worker": {"image"}}
    assert spec.model_dump(by_alias=False, exclude=given) == {
        "compute_api": {"ca_bundle_ref": {"name": "", "key": ""}},
        "manager_name": "",
        "scopes": ("*-*-*",),
        "scopes_exclude": (),
        "protocols": (),
        "max_compute_services": 16,
        "max_submit_per_cycle": 8,
        "cycle_interval": timedelta(seconds=30),
        "suspend": False,
        "worker": {
            "gpu": {"resource": "nvidia.com/gpu", "count": 1},
            "resources": {},
            "spool": None,
            "claim_limit": 1,
            "max_tasks": 1,
            "max_time": None,
            "heartbeat_interval": timedelta(seconds=60),
            "n_retries": 3,
            "openmm_platform": "CUDA",
            "device_min_memory": 1024,
            "scratch_min_free": 1024,
            "pod_template": {},
        },
        "job": {
            "startup_deadline": timedelta(minutes=30),
            "active_deadline": None,
            "labels": {},
            "annotations": {},
            "keep_succeeded": 3,
            "keep_failed": 10,
        },
        "failure_policy": {
            "max_consecutive_failures": 3,
            "node_quarantine": timedelta(hours=1),
            "task_crash_limit": 3,
            "retry_after": timedelta(minutes=10),
        },
        "deletion_policy": "Drain",
        "drain_timeout": None,
    }


def test_fields_of_a_newer_operator_are_ignored() -> None:
    newer = {**MINIMAL, "tomorrow": 1, "worker": {**MINIMAL["worker"], "tomorrow": {"a": 1}}}
    assert PoolSpec.model_validate(newer) == PoolSpec.model_validate(MINIMAL)
    assert PoolStatus.model_validate({"tomorrow": 1}) == PoolStatus()


def test_what_kubernetes_defines_is_kept_as_it_was_written() -> None:
    worker = {
        **MINIMAL["worker"],
        "resources": {"limits": {"example.com/license": 1, "memory": "8Gi"}},
        "spool": {"csi": {"driver": "nfs", "volumeAttributes": {"a": "b"}}},
        "podTemplate": {"spec": {"tolerations": [{"operator": "Exists"}], "anything": None}},
    }
    spec = PoolSpec.model_validate({**MINIMAL, "worker": worker})
    assert spec.worker.resources == worker["resources"]
    assert spec.worker.spool == worker["spool"]
    assert spec.worker.pod_template == worker["podTemplate"]


def test_a_spec_cannot_be_changed() -> None:
    spec = PoolSpec.model_validate(MINIMAL)
    with pytest.raises(ValidationError, match="frozen"):
        spec.__setattr__("suspend", True)


def test_a_spec_that_was_never_admitted_is_an_error() -> None:
    with pytest.raises(ValidationError, match="as in 1h30m"):
        PoolSpec.model_validate({**MINIMAL, "cycleInterval": "soon"})
    with pytest.raises(ValidationError, match="less than or equal to 1000"):
        PoolSpec.model_validate({**MINIMAL, "maxComputeServices": 1001})


def test_the_fields_have_the_names_of_the_resource() -> None:
    written = PoolSpec.model_validate(MINIMAL).model_dump(mode="json")
    assert written["computeAPI"]["caBundleRef"] == {"name": "", "key": ""}
    assert written["worker"]["openmmPlatform"] == "CUDA"
    assert written["worker"]["nRetries"] == 3
    assert PoolSpec.model_validate(written) == PoolSpec.model_validate(MINIMAL)


@pytest.mark.parametrize(
    ("reference", "pair"),
    [
        ({}, ("identifier", "key")),
        ({"identifierKey": "user"}, ("user", "key")),
        ({"keyKey": "pass"}, ("identifier", "pass")),
        ({"settingsKey": "settings.yaml"}, None),
    ],
)
def test_keys_of_the_secret(reference: dict[str, str], pair: tuple[str, str] | None) -> None:
    assert CredentialsSecretRef.model_validate({"name": "secret", **reference}).pair() == pair


def test_a_status_is_read_from_an_object_with_and_without_one() -> None:
    assert PoolStatus.of({"metadata": {}}) == PoolStatus()
    assert PoolStatus.of({"status": {"tasks": {"waiting": 3}}}).tasks.waiting == 3


def test_a_status_says_null_for_what_is_unknown_so_that_a_patch_removes_it() -> None:
    body = PoolStatus(tasks=TasksStatus(waiting=None)).to_body()
    assert body["tasks"] == {"waiting": None, "unclaimable": 0}
    assert body["lastCycleTime"] is None
    assert body["computeManagerID"] == ""


def test_times_are_written_in_utc_by_the_second() -> None:
    zone = timezone(timedelta(hours=1))
    moment = datetime(2026, 3, 1, 13, 0, 0, 999_999, tzinfo=zone)
    assert PoolStatus(last_cycle_time=moment).to_body()["lastCycleTime"] == "2026-03-01T12:00:00Z"
    assert PoolStatus.model_validate({"lastCycleTime": "2026-03-01T12:00:00Z"}) == PoolStatus(
        last_cycle_time=NOON
    )


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValidationError, match="timezone"):
        PoolStatus(last_cycle_time=NOON.replace(tzinfo=None))


def test_texts_and_lists_are_cut_to_what_the_api_server_stores() -> None:
    status = PoolStatus(
        reason="R" * 500,
        quarantined_nodes=tuple(QuarantinedNode(name=f"n{i}", until=NOON) for i in range(600)),
        poison_tasks=(PoisonTask(task="Task-1", message="é" * 5000),),
    )
    assert status.reason == "R" * 127 + "…"
    assert [node.name for node in status.quarantined_nodes] == [f"n{i}" for i in range(512)]
    assert len(status.poison_tasks[0].message) == 1024


def test_what_is_copied_into_a_status_is_cut_when_it_is_written() -> None:
    assert PoolStatus().model_copy(update={"reason": "R" * 500}).to_body()["reason"][-2:] == "R…"


def test_short_texts_are_left_alone() -> None:
    condition = Condition(
        type="Ready", status="True", reason="NoTasks", message="x" * 4096, last_transition_time=NOON
    )
    assert condition.message == "x" * 4096
