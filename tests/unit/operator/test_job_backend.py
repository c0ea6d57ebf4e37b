"""Jobs created and removed over a Kubernetes API that does not always answer (invariant 1)."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import count

import pytest
from unit.operator.builders import NOON, SECOND, make_spec
from unit.operator.fake_kube import NAMESPACE, FakeKube, Fault, mirrored
from unit.operator.objects import Body, beside, ended_pod, holding_a_task

from computepool_api.ids import ComputeManagerID
from computepool_operator.cluster import CREATION_SETTLES, Cluster, JobBackend
from computepool_operator.jobs import build_job
from computepool_operator.kubeapi import NotLeading
from computepool_operator.manager import BackendRefused, BackendUnavailable
from computepool_operator.names import POOL_UID_LABEL, PoolReference
from computepool_operator.orders import NO_ORDERS, Orders
from computepool_operator.workers import Worker, WorkerState

POOL = PoolReference(NAMESPACE, "a100", "7dd7aaf9-5071-4384-a107-2924ea1485f5", generation=1)
MANAGER = ComputeManagerID("lab.a100-d06a26067fa64217bf0781e0aaf2f45b")
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
JOBS = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"


@dataclass
class Backend:
    """The backend, the server behind it, and the time."""

    kube: FakeKube
    cluster: Cluster
    now: datetime = NOON
    numbers: "count[int]" = field(default_factory=count)

    def __post_init__(self) -> None:
        self.jobs = JobBackend(
            self.cluster,
            POOL,
            clock=lambda: self.now,
            new_suffix=lambda: f"{next(self.numbers):08}",
        )
        self.jobs.manifest = self.manifest

    def manifest(self, name: str, orders: Orders) -> dict[str, object]:
        return build_job(POOL, make_spec(), MANAGER, name, orders)

    async def create(self, number: int) -> int:
        return await self.jobs.create(number, NO_ORDERS)

    async def names(self) -> list[str]:
        return [worker.name for worker in await self.jobs.workers()]

    def fault(self, method: str, what: object, **more: object) -> Fault:
        found = Fault(method, "/jobs", what, **more)  # type: ignore[arg-type]
        self.kube.faults.append(found)
        return found


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    kube = FakeKube()
    async with kube.running() as api, mirrored(api) as cluster:
        yield Backend(kube, cluster)


class TestCreating:
    async def test_a_new_job_is_a_worker_before_the_watch_brings_it(self, backend: Backend) -> None:
        backend.kube.watches = False
        assert await backend.create(2) == 2
        workers = await backend.jobs.workers()
        assert [worker.name for worker in workers] == ["a100-00000000", "a100-00000001"]
        assert all(worker.state is WorkerState.PENDING for worker in workers)
        assert set(backend.kube.named("jobs")) == {worker.name for worker in workers}

    async def test_a_refusal_is_quoted_with_how_far_it_came(self, backend: Backend) -> None:
        quota = "exceeded quota: gpus, requested: count/jobs.batch=1, used: 1, limited: 1"
        assert await backend.create(1) == 1
        backend.fault("POST", 403, message=quota)
        with pytest.raises(BackendRefused, match="0 of 2 created") as refused:
            await backend.create(2)
        assert quota in str(refused.value)

    async def test_a_namespace_that_is_gone_is_a_refusal(self, backend: Backend) -> None:
        backend.fault("POST", 404, message='namespaces "lab" not found')
        with pytest.raises(BackendRefused, match="namespaces"):
            await backend.create(1)

    async def test_a_name_that_exists_is_the_job_that_was_wanted(self, backend: Backend) -> None:
        name = "a100-00000000"
        await backend.kube.put(f"{JOBS}/{name}", build_job(POOL, make_spec(), MANAGER, name))
        backend.fault("POST", 409, reason="AlreadyExists")
        assert await backend.create(1) == 1
        assert await backend.names() == [name]

    async def test_nothing_is_created_before_the_spec_is_known(self, backend: Backend) -> None:
        backend.jobs.manifest = None
        with pytest.raises(BackendUnavailable):
            await backend.create(1)
        assert backend.kube.named("jobs") == {}


class TestTakingOver:
    """Jobs of whoever led before, which the watch may be late with (invariant 1)."""

    async def test_they_are_looked_up_once(self, backend: Backend) -> None:
        name = "a100-theirs"
        backend.kube.watches = False
        await backend.kube.put(f"{JOBS}/{name}", build_job(POOL, make_spec(), MANAGER, name))
        assert backend.cluster.workers(POOL.uid) == ()
        assert await backend.names() == [name]
        del backend.kube.objects[f"{JOBS}/{name}"]
        assert await backend.names() == [name], "until the watch says otherwise"

    async def test_as_long_as_they_cannot_be_nothing_is_known(self, backend: Backend) -> None:
        backend.fault("GET", 403, count=99)  # the watch meets it as well
        with pytest.raises(BackendUnavailable):
            await backend.names()
        backend.kube.faults.clear()
        assert await backend.names() == []


class TestOrphans:
    """Pods without a Job: one whose worker has ended is no service at work, and holds a GPU."""

    @pytest.mark.parametrize(
        ("pod", "at_work", "unfinished", "ended"),
        [
            pytest.param(holding_a_task(), 1, 1, 0, id="at work"),
            pytest.param(beside(ended_pod(0)), 0, 1, 1, id="outlived by a proxy"),
            pytest.param(ended_pod(0), 0, 0, 1, id="ended"),
        ],
    )
    async def test_of_a_pod_that_is_(
        self, pod: Body, at_work: int, unfinished: int, ended: int
    ) -> None:
        seen = asyncio.Event()
        kube = FakeKube()
        async with (
            kube.running() as api,
            mirrored(api, on_change=lambda _uid: seen.set()) as cluster,
        ):
            await kube.put(f"{PODS}/{pod['metadata']['name']}", pod)
            async with asyncio.timeout(30):
                await seen.wait()
            assert len(cluster.orphaned_services(POOL)) == at_work
            assert len(cluster.orphaned_pods(POOL.uid)) == unfinished
            assert [gone.ended for gone in cluster.departed(POOL.uid)] == [True] * ended

    async def test_of_a_former_pool_of_the_same_name_they_are_at_work_too(self) -> None:
        # Its finalizer was taken off by hand; the new pool may have taken over its name.
        pod = holding_a_task()
        pod["metadata"]["labels"][POOL_UID_LABEL] = "a6f2a9fc-0b26-4f5a-9a5c-3b8f7b1c9d10"
        elsewhere = replace(POOL, namespace="elsewhere")
        kube = FakeKube()
        await kube.put(f"{PODS}/{pod['metadata']['name']}", pod)
        async with kube.running() as api, mirrored(api) as cluster:
            assert len(cluster.orphaned_services(POOL)) == 1
            assert cluster.orphaned_pods(POOL.uid) == []
            assert cluster.orphaned_services(replace(POOL, name="b200")) == ()
            assert cluster.orphaned_services(elsewhere) == ()


class TestUnsure:
    """A creation that got no answer may or may not have been done."""

    async def test_one_that_was_done_counts_once(self, backend: Backend) -> None:
        backend.kube.watches = False
        backend.fault("POST", "lost")
        with pytest.raises(BackendUnavailable):
            await backend.create(3)
        assert set(backend.kube.named("jobs")) == {"a100-00000000"}
        for _ in range(3):
            assert await backend.names() == ["a100-00000000"]

    async def test_one_that_was_not_done_counts_until_that_is_certain(
        self, backend: Backend
    ) -> None:
        backend.fault("POST", "reset")
        with pytest.raises(BackendUnavailable):
            await backend.create(1)
        (worker,) = await backend.jobs.workers()
        assert (worker.state, worker.uid) == (WorkerState.PENDING, "")
        assert "did not answer" in worker.trouble
        backend.now += CREATION_SETTLES - SECOND
        assert await backend.names() == ["a100-00000000"]
        backend.now += SECOND
        assert await backend.names() == []

    async def test_one_that_is_done_late_is_not_created_beside_another(
        self, backend: Backend
    ) -> None:
        late = backend.fault("POST", "late")
        with pytest.raises(BackendUnavailable):
            await backend.create(1)
        # The server has the request still: a look now finds nothing, and must not be believed.
        assert await backend.names() == ["a100-00000000"]
        late.release.set()
        for _ in range(100):
            if "a100-00000000" in backend.kube.named("jobs"):
                break
            await asyncio.sleep(0.01)
        (worker,) = await backend.jobs.workers()
        assert worker.uid

    async def test_a_look_that_gets_no_answer_leaves_everything_unknown(
        self, backend: Backend
    ) -> None:
        backend.fault("POST", "reset")
        with pytest.raises(BackendUnavailable):
            await backend.create(1)
        backend.kube.faults.append(Fault("GET", "/a100-00000000", 503))
        with pytest.raises(BackendUnavailable):
            await backend.jobs.workers()
        assert await backend.names() == ["a100-00000000"]

    async def test_a_busy_server_may_have_done_it(self, backend: Backend) -> None:
        backend.fault("POST", 504)
        with pytest.raises(BackendUnavailable):
            await backend.create(1)
        assert await backend.names() == ["a100-00000000"]

    async def test_one_that_was_put_off_was_not_done(self, backend: Backend) -> None:
        backend.fault("POST", 429)
        with pytest.raises(BackendUnavailable):
            await backend.create(1)
        assert await backend.names() == []


class TestLeading:
    async def test_who_leads_no_more_writes_nothing(self) -> None:
        kube, leads = FakeKube(), True
        async with kube.running() as api, mirrored(api, leads=lambda: leads) as cluster:
            backend = Backend(kube, cluster)
            await backend.create(1)
            (worker,) = await backend.jobs.workers()
            leads = False
            with pytest.raises(BackendUnavailable, match="does not hold the Lease"):
                await backend.create(1)
            with pytest.raises(BackendUnavailable, match="does not hold the Lease"):
                await backend.jobs.remove(worker)
            with pytest.raises(NotLeading):
                await cluster.patch_status(POOL, {"reason": "NoTasks"})
            await cluster.post_event(POOL, warning=False, reason="A", message="b", now=NOON)
            assert [(m, p) for m, p, _ in kube.requests if m != "GET"] == [("POST", JOBS)]
            assert await backend.names() == [worker.name], "nothing is unsure about it"


class TestKnowing:
    async def test_nothing_is_known_before_the_first_list(self) -> None:
        kube = FakeKube()
        async with kube.running() as api:
            cluster = Cluster(api, namespaces=[], identity="test", on_change=lambda _uid: None)
            backend = Backend(kube, cluster)
            with pytest.raises(BackendUnavailable, match="not been heard of"):
                await backend.jobs.workers()

    async def test_jobs_of_other_pools_are_not_ours(self, backend: Backend) -> None:
        other = PoolReference(NAMESPACE, "h100", "another-uid", generation=1)
        job = build_job(other, make_spec(), MANAGER, "h100-x")
        await backend.kube.put(f"{JOBS}/h100-x", job)
        await backend.create(1)
        assert await backend.names() == ["a100-00000000"]


class TestRemoving:
    def worker(self, state: WorkerState, uid: str = "uid-1") -> Worker:
        return Worker(name="a100-x", uid=uid, state=state, created_at=NOON)

    async def deletion(self, backend: Backend, worker: Worker) -> dict[str, object]:
        await backend.jobs.remove(worker)
        ((path, body),) = backend.kube.asked("DELETE", "/a100-x")
        assert path == f"{JOBS}/a100-x"
        found: dict[str, object] = body
        return found

    async def test_only_the_very_job_that_was_seen(self, backend: Backend) -> None:
        body = await self.deletion(backend, self.worker(WorkerState.SUCCEEDED))
        assert body["preconditions"] == {"uid": "uid-1"}

    async def test_one_that_runs_stays_until_its_pod_has_ended(self, backend: Backend) -> None:
        body = await self.deletion(backend, self.worker(WorkerState.RUNNING))
        assert body["propagationPolicy"] == "Foreground"

    async def test_one_that_has_ended_goes_at_once(self, backend: Backend) -> None:
        body = await self.deletion(backend, self.worker(WorkerState.FAILED))
        assert body["propagationPolicy"] == "Background"

    @pytest.mark.parametrize("status", [404, 409])
    async def test_one_that_is_gone_or_another_by_now_is_left(
        self, backend: Backend, status: int
    ) -> None:
        backend.kube.faults.append(Fault("DELETE", "/a100-x", status))
        await backend.jobs.remove(self.worker(WorkerState.RUNNING))

    @pytest.mark.parametrize("status", [403, 429, 500])
    async def test_anything_else_is_not_done(self, backend: Backend, status: int) -> None:
        backend.kube.faults.append(Fault("DELETE", "/a100-x", status))
        with pytest.raises(BackendUnavailable):
            await backend.jobs.remove(self.worker(WorkerState.RUNNING))
