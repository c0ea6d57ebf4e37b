"""A small Kubernetes API over real HTTP: objects in a dictionary, and faults when a test says so.

It knows lists, watches, creation, merge patches, the status subresource and deletion; nothing is
admitted or controlled. What needs more than that is a matter for the tests on a real control plane.
"""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web
from unit.operator.api_server import connected, serving, status_body

from computepool_operator.cluster import Cluster
from computepool_operator.kubeapi import MERGE_PATCH, KubeAPI
from written.merging import merged

Body = dict[str, Any]
COLLECTIONS = ("jobs", "pods", "events", "secrets", "configmaps", "computepools")
NAMESPACE = "lab"


@dataclass
class Fault:
    """What happens to requests with this method whose path ends so.

    `status`: they are answered with it. `lost`: they are done, and the answer is lost. `reset`:
    nothing is done. `late`: the client loses the connection, and they are done once `release` is
    called.
    """

    method: str
    ending: str
    what: int | Literal["lost", "reset", "late"]
    count: int = 1
    message: str = "so the test says"
    reason: str = "Fault"
    release: asyncio.Event = field(default_factory=asyncio.Event)


class FakeKube:
    """The objects, by path, and the requests that were made."""

    def __init__(self) -> None:
        self.objects: dict[str, Body] = {}
        self.requests: list[tuple[str, str, Any]] = []
        self.faults: list[Fault] = []
        self.watches = True
        """Whether watches tell anything; lists always do."""
        self._version = 0
        self._history: list[tuple[int, str, Body]] = []
        self.news = asyncio.Condition()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[KubeAPI]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        async with serving(app) as url, connected(url) as api:
            yield api

    async def put(self, path: str, body: Body) -> Body:
        """Create or replace an object, and tell the watches."""
        kind = "MODIFIED" if path in self.objects else "ADDED"
        self._version += 1
        namespace, _plural, name = path.split("/")[-3:]
        body["metadata"] = {
            "name": name,
            "namespace": namespace,
            "uid": str(uuid.uuid4()),
            "generation": 1,
            "creationTimestamp": "2026-03-01T12:00:00Z",
            **body.get("metadata", {}),
            "resourceVersion": str(self._version),
        }
        self.objects[path] = body
        await self._tell(kind, path, body)
        return body

    async def remove(self, path: str) -> None:
        """Delete an object, and tell the watches."""
        body = self.objects.pop(path)
        self._version += 1
        await self._tell("DELETED", path, body)

    def named(self, plural: str) -> dict[str, Body]:
        """The objects of a kind, by name."""
        return {
            path.rpartition("/")[2]: body
            for path, body in self.objects.items()
            if path.split("/")[-2] == plural
        }

    def asked(self, method: str, ending: str) -> list[tuple[str, Any]]:
        """Path and body of the requests of a method whose path ends so."""
        return [(p, b) for m, p, b in self.requests if m == method and p.endswith(ending)]

    async def _tell(self, kind: str, path: str, body: Body) -> None:
        async with self.news:
            event = json.loads(json.dumps({"type": kind, "object": body}))
            self._history.append((self._version, path.rpartition("/")[0], event))
            self.news.notify_all()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        body = json.loads(text) if text else None
        self.requests.append((request.method, request.path, body))
        fault = next(
            (
                f
                for f in self.faults
                if f.count and f.method == request.method and request.path.endswith(f.ending)
            ),
            None,
        )
        if fault is None:
            return await self._do(request, body)
        fault.count -= 1
        if isinstance(fault.what, int):
            answer = status_body(fault.what, fault.reason, fault.message)
            return web.json_response(answer, status=fault.what)
        if fault.what == "late":
            _hang_up(request)
            await fault.release.wait()
        if fault.what != "reset":
            await self._do(request, body)
        _hang_up(request)
        return web.Response()

    async def _do(self, request: web.Request, body: Any) -> web.StreamResponse:
        path, method = request.path, request.method
        plural = path.rpartition("/")[2]
        if plural in COLLECTIONS and method == "GET":
            watch = request.query.get("watch")
            return await self._watch(request, path) if watch else self._list(path)
        if plural in COLLECTIONS:
            metadata = body["metadata"]
            name = metadata.get("name") or f"{metadata['generateName']}{self._version}"
            return web.json_response(await self.put(f"{path}/{name}", body), status=201)
        whole = path.removesuffix("/status")
        found = self.objects.get(whole)
        if found is None:
            answer = status_body(404, "NotFound", f"{plural} not found")
            return web.json_response(answer, status=404)
        if method == "DELETE":
            await self.remove(whole)
        if method == "PATCH":
            assert request.content_type == MERGE_PATCH
            if (
                body.get("metadata", {}).get("uid", found["metadata"]["uid"])
                != (found["metadata"]["uid"])
            ):
                answer = status_body(409, "Conflict", "precondition failed: UID")
                return web.json_response(answer, status=409)
            found = await self.put(whole, merged(found, body))
        return web.json_response(found)

    def _list(self, path: str) -> web.Response:
        items = [body for name, body in self.objects.items() if name.rpartition("/")[0] == path]
        metadata = {"resourceVersion": str(self._version)}
        return web.json_response({"kind": "List", "metadata": metadata, "items": items})

    async def _watch(self, request: web.Request, path: str) -> web.StreamResponse:
        since = int(request.query["resourceVersion"])
        response = web.StreamResponse()
        await response.prepare(request)
        with suppress(ConnectionError):
            while True:
                for version, collection, event in list(self._history):
                    if version > since:
                        since = version
                        if collection == path and self.watches:
                            await response.write(json.dumps(event).encode() + b"\n")
                async with self.news:
                    if self._version <= since:
                        await self.news.wait()
        return response


def _hang_up(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


@asynccontextmanager
async def mirrored(api: KubeAPI, **options: Any) -> AsyncIterator[Cluster]:
    """The operator's view of the fake, filled and kept up to date."""
    settings: dict[str, Any] = {
        "namespaces": [NAMESPACE],
        "identity": "test",
        "on_change": lambda _uid: None,
        **options,
    }
    cluster = Cluster(api, **settings)
    mirrors = asyncio.create_task(cluster.run())
    try:
        async with asyncio.timeout(30):
            await cluster.synced()
        yield cluster
    finally:
        mirrors.cancel()
        with suppress(asyncio.CancelledError):
            await mirrors
