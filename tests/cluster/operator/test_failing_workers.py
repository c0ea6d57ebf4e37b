"""Workers that fail: what becomes of their services and Tasks, and who is held to blame."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from cluster.operator.kube import Body
from cluster.operator.world import World

from computepool_api.outcomes import Outcome
from computepool_operator.names import POISON_ANNOTATION, REVISION_LABEL
from computepool_operator.reading import read_worker
from computepool_operator.workers import Worker

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("operator")]

REAPED_WITHIN = 5.0


def begin(world: World, **spec: Any) -> tuple[str, str, str]:
    """A pool with one Task and its worker in the middle of it: pod, service and Task."""
    world.admin.add_tasks(1)
    world.create_pool(maxComputeServices=1, **spec)
    (pod,) = world.new_pods(1)
    service, task = world.claim(pod)
    world.workers(running=1)
    return pod, service, task


def registered(world: World) -> list[str]:
    return [service.id for service in world.admin.services()]


def assert_reaped(world: World, service: str, task: str, since: float) -> None:
    """The Task waits again, soon; and a new worker comes for it."""
    seconds = REAPED_WITHIN
    world.until("the Task waits", lambda: world.admin.task(task).status == "waiting", seconds)
    print(f"reaped after {time.monotonic() - since:.2f} s")
    assert service not in registered(world)
    world.new_pods(1)


@pytest.mark.parametrize("end", ["killed", "out of memory", "evicted"])
def test_the_task_of_a_worker_that_died_holding_it_waits_again(world: World, end: str) -> None:
    pod, service, task = begin(world)
    since = time.monotonic()
    if end == "evicted":
        world.kubelet.evict(pod, task)
    else:
        reason = "OOMKilled" if end == "out of memory" else "Error"
        world.kubelet.kill(pod, Outcome.HOLDING, task, reason)
    assert_reaped(world, service, task, since)
    crashes = world.status()["poisonTasks"]
    assert len(crashes) == (0 if end == "evicted" else 1), "an eviction is no fault of the Task"
    assert world.status()["consecutiveFailures"] == (0 if end == "evicted" else 1)


def test_the_task_of_a_job_deleted_by_hand_waits_again(world: World) -> None:
    """The worker ends on SIGTERM but can't say so to the server."""
    pod, service, task = begin(world)
    since = time.monotonic()
    world.kube.delete("jobs", pod.rpartition("-")[0], propagationPolicy="Background")
    assert_reaped(world, service, task, since)


def test_a_pod_deleted_by_force_is_reaped_when_its_node_says_that_it_has_ended(
    world: World,
) -> None:
    """Kubernetes keeps it until then, because its Job wants to know how it ends."""
    world.obedient = False
    pod, service, task = begin(world)
    world.kubelet.vanish(pod)
    world.until("it is being deleted", lambda: pod not in world.pods())
    world.cycles(1)
    assert service in registered(world)
    assert len(world.created()) == 1, "its GPU is not free yet"
    since = time.monotonic()
    world.kubelet.finish(pod, Outcome.HOLDING, exit_code=137, task=task)
    assert_reaped(world, service, task, since)


def test_a_pod_that_is_gone_without_having_ended_may_be_alive(world: World) -> None:
    """Two minutes later it is not: the unit tests have the time."""
    world.obedient = False
    pod, service, task = begin(world)
    world.kube.patch("pods", pod, {"metadata": {"finalizers": None}})
    world.kubelet.vanish(pod)
    world.until("the pod is gone", lambda: world.pod(pod) is None)
    world.cycles(2)
    assert service in registered(world)
    assert world.admin.task(task).status == "running"


def test_a_worker_that_died_pushing_is_not_reaped_at_once(world: World) -> None:
    """What it sent may still be on its way into the store; for a minute, say the unit tests."""
    pod, service, task = begin(world)
    world.kubelet.kill(pod, Outcome.PUSHING, task)
    world.workers(failed=1)
    world.cycles(2)
    assert service in registered(world)
    assert world.admin.task(task).status == "running"
    assert not world.status()["poisonTasks"]


PROXY = {"name": "proxy", "image": "registry.example.org/proxy:v1"}
WITH_PROXY: Body = {
    "image": "registry.example.org/worker:v1",
    "podTemplate": {"spec": {"containers": [PROXY]}},
}


@pytest.mark.parametrize("outcome", [Outcome.HOLDING, Outcome.DONE])
def test_a_worker_s_end_is_its_own_whatever_runs_beside_it(world: World, outcome: Outcome) -> None:
    world.obedient = False
    pod, service, task = begin(world, worker=WITH_PROXY)
    since = time.monotonic()
    world.kubelet.outlive(pod, outcome, task)
    seconds = REAPED_WITHIN
    world.until("the Task waits", lambda: world.admin.task(task).status == "waiting", seconds)
    world.until("the pod is told to go", lambda: pod not in world.pods(), seconds)
    print(f"reaped and told to go after {time.monotonic() - since:.2f} s")
    failed = int(outcome is Outcome.HOLDING)
    world.workers(active=1, failed=failed, succeeded=1 - failed)
    world.cycles(1)
    assert service not in registered(world)
    assert len(world.created()) == 1, "its GPU is not free yet"

    world.kubelet.obey(pod)
    world.new_jobs(2)
    world.cycles(1)
    world.workers(active=1, failed=failed, succeeded=1 - failed)
    assert [crash["crashes"] for crash in world.status()["poisonTasks"]] == [1] * failed


def test_a_worker_that_is_preempted_has_not_failed_and_starts_again(world: World) -> None:
    """Kueue suspends the Job of a running worker, and resumes it later."""
    pod, service, task = begin(world)
    (job,) = (found["metadata"]["name"] for found in world.jobs())
    world.kube.patch("jobs", job, {"spec": {"suspend": True}})
    world.gone(pod)
    world.deregister(service)
    world.until("the Task waits", lambda: world.admin.task(task).status == "waiting")
    world.until(
        "it is suspended", lambda: any(c["type"] == "Suspended" for c in conditions(world, job))
    )
    world.until("its pod is gone", lambda: world.pod(pod) is None)
    world.workers(pending=1, failed=0)
    world.cycles(2)
    assert len(world.created()) == 1, "the Task is covered"
    time.sleep(1)  # timestamps are whole seconds
    since = datetime.now(UTC).replace(microsecond=0)
    resumed = world.kube.patch("jobs", job, {"spec": {"suspend": False}})
    (again,) = world.new_pods(1)
    assert again != pod
    first = int(resumed["metadata"]["resourceVersion"])

    def after() -> list[Worker]:
        seen = [c.thing for c in world.changes if c.kind == "jobs" and c.revision >= first]
        return [read_worker(thing, None) for thing in seen]

    world.until("the Job controller says so", lambda: not after()[-1].suspended)
    states = after()
    assert all(worker.suspended or worker.waiting_since >= since for worker in states)
    assert world.claim(again)[1] == task
    world.workers(running=1, failed=0)
    assert world.status()["consecutiveFailures"] == 0
    assert len(world.created()) == 1


def conditions(world: World, job: str) -> list[Body]:
    found = world.kube.get("jobs", job)
    assert found is not None
    return found["status"].get("conditions") or []


def test_services_of_others_are_not_reaped(world: World) -> None:
    pod, service, task = begin(world)
    world.create_pool("b200", scopes=["other-*-*"])
    world.ready_for("NoTasks", "b200")
    world.cycles(1, "b200")
    assert service in registered(world)
    assert world.admin.task(task).status == "running"
    assert pod in world.pods()


def test_an_unfit_device_puts_its_node_in_quarantine(world: World) -> None:
    world.admin.add_tasks(1)
    world.create_pool()
    (pod,) = world.new_pods(1)
    world.kubelet.start(pod)
    world.kubelet.finish(pod, Outcome.DEVICE_UNFIT)
    world.until("the node's quarantine", lambda: world.status().get("quarantinedNodes"))
    (quarantined,) = world.status()["quarantinedNodes"]
    assert quarantined["name"] == world.kubelet.node
    assert "DeviceUnfit" in quarantined["reason"]
    world.until("another Job", lambda: len(world.created()) == 2)
    (term,) = _node_terms(world.created()[1].thing)
    wanted = {"key": "metadata.name", "operator": "NotIn", "values": [world.kubelet.node]}
    assert wanted in term["matchFields"]
    assert world.status()["consecutiveFailures"] == 0, "no fault of the pool"
    world.annotate("now")
    world.until("a person has cleared it", lambda: not world.status()["quarantinedNodes"])


def _node_terms(job: Body) -> list[Body]:
    affinity = job["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    return list(affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"])


def fail(world: World, times: int, outcome: Outcome = Outcome.SETTINGS_INVALID) -> None:
    """Let so many workers fail, one after the other."""
    for _ in range(times):
        (pod,) = world.new_pods(1)
        world.kubelet.start(pod)
        world.kubelet.finish(pod, outcome)
        world.gone(pod)


def test_failures_in_a_row_open_the_circuit_until_a_person_or_a_canary_closes_it(
    world: World,
) -> None:
    world.admin.add_tasks(1)
    world.create_pool(maxComputeServices=1)
    fail(world, 3)
    ready = world.ready_for("WorkersFailing")
    assert ready["status"] == "False"
    assert "SettingsInvalid" in ready["message"]
    circuit = world.status()["circuit"]
    assert circuit["open"] is True
    assert {"since", "retryAt"} <= circuit.keys()
    world.until("the server is told", lambda: world.admin.managers()[0].status == "ERROR")
    detail = world.admin.managers()[0].detail or ""
    assert "3 workers in a row failed" in detail
    assert "SettingsInvalid" in detail
    world.cycles(1)
    assert len(world.created()) == 3, "no further Job"

    world.annotate("now")
    (canary,) = world.new_pods(1)
    world.until("the server is told", lambda: world.admin.managers()[0].status == "OK")
    world.until("it is closed", lambda: not world.status()["circuit"]["open"])
    assert world.status()["consecutiveFailures"] == 0
    world.kubelet.claim(canary)
    world.kubelet.finish(canary)
    world.workers(succeeded=1)
    world.until("it goes on", lambda: len(world.created()) == 5)


def test_a_corrected_spec_closes_the_circuit(world: World) -> None:
    world.admin.add_tasks(1)
    world.create_pool(maxComputeServices=1)
    fail(world, 3)
    world.ready_for("WorkersFailing")
    before = world.status()["workerRevision"]
    world.change_pool(worker={"image": "registry.example.org/worker:v2"})
    world.new_pods(1)
    world.until("it is closed", lambda: not world.status()["circuit"]["open"])
    world.until("the server is told", lambda: world.admin.managers()[0].status == "OK")
    assert world.status()["consecutiveFailures"] == 0
    revisions = [job["metadata"]["labels"][REVISION_LABEL] for job in world.jobs()]
    assert revisions[:-1] == [before] * len(revisions[:-1])
    assert revisions[-1] == world.status()["workerRevision"] != before


def test_one_canary_is_tried_when_the_pause_is_over(world: World) -> None:
    world.admin.add_tasks(4)
    world.create_pool(
        maxComputeServices=1, failurePolicy={"maxConsecutiveFailures": 1, "retryAfter": "10s"}
    )
    fail(world, 1)
    world.ready_for("WorkersFailing")
    since = time.monotonic()
    world.change_pool(maxComputeServices=4)
    (canary,) = world.new_pods(1)
    assert time.monotonic() - since > 7
    world.cycles(1)
    assert len(world.pods()) == 1, "one at a time, however many Tasks wait"
    world.kubelet.claim(canary)
    world.kubelet.finish(canary)
    world.new_pods(4)
    world.until("it is closed", lambda: not world.status()["circuit"]["open"])


def test_a_task_that_takes_workers_down_is_named_to_the_next(world: World) -> None:
    _, _, task = begin(world, failurePolicy={"taskCrashLimit": 2, "maxConsecutiveFailures": 9})
    for number in (1, 2):
        (pod,) = world.pods()
        if number == 2:
            _, again = world.claim(pod)
            assert again == task
        world.kubelet.kill(pod, Outcome.HOLDING, task)
        world.new_jobs(number + 1)
        world.new_pods(1)
    (poison,) = world.status()["poisonTasks"]
    assert (poison["task"], poison["crashes"]) == (task, 2)
    told = [
        json.loads(change.thing["spec"]["template"]["metadata"]["annotations"][POISON_ANNOTATION])
        for change in world.created()
    ]
    assert [len(list_) for list_ in told] == [0, 0, 1]
    assert told[2][0]["task"] == task
    assert "exit code 137" in told[2][0]["story"]
    assert world.status()["consecutiveFailures"] == 1, "one Task, one failure"
