"""The loop of one pool: what stands in the status and when, what wakes it, and how it ends."""

import asyncio
import random
import re
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from unit.operator.builders import NOON
from unit.operator.fake_kube import NAMESPACE, FakeKube, Fault, mirrored
from unit.operator.objects import JOB, POD_UID, condition, ended_pod, job_object

from computepool_api.outcomes import Outcome, TerminationMessage
from computepool_operator import loop as loop_module
from computepool_operator.cluster import FINALIZER, Cluster
from computepool_operator.jobs import build_job
from computepool_operator.loop import PoolLoop, Tools
from computepool_operator.names import GENERATION_ANNOTATION, service_id
from computepool_operator.pool import PoolSpec
from computepool_operator.pools import Pools
from computepool_operator.workers import Worker
from simulator.client import AdminClient
from simulator.faults import Fault as ServerFault
from simulator.faults import FaultKind
from simulator.records import Identity
from simulator.serving import Running, running
from simulator.simulator import Options, Simulator

Body = dict[str, Any]
POOL = f"/apis/compute.alchemiscale.org/v1alpha1/namespaces/{NAMESPACE}/computepools/a100"
SECRET = f"/api/v1/namespaces/{NAMESPACE}/secrets/alchemiscale-compute"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
JOBS = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
IDENTITY = Identity("compute-identity", "compute-key", ("*-*-*",))


class Settable:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Scene:
    """A pool on a small Kubernetes API, its server, and the loops that serve it."""

    kube: FakeKube
    cluster: Cluster
    server: Running
    pool: Body
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    loops: list[PoolLoop] = field(default_factory=list)
    clock: Settable = field(default_factory=Settable)

    def loop(self, body: Body | None = None, **tools: Any) -> PoolLoop:
        source = random.Random(7)
        settings: Body = {"spread": source.random, "monotonic": self.clock, **tools}
        made = PoolLoop(deepcopy(body or self.pool), Tools(self.cluster, **settings))
        self.loops.append(made)
        return made

    def start(self, body: Body | None = None, **tools: Any) -> asyncio.Task[None]:
        task = asyncio.create_task(self.loop(body, **tools).run())
        self.tasks.append(task)
        return task

    @property
    def status(self) -> Body:
        found: Body = self.kube.objects[POOL].get("status") or {}
        return found

    @property
    def managers(self) -> list[str]:
        """Ids that were registered, in order."""
        return [
            entry["ids"]["manager"]
            for entry in self.server.simulator.audit.entries()
            if entry["endpoint"] == "manager_register" and entry["status"] == 200
        ]

    def asked(self, endpoint: str = "manager_instruction") -> int:
        entries = self.server.simulator.audit.entries()
        return len([entry for entry in entries if entry["endpoint"] == endpoint])

    async def add_tasks(self, number: int) -> None:
        with AdminClient(self.server.admin_url) as admin:
            await asyncio.to_thread(admin.add_tasks, number)

    def register_service(self, service: str) -> None:
        """Register a service under the pool's manager, as its worker would have."""
        form = {"username": "compute-identity", "password": "compute-key"}
        with httpx.Client(base_url=self.server.url, trust_env=False) as client:
            token = client.post("/token", data=form).json()["access_token"]
            client.post(
                f"/computeservice/{service}/register",
                headers={"Authorization": f"Bearer {token}"},
                json={"compute_manager_id": self.status["computeManagerID"]},
            ).raise_for_status()

    def break_server(self, endpoint: str, kind: FaultKind, **details: Any) -> None:
        self.server.simulator.faults.add(ServerFault(endpoint, kind, count=None, **details))

    async def until(self, what: str, holds: Callable[[], object], *, hurry: bool = False) -> None:
        """Wait until something holds; in a hurry, start a cycle whenever one has ended."""
        for number in range(3000):
            if holds():
                return
            if hurry and not self.loops[-1].busy_seconds():
                self.clock.now += 15
                body = deepcopy(self.pool)
                body["metadata"]["annotations"] = {"hurry": str(number)}
                self.loops[-1].update(body)
            await asyncio.sleep(0.01)
        raise AssertionError(f"not within 30 s: {what}; the status is {self.status}")

    async def new_job(self, name: str) -> None:
        """A Job that the watch brings."""
        job = build_job(
            self.loops[0].pool,
            PoolSpec.model_validate(self.pool["spec"]),
            self.status["computeManagerID"],
            name,
        )
        await self.kube.put(f"{JOBS}/{name}", job)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    kube = FakeKube()
    found: Scene | None = None

    def on_change(_uid: str) -> None:
        for loop in found.loops if found else ():
            loop.workers_changed()

    simulator = Simulator(Options(identities=[IDENTITY], seed=1))
    async with (
        running(simulator) as server,
        kube.running() as api,
        mirrored(api, on_change=on_change) as cluster,
    ):
        await kube.put(
            SECRET,
            # compute-identity, compute-key
            {"data": {"identifier": "Y29tcHV0ZS1pZGVudGl0eQ==", "key": "Y29tcHV0ZS1rZXk="}},
        )
        pool = await kube.put(
            POOL,
            {
                "spec": {
                    "computeAPI": {
                        "url": server.url,
                        "credentialsSecretRef": {"name": "alchemiscale-compute"},
                    },
                    "cycleInterval": "10m",
                    "worker": {"image": "registry.example.org/worker:v1"},
                },
            },
        )
        found = Scene(kube, cluster, server, deepcopy(pool))
        yield found
        for task in found.tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


class TestIdentity:
    async def test_the_id_is_written_before_the_manager_registers(self, scene: Scene) -> None:
        scene.kube.faults.append(Fault("PATCH", "/status", 503, count=1))
        scene.start()
        await scene.until("it is registered", lambda: scene.managers, hurry=True)
        order = [
            (method, path, (body or {}).get("status", {}).get("computeManagerID"))
            for method, path, body in scene.kube.requests
            if method == "PATCH" and path.endswith("/status")
        ]
        assert len({made for _, _, made in order[1:]}) == 1
        assert scene.managers == [scene.status["computeManagerID"]]

    async def test_nothing_is_registered_while_the_id_cannot_be_written(self, scene: Scene) -> None:
        scene.kube.faults.append(Fault("PATCH", "/status", 503, count=1000))
        scene.start()
        await scene.until(
            "several tries", lambda: len(scene.kube.asked("PATCH", "/status")) > 3, hurry=True
        )
        assert scene.asked("manager_register") == 0

    async def test_the_next_operator_goes_on_under_the_id_of_the_first(self, scene: Scene) -> None:
        first = scene.start()
        await scene.until("a whole cycle", lambda: scene.status.get("lastCycleTime"))
        first.cancel()
        made = scene.status["computeManagerID"]
        scene.start(scene.kube.objects[POOL])
        await scene.until("another cycle", lambda: scene.asked() >= 2)
        assert scene.status["computeManagerID"] == made
        assert set(scene.managers) == {made}

    async def test_also_where_its_watch_is_behind(self, scene: Scene) -> None:
        first = scene.start()
        await scene.until("a whole cycle", lambda: scene.status.get("lastCycleTime"))
        first.cancel()
        made = scene.status["computeManagerID"]
        scene.start(scene.pool)  # as it was before the first operator
        await scene.until("another cycle", lambda: scene.asked() >= 2)
        assert scene.status["computeManagerID"] == made
        assert scene.status["reason"] == "NoTasks"

    async def test_what_the_last_operator_wrote_is_known_before_anything_is_done(
        self, scene: Scene
    ) -> None:
        first = scene.start()
        await scene.until("a whole cycle", lambda: scene.status.get("lastCycleTime"))
        first.cancel()
        behind = deepcopy(scene.kube.objects[POOL])
        # Since then the server has shut the pool down, and a watch that is dead has not said so.
        found = deepcopy(scene.kube.objects[POOL])
        (stalled,) = [c for c in found["status"]["conditions"] if c["type"] == "Stalled"]
        stalled |= {"status": "True", "reason": "ShutDownByServer", "message": "enough"}
        await scene.kube.put(POOL, found)
        before = scene.asked()
        scene.kube.faults.append(Fault("GET", "/a100", 503, count=1))
        scene.start(behind)
        await scene.until(
            "the next", lambda: scene.status["reason"] == "ShutDownByServer", hurry=True
        )
        assert scene.asked() == before
        assert scene.status["message"] == "enough"

    async def test_the_finalizer_is_there_before_the_manager_and_beside_others(
        self, scene: Scene
    ) -> None:
        scene.kube.objects[POOL]["metadata"]["finalizers"] = ["example.org/other"]
        scene.start()
        await scene.until("it is registered", lambda: scene.managers)
        finalizers = scene.kube.objects[POOL]["metadata"]["finalizers"]
        assert finalizers == ["example.org/other", FINALIZER]


class TestTheEnd:
    async def test_the_loop_ends_with_its_pool(self, scene: Scene) -> None:
        task = scene.start()
        await scene.until("a whole cycle", lambda: scene.status.get("lastCycleTime"))
        await scene.kube.remove(POOL)
        await scene.until("its end", task.done, hurry=True)

    async def test_another_pool_of_its_name_is_left_alone(self, scene: Scene) -> None:
        task = scene.start()
        await scene.until("a whole cycle", lambda: scene.status.get("lastCycleTime"))
        await scene.kube.remove(POOL)
        another = deepcopy(scene.pool)
        another["metadata"]["uid"] = str(uuid.uuid4())
        await scene.kube.put(POOL, another)
        await scene.until("its end", task.done, hurry=True)
        assert scene.status == {}

    async def test_a_pool_that_is_gone_before_it_began_registers_nothing(
        self, scene: Scene
    ) -> None:
        await scene.kube.remove(POOL)
        await asyncio.wait_for(scene.start(), 30)
        assert scene.asked("manager_register") == 0

    async def test_the_last_result_of_a_worker_that_died_has_time_to_be_stored(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Deregistered earlier, its Task would wait again and be computed a second time.
        monkeypatch.setattr(loop_module, "SETTLING_SPACING", 0.1)
        now = Settable()
        scene.start(clock=lambda: datetime.fromtimestamp(now(), UTC))
        await scene.until("a whole cycle", lambda: scene.status.get("lastCycleTime"))
        uid = scene.pool["metadata"]["uid"]
        sending = TerminationMessage(Outcome.PUSHING, "Task-1-a-b-c").to_json()
        job, pod = job_object(), ended_pod(137, sending)
        for thing, path in ((job, JOBS), (pod, PODS)):
            thing["metadata"]["labels"]["compute.alchemiscale.org/pool-uid"] = uid
            await scene.kube.put(f"{path}/{thing['metadata']['name']}", thing)
        service = str(service_id(JOB, POD_UID))
        with AdminClient(scene.server.admin_url) as admin:
            await asyncio.to_thread(scene.register_service, service)
            body = deepcopy(scene.kube.objects[POOL])
            body["metadata"]["deletionTimestamp"] = "2026-03-01T12:00:00Z"
            scene.pool = body
            await scene.until(
                "it is waited for",
                lambda: "last moment" in str(scene.status.get("message")),
                hurry=True,
            )
            assert [found.id for found in await asyncio.to_thread(admin.services)] == [service]
            now.now += 61
            await scene.until("its end", scene.tasks[0].done, hurry=True)
            assert await asyncio.to_thread(admin.services) == []
            assert await asyncio.to_thread(admin.managers) == []

    async def test_a_pool_without_our_finalizer_is_let_go_at_once(self, scene: Scene) -> None:
        body = deepcopy(scene.pool)
        body["metadata"] |= {"deletionTimestamp": "2026-03-01T12:00:00Z", "finalizers": ["other"]}
        await asyncio.wait_for(scene.start(body), 30)
        assert scene.kube.asked("PATCH", "/a100") == []


class TestUnreadable:
    """A spec that another version's CRD has admitted."""

    def with_spec(self, scene: Scene, **spec: Any) -> Body:
        body = scene.kube.objects[POOL]
        body["spec"] |= spec
        body["metadata"]["generation"] += 1
        return deepcopy(body)

    async def test_is_said_until_it_is_mended(
        self, scene: Scene, caplog: pytest.LogCaptureFixture
    ) -> None:
        scene.start(self.with_spec(scene, cycleInterval="soon"))
        await scene.until("a reason", lambda: scene.status.get("reason") == "SpecInvalid")
        assert "spec.cycleInterval" in scene.status["message"]
        assert scene.managers == []
        scene.loops[0].update(self.with_spec(scene, cycleInterval="10m"))
        await scene.until("it is well", lambda: scene.status["reason"] == "NoTasks")
        made = scene.status["computeManagerID"]
        scene.loops[0].update(self.with_spec(scene, cycleInterval="later"))
        await scene.until("a reason", lambda: scene.status["reason"] == "SpecInvalid")
        assert scene.status["computeManagerID"] == made
        assert "Traceback" not in caplog.text

    @pytest.mark.parametrize(
        ("spec", "restarted", "deregistered"),
        [
            ({"cycleInterval": "soon"}, True, 1),
            ({"computeAPI": {"url": 7}}, False, 1),
            ({"computeAPI": {"url": 7}}, True, 0),
        ],
    )
    async def test_does_not_keep_a_deleted_pool(
        self, scene: Scene, spec: Body, restarted: bool, deregistered: int
    ) -> None:
        task = scene.start()
        await scene.until("a whole cycle", lambda: scene.status.get("lastCycleTime"))
        body = self.with_spec(scene, **spec)
        body["metadata"]["deletionTimestamp"] = "2026-03-01T12:00:00Z"
        if restarted:
            task.cancel()
            task = scene.start(body)
        else:
            scene.loops[0].update(body)
        await scene.until("its end", task.done, hurry=False)
        assert scene.kube.objects[POOL]["metadata"]["finalizers"] == []
        assert scene.asked("manager_deregister") == deregistered
        told = [body["reason"] for body in scene.kube.named("events").values()]
        assert ("NotDeregistered" in told) is not bool(deregistered)


class TestTrouble:
    async def test_a_bug_is_shown_and_does_not_end_the_loop(
        self, scene: Scene, caplog: pytest.LogCaptureFixture
    ) -> None:
        bugs = ["a bug", "another"]

        def suffix() -> str:
            if bugs:
                raise RuntimeError(bugs.pop())
            return "fine"

        await scene.add_tasks(1)
        scene.start(new_suffix=suffix)
        await scene.until("a Job", lambda: "a100-fine" in scene.kube.named("jobs"), hurry=True)
        await scene.until("it is well", lambda: scene.status["reason"] != "InternalError")
        shown = [
            body["status"]
            for _, body in scene.kube.asked("PATCH", "/status")
            if body["status"]["reason"] == "InternalError"
        ]
        assert "RuntimeError" in shown[0]["message"]
        assert "a bug" not in shown[0]["message"]
        assert "RuntimeError: a bug" in caplog.text

    async def test_an_error_of_the_server_is_in_the_status(self, scene: Scene) -> None:
        scene.break_server("manager_instruction", FaultKind.STATUS, status=401)
        scene.start()
        await scene.until("a reason", lambda: scene.status.get("reason") == "CredentialsRefused")
        (ready,) = [c for c in scene.status["conditions"] if c["type"] == "Ready"]
        assert ready["status"] == "False"


class TestOneLook:
    async def test_a_spec_that_changes_during_a_cycle_is_the_next_one_s(self, scene: Scene) -> None:
        # Or the status would say that the new one has been seen, and what it changes be missed.
        scene.break_server("manager_instruction", FaultKind.LATENCY, seconds=0.3)
        await scene.add_tasks(1)
        scene.start()
        await scene.until("the server is asked", scene.asked)
        body = deepcopy(scene.kube.objects[POOL])
        body["metadata"]["generation"] = 2
        body["spec"]["suspend"] = True
        scene.loops[0].update(body)
        await scene.until("a cycle", lambda: scene.status.get("lastCycleTime"))
        assert scene.status["observedGeneration"] == 1
        (job,) = [thing for path, thing in scene.kube.objects.items() if path.startswith(JOBS)]
        assert job["metadata"]["annotations"][GENERATION_ANNOTATION] == "1"
        await scene.until("another", lambda: scene.status["observedGeneration"] == 2)
        assert scene.status["reason"] == "Suspended"

    async def test_an_end_whose_status_could_not_be_written_is_judged_again(
        self, scene: Scene
    ) -> None:
        scene.start()
        await scene.until("a whole cycle", lambda: scene.status.get("lastCycleTime"))
        scene.kube.faults.append(Fault("PATCH", "/status", 503, count=2))
        job = job_object(condition("Failed", True, NOON))
        job["metadata"]["labels"]["compute.alchemiscale.org/pool-uid"] = scene.pool["metadata"][
            "uid"
        ]
        await scene.kube.put(f"{JOBS}/{JOB}", job)
        await scene.until("it counts", lambda: scene.status["workers"]["failed"], hurry=True)
        assert scene.status["countedJobs"]["failed"] == [JOB]
        assert scene.status["workers"]["failed"] == 1


class TestWaking:
    async def test_changes_during_a_cycle_make_one_more_and_cycles_never_overlap(
        self, scene: Scene
    ) -> None:
        scene.start()
        await scene.until("a first cycle", lambda: scene.status.get("lastCycleTime"))
        scene.break_server("manager_instruction", FaultKind.LATENCY, seconds=0.2)
        before = scene.asked()
        for number in range(4):
            await scene.new_job(f"a100-{number}")
            await scene.kube.remove(f"{JOBS}/a100-{number}")
        await scene.until("a cycle", lambda: scene.asked() > before)
        await asyncio.sleep(0.8)
        assert scene.asked() - before <= 3

    async def test_a_changed_spec_starts_a_cycle_at_once(self, scene: Scene) -> None:
        scene.start()
        await scene.until("a first cycle", lambda: scene.status.get("lastCycleTime"))
        before = scene.asked()
        body = deepcopy(scene.kube.objects[POOL])
        body["metadata"]["generation"] += 1
        body["spec"]["suspend"] = True
        scene.loops[0].update(body)
        await scene.until("it is seen", lambda: scene.status["reason"] == "Suspended")
        assert scene.asked() > before

    async def test_thousands_of_events_cost_a_few_looks_at_the_workers(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        looks = 0
        workers = scene.cluster.workers

        def counting(uid: str) -> tuple[Worker, ...]:
            nonlocal looks
            looks += 1
            return workers(uid)

        monkeypatch.setattr(scene.cluster, "workers", counting)
        monkeypatch.setattr(loop_module, "LOOK_SPACING", 0.3)
        loop = scene.loop()
        for _ in range(5000):
            loop.workers_changed()
        assert looks == 1
        await scene.until("a last look", lambda: looks == 2)

    async def test_our_own_status_starts_none(self, scene: Scene) -> None:
        scene.start()
        await scene.until("a first cycle", lambda: scene.status.get("lastCycleTime"))
        before = scene.asked()
        for _ in range(3):
            scene.loops[0].update(deepcopy(scene.kube.objects[POOL]))
        await asyncio.sleep(0.3)
        assert scene.asked() == before


class TestPools:
    async def test_a_pool_is_served_only_while_leading(self, scene: Scene) -> None:
        pools = Pools()
        pools.observe(scene.pool)
        assert scene.status == {}
        pools.lead(Tools(scene.cluster))
        await scene.until("a whole cycle", lambda: scene.status.get("lastCycleTime"))
        await pools.stop()
        before = scene.asked()
        pools.observe(scene.pool)
        pools.workers_changed(scene.pool["metadata"]["uid"])
        await asyncio.sleep(0.1)
        assert scene.asked() == before

    async def test_a_pool_that_is_forgotten_is_served_no_more(self, scene: Scene) -> None:
        pools = Pools()
        pools.lead(Tools(scene.cluster))
        pools.observe(scene.pool)
        await scene.until("a whole cycle", lambda: scene.status.get("lastCycleTime"))
        pools.forget(scene.pool["metadata"]["uid"])
        assert pools.stuck() == []
        await pools.stop()

    async def test_a_cycle_that_does_not_end_is_named(self, scene: Scene) -> None:
        scene.break_server("manager_register", FaultKind.HANG, seconds=60)
        pools = Pools()
        pools.lead(Tools(scene.cluster, monotonic=scene.clock))
        pools.observe(scene.pool)
        await scene.until("it hangs", lambda: scene.asked("manager_register"))
        assert pools.stuck() == []
        scene.clock.now += 601
        assert pools.stuck() == [f"{NAMESPACE}/a100"]
        await pools.stop()


def test_suffixes_of_jobs_differ_and_fit_kubernetes() -> None:
    made = {loop_module.new_suffix() for _ in range(1000)}
    assert len(made) == 1000
    assert all(re.fullmatch("[a-z0-9]{8}", suffix) for suffix in made)
