"""A pool's life when all goes well, on a real API server: what the operator makes of pods' news."""

from __future__ import annotations

import json
import statistics
import time

import httpx
import pytest
import yaml
from cluster.operator.process import OperatorProcess
from cluster.operator.world import KEY, World, ended, manager_name

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("operator")]


def test_the_managers_id_stands_in_the_status_before_it_is_registered(world: World) -> None:
    world.admin.fault("manager_register", "latency", seconds=1.0)
    world.create_pool()
    world.until("an id in the status", lambda: world.status().get("computeManagerID"))
    assert world.admin.managers() == []
    world.ready_for("NoTasks")
    (manager,) = world.admin.managers()
    assert manager.id == world.status()["computeManagerID"]
    assert manager.name == manager_name(world.namespace)


def test_there_are_as_many_jobs_as_tasks_up_to_the_maximum(world: World) -> None:
    world.admin.add_tasks(3)
    world.create_pool(maxComputeServices=4)
    world.new_pods(3)
    world.admin.add_tasks(5)
    world.new_pods(4)
    world.cycles(1)
    assert len(world.created()) == 4
    assert world.condition("Saturated")["status"] == "True"
    assert world.status()["saturation"] == "1.00"
    assert world.status()["tasks"]["waiting"] == 8


def test_kubectl_get_computepools_tells_the_story(world: World) -> None:
    world.admin.add_tasks(3)
    world.create_pool()
    world.ready_for("Saturated")
    words = ["get", "computepools", f"-n{world.namespace}"]
    head, row = (line.split() for line in world.cluster.kubectl(*words).splitlines())
    assert head == ["NAME", "READY", "REASON", "TASKS", "ACTIVE", "MAX", "SATURATION", "AGE"]
    assert row[:7] == ["a100", "True", "Saturated", "3", "2", "2", "1.00"]
    wide = world.cluster.kubectl(*words, "-owide")
    for word in ("OK", world.status()["computeManagerID"], world.url):
        assert word in wide


def test_a_worker_that_has_claimed_covers_no_task_any_more(world: World) -> None:
    world.admin.add_tasks(2)
    world.create_pool(maxComputeServices=3)
    first, second = world.new_pods(2)
    world.cycles(1)
    assert len(world.jobs()) == 2, "both Tasks are covered"
    world.kubelet.claim(first)
    # Its Task is claimed by nobody here, so the server still counts two: one of them is uncovered.
    world.new_pods(3)
    world.workers(running=1, pending=2)
    world.kubelet.turn_ready(first, ready=False)
    world.cycles(1)
    assert world.status()["workers"]["running"] == 1, "between two Tasks it is running still"
    assert second in world.pods()


def test_a_finished_worker_is_replaced_within_a_second(world: World) -> None:
    world.admin.add_tasks(100)
    world.create_pool(maxComputeServices=4, cycleInterval="30s", job={"keepSucceeded": 100})
    delays: list[float] = []
    for pod in world.new_pods(4):
        world.kubelet.claim(pod)
    for _ in range(20):
        pod = next(p for p in world.pods() if _is_ready(world, p))
        known = len(world.created())
        began = time.monotonic()
        world.kubelet.finish(pod)
        delays.append(world.new_jobs(known + 1)[-1].at - began)
        world.kubelet.claim(world.new_pods(4)[-1])
        world.until("it is Ready", lambda: all(_is_ready(world, p) for p in world.pods()))
    ordered = sorted(delays)
    print(f"replacement: median {statistics.median(delays):.3f} s, worst {ordered[-1]:.3f} s")
    assert ordered[18] < 1.0, ordered
    assert world.most_active() == 4


def test_suspending_creates_nothing_and_ends_nothing(world: World) -> None:
    world.admin.add_tasks(4)
    world.create_pool()
    for pod in world.new_pods(2):
        world.kubelet.claim(pod)
    world.change_pool(suspend=True)
    world.ready_for("Suspended")
    world.kubelet.finish(world.pods()[0])
    world.workers(active=1)
    world.cycles(1)
    assert len(world.created()) == 2
    world.change_pool(suspend=False)
    world.until("its replacement", lambda: len(world.created()) == 3)


def test_kubectl_scale_raises_the_maximum(world: World) -> None:
    world.admin.add_tasks(4)
    world.create_pool(maxComputeServices=1)
    world.new_pods(1)
    here = f"-n{world.namespace}"
    world.cluster.kubectl("scale", "computepool/a100", "--replicas=3", here)
    world.new_pods(3)
    world.workers(active=3)
    scale = json.loads(
        world.cluster.kubectl("get", "computepool/a100", "--subresource=scale", here, "-ojson")
    )
    assert scale["spec"]["replicas"] == 3
    selector = scale["status"]["selector"]
    assert len(world.kube.list("pods", selector)) == 3


def test_a_lowered_maximum_ends_no_worker(world: World) -> None:
    world.admin.add_tasks(6)
    world.create_pool(maxComputeServices=3)
    pods = world.new_pods(3)
    for pod in pods:
        world.kubelet.claim(pod)
    world.change_pool(maxComputeServices=1)
    world.until("it is seen", lambda: world.status().get("observedGeneration") == 2)
    world.cycles(1)
    assert world.pods() == pods
    assert world.status()["saturation"] == "1.00", "clamped: the server refuses more than 1"
    world.kubelet.finish(pods[0])
    world.kubelet.finish(pods[1])
    world.workers(active=1)
    world.cycles(1)
    assert len(world.created()) == 3


def test_what_belongs_to_others_is_left_alone(world: World) -> None:
    labels = {"app.kubernetes.io/managed-by": "computepool-operator"}
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}
    foreign = {"metadata": {"name": "foreign", "labels": labels}, "spec": {"template": template}}
    world.kube.create("jobs", foreign)
    pod = {"metadata": {"name": "stranger", "labels": labels}, "spec": template["spec"]}
    world.kube.create("pods", pod)
    world.admin.add_tasks(2)
    world.create_pool(job={"keepSucceeded": 0, "keepFailed": 0})
    world.new_pods(2)
    assert world.status()["workers"]["active"] <= 2
    world.delete_pool()
    world.until("the pool is gone", lambda: not world.pool())
    assert world.kube.get("jobs", "foreign") is not None
    assert world.kube.get("pods", "stranger") is not None


def test_pruning_keeps_the_newest_finished_jobs(world: World) -> None:
    world.admin.add_tasks(9)
    world.create_pool(maxComputeServices=1, job={"keepSucceeded": 2})
    ends: list[str] = []
    for number in range(5):
        (pod,) = world.new_pods(1)
        world.kubelet.claim(pod)
        world.workers(running=1)
        ends.append(pod.rpartition("-")[0])
        # Kubernetes' times are whole seconds: each end is in a second of its own.
        world.kubelet.finish(pod, later=number)
        world.gone(pod)
    world.new_pods(1)

    def kept() -> list[str]:
        return [job["metadata"]["name"] for job in world.jobs() if ended(job)]

    world.until("the last two are kept", lambda: sorted(kept()) == sorted(ends[-2:]))
    world.workers(succeeded=5)


def test_two_pools_in_one_namespace_do_not_interfere(world: World) -> None:
    world.admin.add_tasks(2, scope="org-one-p")
    world.admin.add_tasks(1, scope="org-two-p")
    world.create_pool("one", scopes=["org-one-*"], maxComputeServices=4)
    world.create_pool("two", scopes=["org-two-*"], maxComputeServices=4)
    world.new_pods(2, "one")
    (pod,) = world.new_pods(1, "two")
    assert len({manager.id for manager in world.admin.managers()}) == 2
    world.kubelet.claim(pod)
    world.kubelet.finish(pod)
    world.workers("two", succeeded=1)
    world.delete_pool("two")
    world.until("two is gone", lambda: not world.pool("two"))
    world.cycles(1, "one")
    assert len(world.pods("one")) == 2
    assert [manager.name for manager in world.admin.managers()] == [
        manager_name(world.namespace, "one")
    ]


def test_pools_of_the_same_name_in_two_namespaces_do_not_interfere(
    world: World, second_world: World
) -> None:
    world.admin.add_tasks(1, scope="org-one-p")
    world.admin.add_tasks(2, scope="org-two-p")
    world.create_pool(scopes=["org-one-*"], maxComputeServices=4)
    second_world.create_pool(scopes=["org-two-*"], maxComputeServices=4)
    world.new_pods(1)
    second_world.new_pods(2)
    names = {manager.name for manager in world.admin.managers()}
    assert names == {manager_name(world.namespace), manager_name(second_world.namespace)}
    second_world.delete_pool()
    second_world.until("it is gone", lambda: not second_world.pool())
    world.cycles(1)
    assert len(world.jobs()) == 1
    assert len(world.admin.managers()) == 1


def test_the_operator_leaves_what_a_manifest_owns_alone(world: World) -> None:
    """Nothing of kopf's in annotations, no default written back: Argo CD stays Synced."""
    pool = yaml.safe_dump(world.manifest())
    world.cluster.kubectl("apply", "-f", "-", input=pool)
    applied = world.until("it is seen", lambda: world.pool())
    world.admin.add_tasks(1)
    world.new_pods(1)
    world.cycles(1)
    assert world.pool()["spec"] == applied["spec"]
    metadata = world.pool()["metadata"]
    assert set(metadata["annotations"]) == {"kubectl.kubernetes.io/last-applied-configuration"}
    assert not metadata.get("labels")
    assert metadata["finalizers"] == ["compute.alchemiscale.org/deregister"]
    assert metadata["generation"] == 1
    assert world.cluster.kubectl("diff", "-f", "-", input=pool) == ""
    assert "unchanged" in world.cluster.kubectl("apply", "-f", "-", input=pool)


def test_no_secret_is_shown_anywhere(world: World, operator: OperatorProcess) -> None:
    world.admin.add_tasks(1)
    world.create_pool()
    world.new_pods(1)
    world.admin.add_identity("compute-identity", "another-key")
    world.admin.rotate_tokens()
    world.ready_for("CredentialsRefused")
    shown = json.dumps([change.thing for change in world.changes])
    assert KEY not in shown
    assert KEY not in operator.log


def test_liveness_and_readiness_are_answered(operator: OperatorProcess) -> None:
    for path in ("livez", "readyz"):
        answer = httpx.get(f"{operator.health_url}/{path}", trust_env=False)
        assert (answer.status_code, answer.text) == (200, "ok\n")


def _is_ready(world: World, name: str) -> bool:
    pod = world.pod(name) or {}
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
