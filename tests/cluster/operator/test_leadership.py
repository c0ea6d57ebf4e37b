"""Two instances of the operator: one leads, and the other takes over."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster.operator.kube import Kube
from cluster.operator.nursery import ForkedOperator, Nursery
from cluster.operator.process import LEASE, SYSTEM
from cluster.operator.world import World

from testcluster.cluster import Cluster

pytestmark = pytest.mark.cluster

Pair = tuple[ForkedOperator, ForkedOperator]


@pytest.fixture
def lease(installed: Cluster) -> Iterator[Kube]:
    """Give the namespace of the Lease, without a Lease."""
    kube = Kube(installed.kubeconfig, SYSTEM)
    kube.delete("leases", LEASE)
    yield kube
    kube.delete("leases", LEASE)
    kube.close()


@pytest.fixture
def pair(world: World, lease: Kube, nursery: Nursery, tmp_path: Path) -> Iterator[Pair]:
    """Give two instances: the first leads, the second stands by; a pool has two workers."""
    first, second = (
        ForkedOperator(
            nursery, tmp_path / identity, namespaces=[world.namespace], identity=identity
        )
        for identity in ("first", "second")
    )
    with first:
        world.until("the first leads", lambda: holder(lease) == "first")
        with second:
            world.admin.add_tasks(8)
            world.create_pool()
            for pod in world.new_pods(2):
                world.kubelet.claim(pod)
            world.workers(running=2)
            yield first, second


def holder(lease: Kube) -> str:
    found = lease.get("leases", LEASE)
    return str(found["spec"].get("holderIdentity", "")) if found else ""


def assert_goes_on(world: World) -> None:
    """A worker that ends is replaced, once."""
    created = len(world.created())
    world.kubelet.finish(world.pods()[0])
    world.until("its replacement", lambda: len(world.created()) == created + 1)
    world.cycles(1)
    assert len(world.created()) == created + 1
    assert world.most_active() == 2
    assert len(world.admin.managers()) == 1
    registered = world.admin.audit(endpoint="manager_register")
    assert {entry.ids["manager"] for entry in registered} == {world.status()["computeManagerID"]}


def test_one_of_two_instances_leads(world: World, pair: Pair) -> None:
    first, second = pair
    assert_goes_on(world)
    assert len(first.events("leading")) == 1
    assert second.events("leading") == []
    assert second.events("job created") == []


def test_the_other_takes_over_from_a_leader_that_was_killed(
    world: World, pair: Pair, lease: Kube
) -> None:
    first, second = pair
    began = time.monotonic()
    first.kill()
    world.until("the second leads", lambda: holder(lease) == "second")
    took = time.monotonic() - began
    print(f"hand-over after SIGKILL: {took:.1f} s")
    assert 7 < took < 15, "not before the Lease has run out"
    assert_goes_on(world)
    assert len(second.events("leading")) == 1


def test_the_other_takes_over_at_once_from_a_leader_that_was_told_to_go(
    world: World, pair: Pair, lease: Kube
) -> None:
    first, _ = pair
    began = time.monotonic()
    first.terminate()
    world.until("the second leads", lambda: holder(lease) == "second")
    took = time.monotonic() - began
    print(f"hand-over after SIGTERM: {took:.1f} s")
    assert took < 7, "before the Lease has run out"
    assert_goes_on(world)


def test_a_container_that_is_restarted_leads_again_at_once(
    world: World, pair: Pair, lease: Kube
) -> None:
    first, second = pair
    first.kill()
    began = time.monotonic()
    first.start()
    world.until("it leads", lambda: len(first.events("leading")) == 2)
    took = time.monotonic() - began
    print(f"the same identity leads again after {took:.1f} s")
    assert took < 7, "before the Lease has run out"
    assert_goes_on(world)
    assert holder(lease) == "first"
    assert second.events("leading") == []


def test_a_leader_whose_lease_was_taken_stands_by(world: World, pair: Pair, lease: Kube) -> None:
    first, second = pair
    second.kill()
    lease.patch("leases", LEASE, {"spec": {"holderIdentity": "usurper"}})
    world.until("it is lost", lambda: first.events("leadership lost"))
    created = len(world.created())
    world.kubelet.finish(world.pods()[0])
    world.until("it has ended", lambda: len(world.pods()) == 1)
    assert len(world.created()) == created
    lease.patch("leases", LEASE, {"spec": {"holderIdentity": ""}})
    world.until("its replacement", lambda: len(world.created()) == created + 1)
    assert len(first.events("leading")) == 2
    assert_goes_on(world)


def test_a_leader_that_was_suspended_writes_nothing_once_another_leads(
    world: World, pair: Pair, lease: Kube
) -> None:
    first, second = pair
    late = world.admin.fault("manager_instruction", "latency", seconds=4.0, count=None)

    def struck() -> int:
        return next(int(f["struck"]) for f in world.admin.faults() if f["id"] == late)

    world.until("a cycle that waits", lambda: struck() == 1)
    world.change_pool(maxComputeServices=3)
    world.until("a cycle that is about to create a third worker", lambda: struck() == 2)
    first.suspend()
    world.admin.clear_faults()
    world.until("the second leads", lambda: holder(lease) == "second")
    world.new_jobs(3)
    world.cycles(1)
    first.resume()
    world.until("the first has noticed", lambda: first.events("leadership lost"))
    world.cycles(1)
    assert len(world.created()) == 3
    assert world.most_active() == 3
    assert len(first.events("job created")) == 2
    assert len(second.events("job created")) == 1
    assert first.runs
