"""What an operator that is started again makes of what it finds."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from cluster.operator.kubelet import now
from cluster.operator.process import OperatorProcess
from cluster.operator.rival import Rival
from cluster.operator.world import World

from computepool_api.outcomes import Outcome

pytestmark = pytest.mark.cluster

HOUR = 3600.0


@pytest.fixture
def process(world: World, account: Path, tmp_path: Path) -> OperatorProcess:
    """Give an operator of the test's own, not started."""
    return OperatorProcess(account, tmp_path / "log", namespaces=[world.namespace])


def test_the_registration_is_adopted(world: World, process: OperatorProcess) -> None:
    world.admin.add_tasks(2)
    with process:
        world.create_pool()
        world.new_pods(2)
        before = world.status()["computeManagerID"]
        world.until("it is Ready", lambda: world.condition("Ready").get("status") == "True")
        process.kill()
        process.start()
        world.cycles(1)
        told = time.monotonic()
        assert process.terminate() == 0, "SIGTERM ends it in order"
        took = time.monotonic() - told
        print(f"ended {took:.1f} s after SIGTERM")
        assert took < 10
    assert [manager.id for manager in world.admin.managers()] == [before]
    assert world.status()["computeManagerID"] == before
    assert len(world.created()) == 2
    register = world.admin.audit(endpoint="manager_register")
    assert {entry.ids["manager"] for entry in register} == {before}


def test_a_registration_that_lapsed_meanwhile_is_renewed(
    world: World, process: OperatorProcess
) -> None:
    with process:
        world.create_pool()
        world.ready_for("NoTasks")
        before = world.status()["computeManagerID"]
    world.admin.advance(2 * HOUR)
    last = {"status": {"lastReportTime": now(-2 * HOUR)}}
    world.kube.patch("computepools", "a100", last, subresource="status")
    other = Rival(world, "somebody.else")
    other.register()
    other.fail()  # any report sweeps the managers that have been silent for too long
    assert before not in [manager.id for manager in world.admin.managers()]
    with process:
        world.admin.add_tasks(1)
        world.new_pods(1)
    assert before in [manager.id for manager in world.admin.managers()]


def test_what_ended_while_no_operator_ran_counts_once(
    world: World, process: OperatorProcess
) -> None:
    world.admin.add_tasks(3)
    with process:
        world.create_pool(
            maxComputeServices=2, failurePolicy={"taskCrashLimit": 9, "maxConsecutiveFailures": 9}
        )
        first, second = world.new_pods(2)
        for pod in (first, second):
            world.kubelet.start(pod)
        service, task = world.claim(first)
        world.kubelet.claim(first)
        world.workers(running=1, starting=1)
        process.kill()
        world.kubelet.kill(first, Outcome.HOLDING, task)
        world.kubelet.finish(second, Outcome.DEVICE_UNFIT)
        process.start()
        world.workers(failed=2)
        process.kill()
        process.start()
        world.cycles(2)
    status = world.status()
    assert status["workers"]["failed"] == 2
    assert [(p["task"], p["crashes"]) for p in status["poisonTasks"]] == [(task, 1)]
    assert [node["name"] for node in status["quarantinedNodes"]] == [world.kubelet.node]
    assert len(status["countedJobs"]["failed"]) == 2
    assert service not in [found.id for found in world.admin.services()]


def test_the_end_of_a_worker_whose_pod_outlives_it_is_counted_once(
    world: World, process: OperatorProcess
) -> None:
    world.obedient = False
    proxy = {"name": "proxy", "image": "registry.example.org/proxy:v1"}
    worker = {
        "image": "registry.example.org/worker:v1",
        "podTemplate": {"spec": {"containers": [proxy]}},
    }
    world.admin.add_tasks(1)
    with process:
        world.create_pool(maxComputeServices=1, worker=worker)
        (pod,) = world.new_pods(1)
        world.claim(pod)
        world.kubelet.outlive(pod)
        world.workers(succeeded=1, failed=0)
        world.until("it is told to go", lambda: pod not in world.pods())
        process.kill()
        # The proxy dies of the signal, and so the pod has failed, and its Job with it.
        world.kubelet.obey(pod)
        process.start()
        world.new_jobs(2)
        world.cycles(1)
        world.workers(succeeded=1, failed=0)


def test_a_halt_outlives_the_operator(world: World, process: OperatorProcess) -> None:
    with process:
        world.create_pool()
        world.ready_for("NoTasks")
        Rival(world).register(steal=True)
        world.ready_for("ShutDownByServer")
        before = world.admin.audit()[-1].sequence
        written = world.pool()["metadata"]["resourceVersion"]
        process.kill()
        process.start()
        world.admin.add_tasks(1)
        world.until("it cycles", lambda: world.pool()["metadata"]["resourceVersion"] != written)
    assert world.created() == []
    assert world.reason() == "ShutDownByServer"
    assert world.admin.audit(before, endpoint="manager_register") == []
