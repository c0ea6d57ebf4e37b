"""A pool is deleted: in every state, and with everything gone that it would need."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster.operator.process import OperatorProcess, assert_log_is_clean
from cluster.operator.rival import Rival
from cluster.operator.world import PATIENCE, SECRET, World, manager_name

from computepool_api.outcomes import Outcome
from computepool_operator.cluster import FINALIZER
from simulator.process import SimulatorProcess

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("hurried")]

FAREWELL = 1.0


@pytest.fixture(scope="module")
def hurried(account: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    """Give an operator that soon gives up on a server that is gone, and sweeps often."""
    log = tmp_path_factory.mktemp("operator") / "operator.log"
    alterations = {"values": {"loop.FAREWELL": FAREWELL, "sweeping.SWEEP_SECONDS": 0.5}}
    with OperatorProcess(account, log, alterations=alterations) as operator:
        yield operator
        assert operator.runs, operator.log
    assert_log_is_clean(operator)


def assert_gone(world: World, seconds: float = PATIENCE) -> None:
    """The pool is gone, and nothing is left of it anywhere."""
    world.until("the pool is gone", lambda: not world.pool(), seconds)
    world.until("its Jobs are gone", lambda: not world.jobs())
    names = [manager.name for manager in world.admin.managers()]
    assert manager_name(world.namespace) not in names
    assert world.admin.services() == []


def running(world: World, tasks: int = 2, **spec: Any) -> list[tuple[str, str, str]]:
    """A pool with two workers, each in the middle of a Task: pod, service and Task."""
    world.admin.add_tasks(tasks)
    world.create_pool(**spec)
    found = [(pod, *world.claim(pod)) for pod in world.new_pods(2)]
    world.workers(running=2)
    return found


def test_without_workers(world: World) -> None:
    world.create_pool()
    world.ready_for("NoTasks")
    world.delete_pool()
    assert_gone(world)


def test_before_it_was_ever_connected(world: World) -> None:
    world.kube.delete("secrets", SECRET)
    world.create_pool()
    world.ready_for("SecretMissing")
    world.delete_pool()
    assert_gone(world)


def test_with_workers_that_have_not_claimed(world: World) -> None:
    world.admin.add_tasks(2)
    world.create_pool(deletionPolicy="Drain")
    first, _ = world.new_pods(2)
    world.kubelet.start(first)
    world.delete_pool()
    assert_gone(world)
    assert world.waiting() == 2


def test_stop_puts_the_tasks_of_running_workers_back(world: World) -> None:
    running(world)
    world.delete_pool()
    assert_gone(world)
    assert world.admin.counts() == {"waiting": 2}


def test_drain_lets_running_workers_finish(world: World) -> None:
    (one, service, _), (other, second_service, _) = running(world, deletionPolicy="Drain", tasks=5)
    world.delete_pool()
    ready = world.ready_for("Draining")
    assert "2 running workers finish" in ready["message"]
    assert world.condition("Reconciling")["status"] == "True"
    world.deregister(service)
    world.kubelet.finish(one)
    world.workers(active=1)
    world.cycles(1)
    assert world.pool(), "the other is at work"
    assert len(world.created()) == 2, "no replacement"
    world.deregister(second_service)
    world.kubelet.finish(other)
    assert_gone(world)


@pytest.mark.parametrize("propagation", ["Background", "Foreground", "Orphan"])
def test_drain_holds_however_the_pool_is_deleted(world: World, propagation: str) -> None:
    """Argo CD deletes in the foreground: garbage collection then ends what the pool owns."""
    found = running(world, deletionPolicy="Drain")
    world.kube.delete("computepools", "a100", propagationPolicy=propagation)
    world.ready_for("Draining")
    world.until(
        "garbage collection is done with it",
        lambda: world.pool()["metadata"]["finalizers"] == [FINALIZER],
    )
    world.cycles(1)
    assert world.pods() == [pod for pod, _, _ in found]
    assert not any("deletionTimestamp" in job["metadata"] for job in world.jobs())
    for pod, service, _ in found:
        world.deregister(service)
        world.kubelet.finish(pod)
    assert_gone(world)


def test_finished_jobs_go_with_their_pool(world: World) -> None:
    (pod, service, _), *_ = running(world)
    world.deregister(service)
    world.kubelet.finish(pod)
    world.workers(succeeded=1)
    world.delete_pool()
    assert_gone(world)


def test_what_a_pool_without_its_finalizer_leaves_behind_is_swept(world: World) -> None:
    (pod, service, _), (other, other_service, task) = running(
        world, deletionPolicy="Drain", job={"keepSucceeded": 5}
    )
    world.create_pool("b200", suspend=True)
    world.ready_for("Suspended", "b200")
    world.deregister(service)
    world.kubelet.finish(pod)
    world.workers(succeeded=1)
    (kept, running_job) = (job_of(pod), job_of(other))
    world.delete_pool()
    world.ready_for("Draining")
    assert job_of(pod) in names(world)
    world.kube.patch("computepools", "a100", {"metadata": {"finalizers": None}})
    world.until("the pool is gone", lambda: not world.pool())
    world.until("its finished Job is swept", lambda: kept not in names(world))
    assert names(world) == [running_job]
    assert world.admin.task(task).status == "running"
    world.deregister(other_service)
    world.kubelet.finish(other)
    world.until("the other is swept", lambda: not world.jobs())


def job_of(pod: str) -> str:
    return pod.rpartition("-")[0]


def names(world: World) -> list[str]:
    return [job["metadata"]["name"] for job in world.jobs()]


def test_drain_turns_into_stop_when_its_time_is_over(world: World) -> None:
    running(world, deletionPolicy="Drain", drainTimeout="2s")
    began = time.monotonic()
    world.delete_pool()
    assert_gone(world)
    assert time.monotonic() - began > 1
    assert world.admin.counts() == {"waiting": 2}


def test_a_worker_that_died_while_the_pool_drains_is_reaped(world: World) -> None:
    (one, service, task), (other, other_service, _) = running(world, deletionPolicy="Drain")
    world.delete_pool()
    world.ready_for("Draining")
    world.kubelet.kill(one, Outcome.HOLDING, task)
    world.until("its Task waits", lambda: world.admin.task(task).status == "waiting")
    assert service not in [found.id for found in world.admin.services()]
    world.deregister(other_service)
    world.kubelet.finish(other)
    assert_gone(world)


def test_with_the_circuit_open(world: World) -> None:
    world.admin.add_tasks(1)
    world.create_pool(failurePolicy={"maxConsecutiveFailures": 1})
    (pod,) = world.new_pods(1)
    world.kubelet.start(pod)
    world.kubelet.finish(pod, Outcome.SETTINGS_INVALID)
    world.until("the server is told", lambda: world.admin.managers()[0].status == "ERROR")
    world.delete_pool()
    assert_gone(world)


def test_while_suspended(world: World) -> None:
    world.create_pool(suspend=True)
    world.ready_for("Suspended")
    world.delete_pool()
    assert_gone(world)


def test_while_the_name_is_somebody_elses(world: World) -> None:
    rival = Rival(world)
    rival.register()
    world.create_pool()
    world.ready_for("ManagerNameTaken")
    world.delete_pool()
    world.until("the pool is gone", lambda: not world.pool())
    assert [manager.id for manager in world.admin.managers()] == [str(rival.id)]


@pytest.mark.parametrize("with_workers", [False, True], ids=["idle", "with workers"])
def test_with_the_server_gone_it_goes_after_a_while_and_says_so(
    world: World, with_workers: bool
) -> None:
    with SimulatorProcess() as other:
        if with_workers:
            other.admin.add_tasks(1)
        world.create_pool(computeAPI={"url": other.url, "credentialsSecretRef": {"name": SECRET}})
        world.ready_for("WorkersCreated" if with_workers else "NoTasks")
        if with_workers:
            world.kubelet.claim(world.new_pods(1)[0])
    world.delete_pool()
    world.until("the pool is gone", lambda: not world.pool())
    world.until("its Jobs are gone", lambda: not world.jobs())
    (event,) = world.until("an event", lambda: world.events("NotDeregistered"))
    assert "without deregistering" in event["message"]


def test_with_the_secret_gone(world: World) -> None:
    """What was known of it is used once more."""
    running(world)
    world.kube.delete("secrets", SECRET)
    world.delete_pool()
    assert_gone(world)


def test_with_its_whole_namespace(second_world: World) -> None:
    """What else is in it goes at the same time: its Secret, its ServiceAccounts, its Jobs."""
    world = second_world
    running(world)
    world.cluster.kubectl("delete", "namespace", world.namespace, "--wait=false")
    assert_gone(world)
