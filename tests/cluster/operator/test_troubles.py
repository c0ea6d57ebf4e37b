"""What is missing, wrong or away, how it is said, and that the pool goes on once it is mended."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
import yaml
from cluster.operator.kube import Body
from cluster.operator.world import IDENTIFIER, KEY, SECRET, World

from computepool_operator.names import JOB_NAME_LABEL, MANAGED_BY, OPERATOR, POOL_UID_LABEL
from simulator.process import SimulatorProcess

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("operator")]


def write_secret(world: World, **values: str) -> None:
    """Replace what the Secret holds."""
    data = {name: base64.b64encode(value.encode()).decode() for name, value in values.items()}
    world.kube.patch("secrets", SECRET, {"data": {"identifier": None, "key": None, **data}})


def assert_stalled(world: World, words: str) -> None:
    ready = world.condition("Ready")
    assert ready["status"] == "False"
    assert words in ready["message"]
    assert world.condition("Stalled")["status"] == "True"


def test_a_missing_secret_is_named_and_used_once_it_is_there(world: World) -> None:
    world.kube.delete("secrets", SECRET)
    world.create_pool()
    world.ready_for("SecretMissing")
    assert_stalled(world, f"There is no Secret {SECRET} in namespace {world.namespace}")
    world.create_secret()
    assert world.ready_for("NoTasks", seconds=10)["status"] == "True"
    assert world.condition("Stalled")["status"] == "False"


def test_a_secret_without_a_key_is_named_with_what_it_lacks(world: World) -> None:
    write_secret(world, identifier=IDENTIFIER)
    world.create_pool()
    world.ready_for("SecretIncomplete")
    assert_stalled(world, f"The Secret {SECRET} has no key key")
    write_secret(world, identifier=IDENTIFIER, key=KEY)
    world.ready_for("NoTasks", seconds=10)


def test_wrong_credentials_are_said_and_corrected_ones_used_within_a_cycle(world: World) -> None:
    write_secret(world, identifier=IDENTIFIER, key="wrong-key")
    world.create_pool()
    world.ready_for("CredentialsRefused")
    assert_stalled(world, f"identity '{IDENTIFIER}'")
    assert "wrong-key" not in json.dumps(world.pool())
    write_secret(world, identifier=IDENTIFIER, key=KEY)
    world.ready_for("NoTasks", seconds=10)


def test_a_secret_that_changes_while_all_is_well_is_used_at_the_next_token(world: World) -> None:
    world.create_pool()
    world.ready_for("NoTasks")
    world.admin.add_identity("successor", "successors-key")
    write_secret(world, identifier="successor", key="successors-key")
    world.cycles(1)
    world.admin.rotate_tokens()
    world.cycles(2)
    assert world.reason() == "NoTasks"
    asked = world.admin.audit(endpoint="manager_instruction")
    assert asked[-1].notes["identity"] == "successor"


@pytest.mark.parametrize("form", ["flat", "nested"])
def test_the_settings_file_of_an_existing_deployment_serves_as_secret(
    world: World, form: str
) -> None:
    flat = {"api_url": "https://elsewhere.example.org", "identifier": IDENTIFIER, "key": KEY}
    settings: Body = flat if form == "flat" else {"init": flat, "start": {"max_tasks": 1}}
    write_secret(world, **{"settings.yaml": yaml.safe_dump(settings)})
    reference = {"name": SECRET, "settingsKey": "settings.yaml"}
    world.create_pool(computeAPI={"url": world.url, "credentialsSecretRef": reference})
    world.ready_for("NoTasks")


def test_a_changed_url_is_followed(world: World) -> None:
    with SimulatorProcess() as other:
        other.admin.add_tasks(1)
        world.create_pool()
        world.ready_for("NoTasks")
        world.change_pool(computeAPI={"url": other.url})
        world.new_pods(1)
        (manager,) = other.admin.managers()
        assert manager.id == world.status()["computeManagerID"]


FAULTS: dict[str, tuple[str, dict[str, Any]]] = {
    "500": ("status", {"status": 500, "count": None}),
    "502": ("status", {"status": 502, "count": None}),
    "reset": ("reset", {"count": None}),
    "garbage": ("garbage", {"count": None}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_that_is_broken_leaves_ready_unknown_until_it_is_well(
    world: World, fault: str
) -> None:
    world.admin.add_tasks(1)
    world.create_pool()
    world.new_pods(1)
    kind, details = FAULTS[fault]
    world.admin.fault("manager_instruction", kind, **details)
    world.admin.add_tasks(1)
    world.until("it is not known", lambda: world.condition("Ready").get("status") == "Unknown")
    assert world.reason() in ("ComputeAPIUnavailable", "ComputeAPIUnexpected")
    assert "instruction" in world.condition("Ready")["message"]
    assert len(world.created()) == 1, "nothing is decided on what is not known"
    assert world.status()["tasks"]["waiting"] == 1, "what was known stays"
    world.admin.clear_faults()
    world.new_pods(2)
    world.until("it is known again", lambda: world.condition("Ready")["status"] == "True")


def test_a_server_that_is_gone_is_named(world: World) -> None:
    with SimulatorProcess() as other:
        reference = {"name": SECRET}
        world.create_pool(computeAPI={"url": other.url, "credentialsSecretRef": reference})
        world.ready_for("NoTasks")
    ready = world.ready_for("ComputeAPIUnavailable")
    assert ready["status"] == "Unknown"
    assert other.url in ready["message"]
    assert "check that the server is up" in ready["message"]
    assert KEY not in ready["message"]


def test_short_faults_and_slowness_are_not_even_noticed(world: World) -> None:
    world.create_pool()
    world.ready_for("NoTasks")
    world.admin.fault("manager_instruction", "status", status=500)
    world.admin.fault("manager_instruction", "reset", skip=2)
    world.admin.fault("manager_status", "truncate", skip=1)
    world.admin.fault("manager_*", "latency", seconds=0.3, count=10)
    world.admin.rotate_tokens()
    world.cycles(3)
    known = [c.thing.get("status", {}) for c in world.changes if c.kind == "computepools"]
    assert {status.get("reason") for status in known} <= {None, "Pending", "NoTasks"}


def test_a_quota_is_reported_in_kubernetes_words_and_its_end_noticed(world: World) -> None:
    quota = {"metadata": {"name": "few"}, "spec": {"hard": {"count/jobs.batch": "1"}}}
    world.kube.create("resourcequotas", quota)
    world.until("it counts", lambda: (world.kube.get("resourcequotas", "few") or {})["status"])
    world.admin.add_tasks(3)
    world.create_pool(maxComputeServices=3)
    world.ready_for("JobsRefused")
    assert_stalled(world, "exceeded quota: few")
    assert len(world.created()) == 1
    world.cycles(1)
    assert len(world.events("JobsRefused")) == 1, "an event on the transition only"
    world.kube.delete("resourcequotas", "few")
    world.new_pods(3)
    world.until("all is well", lambda: world.condition("Stalled")["status"] == "False")


def test_a_pod_that_finds_no_node_is_shown_with_kubernetes_words(world: World) -> None:
    world.admin.add_tasks(1)
    world.create_pool()
    world.new_pods(1)
    world.until("the scheduler's words", lambda: "Unschedulable: " in world.status()["message"])
    assert "nodes are available" in world.condition("Ready")["message"]
    assert world.status()["workers"]["pending"] == 1


def test_an_image_that_cannot_be_pulled_is_shown_with_kubernetes_words(world: World) -> None:
    world.admin.add_tasks(1)
    world.create_pool()
    (pod,) = world.new_pods(1)
    world.kubelet.fail_to_pull(pod)
    world.until(
        "the kubelet's words",
        lambda: "ImagePullBackOff: Back-off pulling" in world.status()["message"],
    )
    world.cycles(1)
    assert len(world.created()) == 1


def test_workers_that_are_held_up_go_when_the_spec_is_corrected(world: World) -> None:
    world.admin.add_tasks(2)
    world.create_pool()
    for pod in world.new_pods(2):
        world.kubelet.fail_to_pull(pod)
    world.until("the words", lambda: "2 workers can't start" in world.status()["message"])
    world.change_pool(worker={"image": "registry.example.org/worker:v2"})
    world.new_jobs(4)
    pods = world.new_pods(2)
    images = {(world.pod(pod) or {})["spec"]["containers"][0]["image"] for pod in pods}
    assert images == {"registry.example.org/worker:v2"}
    assert world.most_active() == 2
    assert world.status()["consecutiveFailures"] == 0


def test_workers_that_never_started_go_once_no_task_is_left_for_them(world: World) -> None:
    tasks = world.admin.add_tasks(2)
    world.create_pool()
    world.new_pods(2)
    world.admin.set_task_status(tasks[0], "invalid")
    world.new_pods(1)
    world.cycles(1)
    assert len(world.created()) == 2


def test_a_pod_of_somebody_else_under_the_pools_labels_does_no_harm(world: World) -> None:
    pool = world.create_pool()
    world.ready_for("NoTasks")
    labels = {
        MANAGED_BY: OPERATOR,
        POOL_UID_LABEL: pool["metadata"]["uid"],
        JOB_NAME_LABEL: "Foo_Bar",
    }
    container = {"name": "other", "image": "registry.example.org/other:v1"}
    body = {"metadata": {"name": "other", "labels": labels}, "spec": {"containers": [container]}}
    world.kube.create("pods", body)
    world.cycles(2)
    assert world.reason() == "NoTasks"
    world.kubelet.vanish("other")
    world.admin.add_tasks(1)
    (pod,) = world.new_pods(1)
    world.claim(pod)
    world.workers(running=1)  # pods are still mirrored
