"""One test's part of the cluster: a namespace with credentials, a server, a kubelet, its pools.

Everything is watched: conditions are looked at again whenever something in the namespace changes,
and afterwards the whole history can be asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from cluster.operator.kube import Body, Kube, Refused, Watch
from cluster.operator.kubelet import Kubelet

from computepool_api.credentials import Credentials
from computepool_api.ids import ComputeManagerID, ComputeServiceID, to_alchemiscale_name
from computepool_api.scope import Scope
from computepool_api.service_client import ComputeServiceClient
from computepool_api.transport import ComputeAPI
from computepool_operator.names import JOB_NAME_LABEL, JOB_UID_LABEL, POOL_LABEL, service_id
from computepool_operator.pool import GROUP, KIND, VERSION
from simulator.client import AdminClient
from testcluster.cluster import Cluster

SECRET = "alchemiscale-compute"
IDENTIFIER, KEY = "compute-identity", "compute-key"
WATCHED = ("computepools", "jobs", "pods", "events")
PATIENCE = 45.0
"""Seconds: more than anything takes on a machine that has other things to do as well."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Change:
    """One event of a watch: `ADDED`, `MODIFIED` or `DELETED`, seen at `at` (monotonic seconds)."""

    at: float
    kind: str
    type: str
    thing: Body

    @property
    def name(self) -> str:
        """Name of the object."""
        return str(self.thing["metadata"]["name"])

    @property
    def revision(self) -> int:
        """The place of the change in the one history of the API server."""
        return int(self.thing["metadata"]["resourceVersion"])


class World:
    """What a test acts on and looks at."""

    def __init__(self, cluster: Cluster, namespace: str, url: str, admin: AdminClient) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.url = url
        self.admin = admin
        self.kube = Kube(cluster.kubeconfig, namespace)
        self.kubelet = Kubelet(self.kube)
        self.obedient = True
        """Whether pods that are deleted end at once, as workers do on SIGTERM."""
        self._changes: list[Change] = []
        self._present: dict[str, dict[str, Body]] = {kind: {} for kind in WATCHED}
        self._news = threading.Condition()
        self._watches: list[Watch] = []
        self._readers: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self.kubelet.join()
        self.create_secret()
        for kind in WATCHED:
            watch = self.kube.watch(kind)
            reader = threading.Thread(target=self._read, args=(kind, watch), daemon=True)
            self._watches.append(watch)
            self._readers.append(reader)
            reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._present["computepools"]):
            with contextlib.suppress(Refused):
                self.kube.delete("computepools", name)
                self.kube.patch("computepools", name, {"metadata": {"finalizers": None}})
        for name in list(self._present["pods"]):
            with contextlib.suppress(Refused):
                self.kubelet.vanish(name)
        for watch in self._watches:
            watch.stop()
        for reader in self._readers:
            reader.join(10)
        self.kubelet.leave()
        self.kube.close()

    # what a person does

    def create_secret(self, *, identifier: str = IDENTIFIER, key: str = KEY) -> None:
        """Create the Secret with an identity's credentials."""
        body = {"metadata": {"name": SECRET}, "stringData": {"identifier": identifier, "key": key}}
        self.kube.create("secrets", body)

    def manifest(self, name: str = "a100", **spec: Any) -> Body:
        """A pool as a person would write it, with quick cycles."""
        return {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": KIND,
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "computeAPI": {"url": self.url, "credentialsSecretRef": {"name": SECRET}},
                "cycleInterval": "1s",
                "maxComputeServices": 2,
                "deletionPolicy": "Stop",
                "worker": {"image": "registry.example.org/worker:v1"},
                **spec,
            },
        }

    def create_pool(self, name: str = "a100", **spec: Any) -> Body:
        """Create a pool with these fields of its spec."""
        return self.kube.create("computepools", self.manifest(name, **spec))

    def change_pool(self, name: str = "a100", **spec: Any) -> None:
        """Change fields of a pool's spec."""
        self.kube.patch("computepools", name, {"spec": spec})

    def annotate(self, value: str, name: str = "a100") -> None:
        """Resume a pool by its annotation."""
        body = {"metadata": {"annotations": {f"{GROUP}/resume": value}}}
        self.kube.patch("computepools", name, body)

    def delete_pool(self, name: str = "a100") -> None:
        """Begin to delete a pool."""
        self.kube.delete("computepools", name)

    # what a worker does

    def register(self, pod: str) -> str:
        """Register the service of a pod, as its worker does; return its id."""
        return asyncio.run(self._register(pod, claim=False))[0]

    def claim(self, pod: str) -> tuple[str, str]:
        """Let a pod's worker start, register, claim a Task and say so; its id and the Task."""
        self.kubelet.start(pod)
        service, tasks = asyncio.run(self._register(pod, claim=True))
        self.kubelet.turn_ready(pod)
        return service, tasks[0]

    def deregister(self, service: str) -> None:
        """Deregister a service, as its worker does in the end."""

        async def go() -> None:
            async with self._api() as api:
                await ComputeServiceClient(api).deregister(ComputeServiceID.parse(service))

        asyncio.run(go())

    async def _register(self, pod: str, *, claim: bool) -> tuple[str, tuple[str, ...]]:
        body = self._present["pods"][pod]
        labels = body["metadata"]["labels"]
        service = service_id(labels[JOB_NAME_LABEL], body["metadata"]["uid"])
        manager = ComputeManagerID.parse(self.status(labels[POOL_LABEL])["computeManagerID"])
        async with self._api() as api:
            client = ComputeServiceClient(api)
            await client.register(service, manager)
            if not claim:
                return str(service), ()
            scopes = [Scope.parse("*-*-*")]
            found = await client.claim(
                service, scopes=scopes, scopes_exclude=[], protocols=[], count=1
            )
        assert found.tasks, f"there was nothing to claim: {self.admin.counts()}"
        return str(service), found.tasks

    def _api(self) -> ComputeAPI:
        return ComputeAPI(self.url, lambda: Credentials(IDENTIFIER, KEY))

    # what there is

    def pool(self, name: str = "a100") -> Body:
        """A pool as last seen; {} if there is none."""
        return self._present["computepools"].get(name, {})

    def status(self, name: str = "a100") -> Body:
        """A pool's status; {} if there is none yet."""
        found: Body = self.pool(name).get("status") or {}
        return found

    def reason(self, name: str = "a100") -> str:
        """The one reason of a pool."""
        return str(self.status(name).get("reason", ""))

    def condition(self, kind: str, name: str = "a100") -> Body:
        """A condition of a pool; {} if there is none yet."""
        conditions = self.status(name).get("conditions") or ()
        return next((c for c in conditions if c["type"] == kind), {})

    def jobs(self, pool: str = "a100") -> list[Body]:
        """A pool's Jobs, oldest first."""
        return self._of("jobs", pool)

    def pods(self, pool: str = "a100") -> list[str]:
        """Names of a pool's pods that have not ended, oldest first."""
        return [
            pod["metadata"]["name"]
            for pod in self._of("pods", pool)
            if not ended(pod) and "deletionTimestamp" not in pod["metadata"]
        ]

    def pod(self, name: str) -> Body | None:
        """A pod as last seen."""
        return self._present["pods"].get(name)

    def events(self, reason: str, name: str = "a100") -> list[Body]:
        """Events about a pool, of one reason."""
        return [
            event
            for event in self._present["events"].values()
            if event["involvedObject"]["name"] == name and event["reason"] == reason
        ]

    def waiting(self) -> int:
        """How many Tasks wait on the server."""
        return self.admin.counts().get("waiting", 0)

    def _of(self, kind: str, pool: str) -> list[Body]:
        with self._news:
            things = list(self._present[kind].values())
        return [t for t in things if t["metadata"].get("labels", {}).get(POOL_LABEL) == pool]

    # waiting

    def until(self, what: str, holds: Callable[[], T], seconds: float = PATIENCE) -> T:
        """Wait until something holds, and return it; look again at every change and every 50 ms.

        The server has no watch, hence the 50 ms.
        """
        deadline = time.monotonic() + seconds
        while True:
            if found := holds():
                return found
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds} s: {what}\n{self.describe()}")
            with self._news:
                self._news.wait(0.05)

    def cycles(self, number: int, pool: str = "a100", seconds: float = PATIENCE) -> None:
        """Wait until the operator has asked the server so many times more about a pool."""
        manager = self.status(pool)["computeManagerID"]
        last = self.admin.audit()[-1].sequence

        def asked() -> bool:
            found = self.admin.audit(last, endpoint="manager_instruction")
            return len([entry for entry in found if entry.ids["manager"] == manager]) > number

        self.until(f"{number} cycles", asked, seconds)

    def ready_for(self, reason: str, name: str = "a100", seconds: float = PATIENCE) -> Body:
        """Wait until a pool has a reason; return its condition Ready."""
        self.until(f"{name}: {reason}", lambda: self.reason(name) == reason, seconds)
        return self.condition("Ready", name)

    def new_pods(self, number: int, pool: str = "a100", seconds: float = PATIENCE) -> list[str]:
        """Wait until a pool has so many unfinished pods; return their names."""
        self.until(f"{number} pods", lambda: len(self.pods(pool)) == number, seconds)
        return self.pods(pool)

    def new_jobs(self, number: int, seconds: float = PATIENCE) -> list[Change]:
        """Wait until so many Jobs have been created in all; return their creations."""
        self.until(f"{number} Jobs in all", lambda: len(self.created()) == number, seconds)
        return self.created()

    def gone(self, pod: str, seconds: float = PATIENCE) -> None:
        """Wait until a pod is seen to have ended or to be going."""
        self.until(f"the end of {pod}", lambda: pod not in self.pods(), seconds)

    def workers(self, pool: str = "a100", seconds: float = PATIENCE, **numbers: int) -> None:
        """Wait until a pool's status counts so many workers of the kinds that are named."""

        def agrees() -> bool:
            found = self.status(pool).get("workers") or {}
            return all(found.get(kind) == number for kind, number in numbers.items())

        self.until(f"workers {numbers}", agrees, seconds)

    def describe(self) -> str:
        """The state of things, for a failed test."""
        lines = [f"{name}: {self.status(name)}" for name in self._present["computepools"]]
        for kind in ("jobs", "pods"):
            things = self._present[kind].values()
            lines += [f"{kind}: {_name(t)} {t.get('status')}" for t in things]
        lines.append(f"Tasks: {self.admin.counts()}")
        lines += [f"service: {service}" for service in self.admin.services()]
        lines += [f"manager: {manager}" for manager in self.admin.managers()]
        return "\n".join(lines)

    # history

    @property
    def changes(self) -> list[Change]:
        """All that has been seen, in the order in which it happened."""
        with self._news:
            seen = list(self._changes)
        return sorted(seen, key=lambda change: change.revision)

    def created(self, kind: str = "jobs") -> list[Change]:
        """What has been created, oldest first."""
        return [c for c in self.changes if c.kind == kind and c.type == "ADDED"]

    def most_active(self, pool: str = "a100") -> int:
        """How many unfinished Jobs of a pool there were at once, at most."""
        active: set[str] = set()
        over: set[str] = set()
        most = 0
        for change in self.changes:
            metadata = change.thing["metadata"]
            labels = metadata.get("labels") or {}
            if labels.get(POOL_LABEL) != pool or change.kind not in ("jobs", "pods"):
                continue
            job = metadata["uid"] if change.kind == "jobs" else labels[JOB_UID_LABEL]
            if ended(change.thing) or (change.kind == "jobs" and change.type == "DELETED"):
                over.add(job)
            active = (active | {job}) - over
            most = max(most, len(active))
        return most

    def _read(self, kind: str, watch: Watch) -> None:
        for type_, thing in watch:
            change = Change(time.monotonic(), kind, type_, thing)
            with self._news:
                if change.type == "DELETED":
                    self._present[kind].pop(change.name, None)
                else:
                    self._present[kind][change.name] = thing
                self._changes.append(change)
                self._news.notify_all()
            deleted = "deletionTimestamp" in thing["metadata"] and change.type == "MODIFIED"
            if kind == "pods" and deleted and self.obedient:
                with contextlib.suppress(Refused):
                    self.kubelet.obey(change.name)


def ended(thing: Body) -> bool:
    """Whether a pod or a Job has ended."""
    status = thing.get("status") or {}
    if status.get("phase") in ("Succeeded", "Failed"):
        return True
    conditions = status.get("conditions") or ()
    return any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)


def manager_name(namespace: str, pool: str = "a100") -> str:
    """The name of a pool's manager on the server."""
    return to_alchemiscale_name(f"{namespace}.{pool}")


def _name(thing: Body) -> str:
    return str(thing["metadata"]["name"])
