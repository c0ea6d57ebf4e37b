"""Where kopf and the operator meet, and the only module that imports kopf.

kopf watches the pools and runs the process; what it sees is handed to `Pools`. Its daemons are not
used: kopf drops its finalizer from a pool that is being deleted while the operator restarts, and
the pool would go without its workers and its manager (docs/decisions/0002-loops-of-our-own.md).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import kopf

from .cluster import Cluster
from .health import HealthServer
from .kubeapi import KubeAPI, KubernetesError, NotFound, service_account
from .leader import Leadership
from .loop import Tools
from .options import Options
from .pool import GROUP, PLURAL, VERSION
from .pools import Pools

logger = logging.getLogger(__name__)

DEFINITION_RETRY = 5.0
"""Seconds between looks for the CRD."""

POOLS_SILENCE = 90.0
"""Seconds without an event or a bookmark after which the watch of pools is taken for dead; the API
server sends a bookmark about once a minute."""

FIRST_RETRY, LONGEST_RETRY = 1.0, 30.0


class Retries:
    """Seconds between kopf's tries of one request: without an end, or else kopf and we would."""

    def __iter__(self) -> Iterator[float]:
        """Begin anew."""
        delay = FIRST_RETRY
        while True:
            yield delay
            delay = min(2 * delay, LONGEST_RETRY)


class Operator:
    """One instance of the operator: its connections, mirrors and pools."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._pools = Pools()
        self._tasks: list[asyncio.Task[None]] = []
        self._api: KubeAPI | None = None
        self._health: HealthServer | None = None
        self._leadership: Leadership | None = None
        self._stop = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Serve pools, or stand by, until `stop` is set."""
        self._stop = stop
        await kopf.operator(
            registry=self._registry(),
            clusterwide=not self._options.namespaces,
            namespaces=self._options.namespaces,
            standalone=True,
            stop_flag=stop,
        )

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        kopf.on.startup(registry=registry)(self._start)
        kopf.on.cleanup(registry=registry)(self._cleanup)
        kopf.on.login(registry=registry)(_login)
        kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)(self._pool_seen)
        return registry

    async def _start(self, settings: kopf.OperatorSettings, **_: Any) -> None:
        # A silent watch is a dead one.
        settings.watching.inactivity_timeout = POOLS_SILENCE
        settings.watching.server_timeout = 300
        settings.watching.client_timeout = 330
        settings.watching.connect_timeout = 10
        settings.networking.request_timeout = 30
        settings.networking.error_backoffs = Retries()
        settings.posting.enabled = False
        # What kopf sees is only taken note of, so there is nothing to finish before another leads.
        settings.queueing.exit_timeout = 0.1
        # What the CRD looks like is known; watching definitions would need more permissions.
        settings.scanning.disabled = True
        self._api = await KubeAPI.connect()
        cluster = Cluster(
            self._api,
            namespaces=self._options.namespaces,
            identity=self._options.identity,
            on_change=self._pools.workers_changed,
            leads=lambda: self._leadership is None or self._leadership.held,
        )
        if self._options.health_port:
            self._health = HealthServer(
                self._options.health_port,
                stuck=self._pools.stuck,
                ready=lambda: cluster.fresh,
            )
            await self._health.start()
        await self._definition_exists(self._api)
        self._spawn(cluster.run(), "mirrors of Jobs and pods")
        self._spawn(self._serve(self._api, cluster), "serving pools")

    async def _definition_exists(self, api: KubeAPI) -> None:
        """Wait until pools are a known kind: kopf looks only once, when it starts."""
        while True:
            try:
                await api.request("GET", f"/apis/{GROUP}/{VERSION}")
            except NotFound:
                logger.warning(
                    "there is no CRD for pools yet: apply crds/",
                    extra={"resource": f"{PLURAL}.{GROUP}", "retry_seconds": DEFINITION_RETRY},
                )
            except KubernetesError as error:
                logger.warning("the Kubernetes API can't be asked", extra={"error": str(error)})
            else:
                return
            await asyncio.sleep(DEFINITION_RETRY)

    async def _serve(self, api: KubeAPI, cluster: Cluster) -> None:
        async def begin() -> None:
            self._pools.lead(Tools(cluster=cluster))
            logger.info("serving pools")

        # Who can't see the Jobs must not keep others from leading.
        await cluster.synced()
        if not self._options.lease_namespace:
            await begin()
            return
        self._leadership = Leadership(
            api,
            name=self._options.lease_name,
            namespace=self._options.lease_namespace,
            identity=self._options.identity,
        )
        while True:
            await self._leadership.lead(begin)
            await self._pools.stop()

    async def _cleanup(self, **_: Any) -> None:
        # kopf catches signals itself and then waits 5 s for a task of its own that waits for this.
        self._stop.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._pools.stop()
        if self._leadership is not None:
            await self._leadership.give_back()
        if self._health is not None:
            await self._health.stop()
        if self._api is not None:
            await self._api.close()

    async def _pool_seen(self, type: str | None, body: kopf.Body, **_: Any) -> None:  # noqa: A002
        if type == "DELETED":
            self._pools.forget(body["metadata"]["uid"])
        else:
            self._pools.observe(_plain(body))

    def _spawn(self, coroutine: Any, name: str) -> None:
        task = asyncio.create_task(coroutine, name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("task failed", extra={"task": task.get_name()}, exc_info=error)
            self._stop.set()


def _login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    """How kopf reaches the API server: in a cluster by address, as DNS need not work for that."""
    if in_cluster := service_account():
        return kopf.ConnectionInfo(
            server=in_cluster.server, ca_path=in_cluster.ca_path, token=in_cluster.token
        )
    return kopf.login_with_kubeconfig(**kwargs)


def _plain(body: kopf.Body) -> dict[str, Any]:
    """A plain copy of kopf's view of an object."""

    def copy(value: Any) -> Any:
        if hasattr(value, "items"):
            return {key: copy(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [copy(inner) for inner in value]
        return value

    copied: dict[str, Any] = copy(body)
    return copied
