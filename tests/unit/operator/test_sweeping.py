"""Jobs of pools that are gone for good: those that have finished go, whatever else is kept."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import pytest
from unit.operator import objects
from unit.operator.fake_kube import NAMESPACE, FakeKube, Fault, mirrored

from computepool_api.outcomes import Outcome
from computepool_operator import sweeping
from computepool_operator.cluster import Cluster
from computepool_operator.kubeapi import KubernetesError
from computepool_operator.strays import Stray, finished_strays
from computepool_operator.sweeping import keep_sweeping, sweep

Body = dict[str, Any]
JOBS = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
POOLS = f"/apis/compute.alchemiscale.org/v1alpha1/namespaces/{NAMESPACE}/computepools"
STRAY = Stray(NAMESPACE, objects.JOB, objects.JOB_UID)
DONE = objects.ended_pod(0, objects.says(Outcome.DONE))
COMPLETE = objects.condition("Complete", True, objects.ENDED)


class TestWhichGo:
    @pytest.mark.parametrize(
        ("job", "pods"),
        [
            pytest.param(objects.job_object(), [DONE], id="its pod has ended"),
            pytest.param(objects.job_object(), [objects.beside(DONE)], id="a proxy outlives it"),
            pytest.param(objects.job_object(COMPLETE), [], id="it says so itself"),
        ],
    )
    def test_a_finished_job_without_a_pool(self, job: Body, pods: list[Body]) -> None:
        assert finished_strays([job], pods, {"another pool"}) == (STRAY,)
        assert finished_strays([job], pods, set()) == (STRAY,)

    def test_none_of_a_pool_that_exists(self) -> None:
        assert finished_strays([objects.job_object()], [DONE], {objects.POOL_UID}) == ()

    @pytest.mark.parametrize(
        "pods",
        [
            pytest.param([], id="pending"),
            pytest.param([objects.running()], id="starting"),
            pytest.param([objects.holding_a_task()], id="at work"),
            pytest.param([objects.holding_a_task(deleted=True)], id="on its way out"),
        ],
    )
    def test_none_that_may_hold_a_task(self, pods: list[Body]) -> None:
        assert finished_strays([objects.job_object()], pods, set()) == ()

    def test_a_job_that_has_ended_waits_for_its_pod(self) -> None:
        failed = objects.job_object(objects.condition("Failed", True, objects.ENDED))
        assert finished_strays([failed], [objects.holding_a_task()], set()) == ()


@dataclass
class Scene:
    kube: FakeKube
    cluster: Cluster

    @property
    def deleted(self) -> list[Body]:
        return [body for _, body in self.kube.asked("DELETE", f"/{objects.JOB}")]


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    """One finished Job, of a pool that is not there."""
    kube = FakeKube()
    await kube.put(f"{JOBS}/{objects.JOB}", deepcopy(objects.job_object()))
    await kube.put(f"{PODS}/{objects.JOB}-v7rh4", deepcopy(DONE))
    async with kube.running() as api, mirrored(api) as cluster:
        yield Scene(kube, cluster)


class TestSweep:
    async def test_the_very_job_is_deleted_with_its_pod(self, scene: Scene) -> None:
        await sweep(scene.cluster)
        assert scene.deleted == [
            {"propagationPolicy": "Background", "preconditions": {"uid": objects.JOB_UID}}
        ]

    async def test_a_pool_that_exists_keeps_its_jobs(self, scene: Scene) -> None:
        await scene.kube.put(f"{POOLS}/a100", {"metadata": {"uid": objects.POOL_UID}})
        await sweep(scene.cluster)
        assert scene.deleted == []

    async def test_a_new_pool_of_its_name_is_another(self, scene: Scene) -> None:
        await scene.kube.put(f"{POOLS}/a100", {})
        await sweep(scene.cluster)
        assert len(scene.deleted) == 1

    @pytest.mark.parametrize("status", [403, 404, 500, 503])
    async def test_where_pools_cannot_be_listed_nothing_is_deleted(
        self, scene: Scene, status: int
    ) -> None:
        scene.kube.faults.append(Fault("GET", "/computepools", status))
        with pytest.raises(KubernetesError):
            await sweep(scene.cluster)
        assert scene.deleted == []

    async def test_on_mirrors_that_are_not_fresh_nothing_is_decided(self, scene: Scene) -> None:
        async with scene.kube.running() as api:
            unheard = Cluster(
                api, namespaces=[NAMESPACE], identity="test", on_change=lambda _uid: None
            )
            for mirror in unheard._jobs:
                mirror.put(deepcopy(objects.job_object(COMPLETE)))
            await sweep(unheard)
        assert scene.deleted == []

    async def test_no_error_ends_it(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(sweeping, "SWEEP_SECONDS", 0.01)
        scene.kube.faults += [
            Fault("GET", "/computepools", 503),
            Fault("DELETE", f"/{objects.JOB}", 500),
        ]
        task = asyncio.create_task(keep_sweeping(scene.cluster))
        async with asyncio.timeout(30), scene.kube.news:
            await scene.kube.news.wait_for(lambda: not scene.kube.named("jobs"))
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert caplog.text.count("sweep broken off") == 2
