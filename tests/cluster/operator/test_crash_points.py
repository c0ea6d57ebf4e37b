"""The operator is killed between any two of its calls, started again, and the end is the same.

A call whose answer has come in and the call that follows it enclose one state of the world, so most
points lie after a call; points before a call are there where something else may come in between.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import pytest
from cluster.operator.altered import CrashPoint
from cluster.operator.kube import Kube
from cluster.operator.nursery import ForkedOperator, Nursery
from cluster.operator.process import LEASE, SYSTEM
from cluster.operator.world import PATIENCE, World

from computepool_api.outcomes import Outcome
from testcluster.cluster import Cluster

pytestmark = pytest.mark.cluster

POOL = r"PATCH .*/computepools/a100$"
STATUS = r"PATCH .*/computepools/a100/status$"
JOBS = r"POST .*/jobs$"


def after(name: str, call: str, text: str = "", number: int = 1) -> object:
    return _parameter(name, call, "after", text, number)


def before(name: str, call: str, text: str = "", number: int = 1) -> object:
    return _parameter(name, call, "before", text, number)


def _parameter(
    name: str, call: str, when: Literal["before", "after"], text: str, number: int
) -> object:
    return pytest.param(CrashPoint(call, when, text, number), id=f"{when} {name}")


@pytest.fixture
def operator(
    world: World, nursery: Nursery, installed: Cluster, tmp_path: Path
) -> Iterator[ForkedOperator]:
    """Give an operator that is not started yet, and no Lease of anybody's."""
    system = Kube(installed.kubeconfig, SYSTEM)
    system.delete("leases", LEASE)
    process = ForkedOperator(nursery, tmp_path / "log", namespaces=[world.namespace])
    yield process
    process.kill()
    system.delete("leases", LEASE)
    system.close()


def start(operator: ForkedOperator, point: CrashPoint) -> None:
    """Start the operator that will kill itself at the point."""
    operator.alterations = {"crash": asdict(point)}
    operator.launch()


def start_again(operator: ForkedOperator) -> None:
    """Wait until it has killed itself, and start it, less patient with services of no pod."""
    operator.wait(PATIENCE)
    assert "traceback" not in operator.log.lower(), operator.log
    operator.alterations = {"values": {"reaping.UNKNOWN_FOR": 3.0}}
    operator.launch()


def assert_one_manager(world: World) -> None:
    """All along there was one id, in the status before it was on the server."""
    pools = [change.thing for change in world.changes if change.kind == "computepools"]
    shown = {pool.get("status", {}).get("computeManagerID") for pool in pools} - {None}
    assert len(shown) == 1
    registered = world.admin.audit(endpoint="manager_register")
    assert {entry.ids["manager"] for entry in registered} == shown


def assert_clean_end(world: World, operator: ForkedOperator) -> None:
    """Nothing is left once the pool has been deleted."""
    world.until("the pool is gone", lambda: not world.pool())
    world.until("its Jobs are gone", lambda: not world.jobs())
    assert world.admin.services() == []
    assert world.admin.managers() == []
    assert_one_manager(world)
    assert "traceback" not in operator.log.lower(), operator.log


@pytest.mark.parametrize(
    "point",
    [
        before("creating the Lease", r"POST .*/leases$"),
        after("creating the Lease", r"POST .*/leases$"),
        before("adding the finalizer", POOL, "deregister"),
        after("adding the finalizer", POOL, "deregister"),
        before("writing the id", STATUS, "Pending"),
        after("writing the id", STATUS, "Pending"),
        after("the first event", r"POST .*/events$"),
        before("registering", r"POST /computemanager/.*/register$"),
        after("registering", r"POST /computemanager/.*/register$"),
        after("the first instruction", r"/instruction$"),
        before("creating the first Job", JOBS),
        after("creating the first Job", JOBS),
        before("creating the second Job", JOBS, number=2),
        after("creating the second Job", JOBS, number=2),
        after("the first report", r"POST /computemanager/.*/status$"),
        after("the status of the first cycle", STATUS, number=2),
        after("the second instruction", r"/instruction$", number=2),
        before("renewing the Lease", r"PUT .*/leases/"),
        after("renewing the Lease", r"PUT .*/leases/"),
    ],
)
def test_killed_at_the_beginning(world: World, operator: ForkedOperator, point: CrashPoint) -> None:
    world.admin.add_tasks(2)
    world.create_pool(maxComputeServices=3)
    start(operator, point)
    start_again(operator)
    world.new_pods(2)
    world.ready_for("WorkersStarting")
    assert len(world.created()) == 2, "no Job for a Task that is covered"
    (manager,) = world.admin.managers()
    assert manager.id == world.status()["computeManagerID"]
    world.delete_pool()
    assert_clean_end(world, operator)


@pytest.mark.parametrize(
    "point",
    [
        before("reaping the dead service", r"POST /computeservice/.*/deregister$"),
        after("reaping the dead service", r"POST /computeservice/.*/deregister$"),
        after("the replacement's Job", JOBS, number=2),
        before("pruning the failed Job", r"DELETE .*/jobs/"),
        after("pruning the failed Job", r"DELETE .*/jobs/"),
        after("the status of the crash", STATUS, '"crashes": 1'),
    ],
)
def test_killed_when_a_worker_has_died(
    world: World, operator: ForkedOperator, point: CrashPoint
) -> None:
    (task,) = world.admin.add_tasks(1)
    world.create_pool(maxComputeServices=1, job={"keepFailed": 0})
    start(operator, point)
    (pod,) = world.new_pods(1)
    dead, _ = world.claim(pod)
    world.workers(running=1)
    world.kubelet.kill(pod, Outcome.HOLDING, task)
    start_again(operator)
    world.until("its Task waits", lambda: world.admin.task(task).status == "waiting")
    (replacement,) = world.new_pods(1)
    world.until("the failed Job is pruned", lambda: len(world.jobs()) == 1)
    world.ready_for("WorkersStarting")
    assert len(world.created()) == 2
    assert world.most_active() == 1
    service, again = world.claim(replacement)
    assert again == task
    assert service != dead
    world.delete_pool()
    assert_clean_end(world, operator)
    assert world.admin.counts() == {"waiting": 1}


@pytest.mark.parametrize(
    "point",
    [
        before("deleting the first Job", r"DELETE .*/jobs/"),
        after("deleting the first Job", r"DELETE .*/jobs/"),
        after("deleting the second Job", r"DELETE .*/jobs/", number=2),
        before("deregistering a service", r"POST /computeservice/.*/deregister$"),
        after("deregistering a service", r"POST /computeservice/.*/deregister$"),
        after("deregistering the other", r"POST /computeservice/.*/deregister$", number=2),
        after("the last report", r"POST /computemanager/.*/status$", r'"saturation": "?0.0'),
        before("deregistering the manager", r"POST /computemanager/.*/deregister$"),
        after("deregistering the manager", r"POST /computemanager/.*/deregister$"),
    ],
)
def test_killed_on_the_way_out(world: World, operator: ForkedOperator, point: CrashPoint) -> None:
    world.admin.add_tasks(2)
    world.create_pool()
    start(operator, point)
    for pod in world.new_pods(2):
        world.claim(pod)
    world.workers(running=2)
    world.delete_pool()
    start_again(operator)
    assert_clean_end(world, operator)
    assert world.admin.counts() == {"waiting": 2}
    assert len(world.created()) == 2
