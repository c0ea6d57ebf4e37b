"""The Kubernetes side of the pools: every object that the operator reads or writes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from computepool_api.ids import ComputeServiceID

from .clock import utc_now
from .inquiry import Inquiry
from .kubeapi import (
    MERGE_PATCH,
    SHORT_TIMEOUT,
    AlreadyExists,
    Conflict,
    KubeAPI,
    KubernetesError,
    NotFound,
    NotLeading,
    Refused,
    Unavailable,
)
from .manager import BackendRefused, BackendUnavailable, ComputeServiceBackend
from .names import (
    JOB_UID_LABEL,
    OPERATOR,
    POOL_LABEL,
    POOL_UID_LABEL,
    SELECTOR,
    PoolReference,
    job_name,
    pool_selector,
)
from .orders import Orders
from .pool import GROUP, KIND, PLURAL, VERSION
from .reading import departed, has_ended, has_finished, service_of
from .reflector import Reflector
from .roster import Roster
from .workers import Departed, Worker, WorkerState

logger = logging.getLogger(__name__)

FINALIZER = f"{GROUP}/deregister"
FIELD_MANAGER = OPERATOR

CREATION_SETTLES = timedelta(seconds=60)
"""After this long a Job whose creation got no answer exists, or never will: the API server gives up
a request after a minute. Until then it counts as one."""

EVENT_BYTES = 1024
"""How long the message of an event may be; the API server counts bytes."""

DEPARTED_KEPT = timedelta(hours=1)
"""How long a pod that is gone is remembered; services outlive their pods by minutes at most."""


def pool_path(namespace: str, name: str = "", subresource: str = "") -> str:
    """Path of a pool, of its subresource, or of the pools of a namespace."""
    parts = ["/apis", GROUP, VERSION, "namespaces", namespace, PLURAL, name, subresource]
    return "/".join(part for part in parts if part)


def _collection(group: str, namespace: str | None, plural: str) -> str:
    return f"{group}/{plural}" if namespace is None else f"{group}/namespaces/{namespace}/{plural}"


class Cluster:
    """What all pools share: the connection and the mirrored Jobs and pods."""

    def __init__(
        self,
        api: KubeAPI,
        *,
        namespaces: Sequence[str],
        identity: str,
        on_change: Callable[[str], None],
        leads: Callable[[], bool] = lambda: True,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """Prepare the mirrors; `run` starts them.

        Args:
            api: the connection.
            namespaces: those whose pools are served; none for all.
            identity: name of this operator instance, for events.
            on_change: called with a pool's UID when one of its Jobs or pods has changed.
            leads: whether this instance may write, asked before each write.
            clock: the present, in UTC.

        """
        self._api = api
        self._leads = leads
        self._identity = identity
        self._scopes: Sequence[str | None] = list(namespaces) or [None]
        self._clock = clock
        self._departed: dict[str, dict[ComputeServiceID, Departed]] = {}
        self._rosters: defaultdict[str, Roster] = defaultdict(Roster)
        self._jobs, self._pods = (
            [
                Reflector(
                    api,
                    _collection(group, namespace, plural),
                    selector=SELECTOR,
                    group_label=POOL_UID_LABEL,
                    on_change=on_change,
                    on_gone=on_gone,
                )
                for namespace in self._scopes
            ]
            for group, plural, on_gone in (
                ("/apis/batch/v1", "jobs", lambda _job: None),
                ("/api/v1", "pods", self._pod_gone),
            )
        )

    async def run(self) -> None:
        """Keep the mirrors until cancelled."""
        async with asyncio.TaskGroup() as group:
            for reflector in (*self._jobs, *self._pods):
                group.create_task(reflector.run())

    async def synced(self) -> None:
        """Wait until every mirror has had its first list."""
        for reflector in (*self._jobs, *self._pods):
            await reflector.synced.wait()

    async def look_up_jobs(self, pool: PoolReference) -> None:
        """Ask for the Jobs of a pool, and add those that the mirror does not have yet.

        Another operator may have created them a moment ago. Raises KubernetesError.
        """
        path = f"/apis/batch/v1/namespaces/{pool.namespace}/jobs"
        query = {"labelSelector": pool_selector(pool.uid)}
        async for page in self._api.pages(path, query=query):
            for job in page.get("items") or ():
                self.saw_job(job)

    @property
    def fresh(self) -> bool:
        """Whether all mirrors may be relied on."""
        return all(reflector.fresh for reflector in (*self._jobs, *self._pods))

    def workers(self, pool_uid: str) -> tuple[Worker, ...]:
        """The workers of a pool, as mirrored."""
        jobs = [job for mirror in self._jobs for job in mirror.group(pool_uid)]
        pods = [pod for mirror in self._pods for pod in mirror.group(pool_uid)]
        if not jobs:
            self._rosters.pop(pool_uid, None)
            return ()
        return self._rosters[pool_uid].workers(jobs, pods)

    def departed(self, pool_uid: str) -> tuple[Departed, ...]:
        """The pool's pods that went of late, and those that have ended without a Job."""
        ended = (departed(pod) for pod in self._orphans(pool_uid) if has_ended(pod))
        return (
            *self._departed.get(pool_uid, {}).values(),
            *(gone for gone in ended if gone is not None),
        )

    def _pod_gone(self, pod: dict[str, Any]) -> None:
        now = self._clock()
        gone = departed(pod, now)
        if gone is not None:
            of_pool = self._departed.setdefault(pod["metadata"]["labels"][POOL_UID_LABEL], {})
            of_pool[gone.service_id] = gone
        # Of all pools: those of a pool that is gone would otherwise stay for ever.
        self._departed = {
            uid: kept
            for uid, gone_of in self._departed.items()
            if (kept := {g.service_id: g for g in gone_of.values() if now - g.at <= DEPARTED_KEPT})
        }

    def forget(self, pool_uid: str) -> None:
        """Let go of what is remembered of a pool that is gone."""
        self._departed.pop(pool_uid, None)
        self._rosters.pop(pool_uid, None)

    def orphaned_pods(self, pool_uid: str) -> list[str]:
        """Names of unfinished pods of a pool whose Job is gone."""
        orphans = self._orphans(pool_uid)
        return [pod["metadata"]["name"] for pod in orphans if not has_finished(pod)]

    def orphaned_services(self, pool: PoolReference) -> tuple[ComputeServiceID, ...]:
        """The services that are at work in those pods, and in those of a former pool of its name.

        The server may list the latter under this pool's manager, once that has taken its name over.
        """
        pods = [*self._orphans(pool.uid), *self._pods_of_namesakes(pool)]
        found = (service_of(pod) for pod in pods if not has_ended(pod))
        return tuple(service for service in found if service is not None)

    def _orphans(self, pool_uid: str) -> list[dict[str, Any]]:
        jobs = {job["metadata"]["uid"] for mirror in self._jobs for job in mirror.group(pool_uid)}
        return [
            pod
            for mirror in self._pods
            for pod in mirror.group(pool_uid)
            if pod["metadata"]["labels"].get(JOB_UID_LABEL) not in jobs
        ]

    def _pods_of_namesakes(self, pool: PoolReference) -> list[dict[str, Any]]:
        return [
            pod
            for mirror in self._pods
            for pod in mirror.everything()
            if pod["metadata"]["labels"].get(POOL_LABEL) == pool.name
            and pod["metadata"]["namespace"] == pool.namespace
            and pod["metadata"]["labels"].get(POOL_UID_LABEL) != pool.uid
        ]

    def saw_job(self, job: dict[str, Any]) -> None:
        """Take a Job that a write has answered with into the mirror."""
        namespace = job["metadata"]["namespace"]
        path = _collection("/apis/batch/v1", namespace, "jobs")
        mirror = next((m for m in self._jobs if m.path == path), self._jobs[0])
        mirror.put(job)

    async def read(self, path: str) -> dict[str, Any]:
        """One object. Raises KubernetesError."""
        return await self._api.request("GET", path)

    async def write(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        """Make a request that changes something, unless another may lead by now.

        Takes what `KubeAPI.request` takes. Raises NotLeading, or another KubernetesError.
        """
        if not self._leads():
            raise NotLeading(f"{method} {path}")
        return await self._api.request(method, path, **request)

    def everything(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The Jobs and pods of all pools, as mirrored, whether the pools exist or not."""
        jobs = [job for mirror in self._jobs for job in mirror.everything()]
        return jobs, [pod for mirror in self._pods for pod in mirror.everything()]

    async def pool_uids(self) -> frozenset[str]:
        """UIDs of all pools that exist in the namespaces served, deleted ones that wait included.

        The API server is asked; the answer is no older than the question. Raises KubernetesError
        when there is no whole answer.
        """
        found: set[str] = set()
        for namespace in self._scopes:
            path = _collection(f"/apis/{GROUP}/{VERSION}", namespace, PLURAL)
            async for page in self._api.pages(path):
                found |= {pool["metadata"]["uid"] for pool in page.get("items") or ()}
        return frozenset(found)

    async def delete_job(self, namespace: str, name: str, *, uid: str, propagation: str) -> None:
        """Delete the very Job with that UID (any, if it is empty); one that is gone is as well.

        Raises KubernetesError when that is not known to be done.
        """
        path = f"/apis/batch/v1/namespaces/{namespace}/jobs/{name}"
        body: dict[str, Any] = {"propagationPolicy": propagation}
        if uid:
            body["preconditions"] = {"uid": uid}
        with contextlib.suppress(NotFound, Conflict):
            await self.write("DELETE", path, body=body)

    async def read_pool(self, pool: PoolReference) -> dict[str, Any] | None:
        """The pool's object as it is now; None when it is gone or another has its name."""
        try:
            body = await self.read(pool_path(pool.namespace, pool.name))
        except NotFound:
            return None
        return body if body["metadata"]["uid"] == pool.uid else None

    async def read_secret(self, namespace: str, name: str) -> dict[str, Any]:
        """A Secret. Raises NotFound, Refused or Unavailable."""
        return await self.read(f"/api/v1/namespaces/{namespace}/secrets/{name}")

    async def read_config_map(self, namespace: str, name: str) -> dict[str, Any]:
        """A ConfigMap. Raises NotFound, Refused or Unavailable."""
        return await self.read(f"/api/v1/namespaces/{namespace}/configmaps/{name}")

    async def patch_status(self, pool: PoolReference, status: dict[str, Any]) -> bool:
        """Write the pool's status; null removes a field. False if there is no such pool any more.

        Raises KubernetesError when it is not written.
        """
        try:
            await self.write(
                "PATCH",
                pool_path(pool.namespace, pool.name, "status"),
                query={"fieldManager": FIELD_MANAGER},
                body={"metadata": {"uid": pool.uid}, "status": status},
                content_type=MERGE_PATCH,
            )
        except NotFound:
            return False
        except Conflict:
            # Another pool of that name, by its UID; or else somebody wrote at the same time.
            if await self.read_pool(pool) is not None:
                raise
            return False
        return True

    async def set_finalizer(self, pool: PoolReference, *, present: bool) -> None:
        """Add or remove our finalizer, and no other's. A pool that is gone is left alone."""
        while True:
            body = await self.read_pool(pool)
            if body is None:
                return
            metadata = body["metadata"]
            finalizers: list[str] = metadata.get("finalizers") or []
            if (FINALIZER in finalizers) is present:
                return
            others = [name for name in finalizers if name != FINALIZER]
            patch = {
                "metadata": {
                    "finalizers": [*others, FINALIZER] if present else others,
                    "resourceVersion": metadata["resourceVersion"],
                }
            }
            try:
                await self.write(
                    "PATCH",
                    pool_path(pool.namespace, pool.name),
                    query={"fieldManager": FIELD_MANAGER},
                    body=patch,
                    content_type=MERGE_PATCH,
                )
            except Conflict:
                continue
            except NotFound:
                return
            return

    async def events_about(self, namespace: str, uid: str) -> list[dict[str, Any]]:
        """The warnings about one object, in no order. Raises KubernetesError."""
        answer = await self._api.request(
            "GET",
            f"/api/v1/namespaces/{namespace}/events",
            query={"fieldSelector": f"involvedObject.uid={uid},type=Warning"},
            timeout=SHORT_TIMEOUT,
        )
        return answer.get("items") or []

    async def post_event(
        self, pool: PoolReference, *, warning: bool, reason: str, message: str, now: datetime
    ) -> None:
        """Post an event about a pool. Losing one is logged and costs nothing else."""
        time = now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{pool.name}.", "namespace": pool.namespace},
            "involvedObject": {
                "apiVersion": f"{GROUP}/{VERSION}",
                "kind": KIND,
                "namespace": pool.namespace,
                "name": pool.name,
                "uid": pool.uid,
            },
            "type": "Warning" if warning else "Normal",
            "reason": reason,
            "message": message.encode(errors="replace")[:EVENT_BYTES].decode(errors="ignore"),
            "action": "Reconcile",
            "eventTime": time,
            "firstTimestamp": time[:19] + "Z",
            "lastTimestamp": time[:19] + "Z",
            "count": 1,
            "reportingComponent": OPERATOR,
            "reportingInstance": self._identity,
            "source": {"component": OPERATOR},
        }
        try:
            await self.write("POST", f"/api/v1/namespaces/{pool.namespace}/events", body=body)
        except KubernetesError as error:
            logger.warning("event lost", extra={"pool": pool.name, "error": str(error)})


class JobBackend(ComputeServiceBackend):
    """Creates compute services as Jobs of one pool."""

    def __init__(
        self,
        cluster: Cluster,
        pool: PoolReference,
        *,
        clock: Callable[[], datetime],
        new_suffix: Callable[[], str],
    ) -> None:
        """Serve one pool. `manifest`, which builds the Job of a name, is to be set to create any.

        Args:
            cluster: the mirrors and the connection.
            pool: whose Jobs these are.
            clock: the present, in UTC.
            new_suffix: makes what tells a Job's name from those of the pool's other Jobs.

        """
        self.manifest: Callable[[str, Orders], dict[str, Any]] | None = None
        self._pool = pool
        self._cluster = cluster
        self._clock = clock
        self._new_suffix = new_suffix
        self._unsure: dict[str, datetime] = {}
        self._looked_up = False
        self._inquiry = Inquiry(lambda uid: cluster.events_about(pool.namespace, uid))

    async def workers(self) -> tuple[Worker, ...]:
        """See the base class. Jobs whose creation got no answer count as pending workers.

        Why workers do not start is asked for where Jobs and pods do not tell.
        """
        if not self._cluster.fresh:
            raise BackendUnavailable(
                "The Kubernetes API has not been heard of for minutes (or not yet): what Jobs "
                "exist is not known, so nothing is done. Check the operator's log and its RBAC."
            )
        if not self._looked_up:
            # Whoever led before, be it ourselves, may have created what our watch is late with.
            try:
                await self._cluster.look_up_jobs(self._pool)
            except KubernetesError as error:
                raise BackendUnavailable(str(error)) from error
            self._looked_up = True
        seen = self._cluster.workers(self._pool.uid)
        for worker in seen:
            self._unsure.pop(worker.name, None)
        await self._settle()
        seen = self._cluster.workers(self._pool.uid)
        waiting = (
            Worker(
                name=name,
                uid="",
                state=WorkerState.PENDING,
                created_at=since,
                trouble="the Kubernetes API did not answer its creation",
            )
            for name, since in self._unsure.items()
        )
        return (*await self._inquiry.explained(seen, self._clock()), *waiting)

    def departed(self) -> tuple[Departed, ...]:
        """See the base class."""
        return self._cluster.departed(self._pool.uid)

    def orphans(self) -> tuple[ComputeServiceID, ...]:
        """See the base class."""
        return self._cluster.orphaned_services(self._pool)

    async def create(self, number: int, orders: Orders) -> int:
        """See the base class. A Job has a name of its own, so that a repeat meets the first."""
        if self.manifest is None:
            raise BackendUnavailable("What a Job of the pool looks like is not known yet.")
        for created in range(number):
            name = job_name(self._pool.name, self._new_suffix())
            try:
                await self._create(self.manifest(name, orders))
            except (Refused, NotFound) as error:
                raise BackendRefused(
                    f"Kubernetes refuses the pool's Jobs ({created} of {number} created): "
                    f"{error.message}",
                    created,
                ) from error
            except Unavailable as error:
                if error.status != 429:  # which is answered before anything is done
                    self._unsure[name] = self._clock()
                raise BackendUnavailable(str(error), created) from error
            except KubernetesError as error:
                raise BackendUnavailable(str(error), created) from error
        return number

    async def remove(self, worker: Worker) -> None:
        """See the base class. Only the very Job that was seen is deleted, by its UID."""
        # In the foreground, the Job stays until its pod has ended, and with it what we know.
        policy = "Background" if worker.finished else "Foreground"
        try:
            await self._cluster.delete_job(
                self._pool.namespace, worker.name, uid=worker.uid, propagation=policy
            )
        except KubernetesError as error:
            raise BackendUnavailable(str(error)) from error

    async def _create(self, manifest: dict[str, Any]) -> None:
        namespace = self._pool.namespace
        path = f"/apis/batch/v1/namespaces/{namespace}/jobs"
        try:
            job = await self._cluster.write(
                "POST", path, query={"fieldManager": FIELD_MANAGER}, body=manifest
            )
        except AlreadyExists:
            job = await self._cluster.read(f"{path}/{manifest['metadata']['name']}")
        self._cluster.saw_job(job)
        logger.info(
            "job created",
            extra={"pool": self._pool.name, "namespace": namespace, "job": job["metadata"]["name"]},
        )

    async def _settle(self) -> None:
        """Find out whether Jobs exist whose creation got no answer."""
        for name, since in list(self._unsure.items()):
            path = f"/apis/batch/v1/namespaces/{self._pool.namespace}/jobs/{name}"
            try:
                self._cluster.saw_job(await self._cluster.read(path))
            except NotFound:
                if self._clock() < since + CREATION_SETTLES:
                    continue
                logger.info("job was not created", extra={"pool": self._pool.name, "job": name})
            except KubernetesError as error:
                raise BackendUnavailable(str(error)) from error
            del self._unsure[name]
