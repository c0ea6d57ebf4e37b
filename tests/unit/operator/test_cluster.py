"""What all pools share: what is remembered of pods that went, and events."""

import asyncio
from collections.abc import AsyncIterator
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest
from unit.operator import objects
from unit.operator.builders import NOON, SECOND
from unit.operator.fake_kube import NAMESPACE, FakeKube, mirrored

from computepool_operator.cluster import DEPARTED_KEPT, Cluster
from computepool_operator.names import POOL_UID_LABEL, PoolReference

PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
POOL = PoolReference(NAMESPACE, "a100", objects.POOL_UID, generation=1)


@dataclass
class Scene:
    kube: FakeKube
    cluster: Cluster
    now: datetime = NOON

    async def lose_pod(self, name: str, pool: str, **labels: str) -> None:
        """A pod comes and goes, and the mirror has heard of it."""
        pod: dict[str, Any] = deepcopy(objects.running())
        pod["metadata"]["labels"] = {**pod["metadata"]["labels"], POOL_UID_LABEL: pool, **labels}
        path = f"{PODS}/{name}"
        await self.kube.put(path, pod)
        await self.until(lambda: self.cluster.orphaned_pods(pool) != [])
        await self.kube.remove(path)
        await self.until(lambda: self.cluster.orphaned_pods(pool) == [])

    async def until(self, holds: Any) -> None:
        for _ in range(500):
            if holds():
                return
            await asyncio.sleep(0.01)
        raise AssertionError("not within 5 s")


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    kube = FakeKube()
    found: Scene | None = None
    async with (
        kube.running() as api,
        mirrored(api, clock=lambda: found.now if found else NOON) as cluster,
    ):
        found = Scene(kube, cluster)
        yield found


async def test_a_pod_that_went_is_remembered_until_its_pool_is_gone(scene: Scene) -> None:
    await scene.lose_pod("one", "pool-1")
    assert len(scene.cluster.departed("pool-1")) == 1
    scene.cluster.forget("pool-1")
    assert scene.cluster.departed("pool-1") == ()


async def test_and_for_an_hour_at_most_also_where_its_pool_loses_no_other(scene: Scene) -> None:
    """A pod may go when its pool is gone already."""
    await scene.lose_pod("one", "pool-1")
    scene.now += DEPARTED_KEPT + SECOND
    await scene.lose_pod("two", "pool-2")
    assert scene.cluster.departed("pool-1") == ()
    assert len(scene.cluster.departed("pool-2")) == 1


async def test_a_pod_with_a_strange_name_for_a_job_does_not_end_the_mirror(scene: Scene) -> None:
    await scene.lose_pod("one", "pool-1", **{"batch.kubernetes.io/job-name": "Foo_Bar"})
    assert scene.cluster.departed("pool-1") == ()
    await scene.lose_pod("two", "pool-1")
    assert len(scene.cluster.departed("pool-1")) == 1


@pytest.mark.parametrize("letter", ["x", "\u00e4", "\u20ac"])
async def test_the_message_of_an_event_is_as_long_as_the_api_server_takes(
    scene: Scene, letter: str
) -> None:
    await scene.cluster.post_event(
        POOL, warning=True, reason="Test", message=letter * 2000, now=NOON
    )
    ((_, body),) = scene.kube.asked("POST", "/events")
    assert 1021 <= len(body["message"].encode()) <= 1024
    assert set(body["message"]) == {letter}
