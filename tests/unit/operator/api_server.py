"""A small API server of one collection: list with pages, watch with bookmarks, over real HTTP.

It does what the tests tell it to: fall silent, cut its watches, forget old versions.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiohttp import web
from kubernetes.aio import client

from computepool_operator.kubeapi import KubeAPI

Body = dict[str, Any]
PATH = "/apis/batch/v1/jobs"


def status_body(code: int, reason: str, message: str) -> Body:
    """What the API server answers instead of an object."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    """Serve on a free port of the loopback; the URL."""
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[KubeAPI]:
    """A connection to it."""
    api = KubeAPI(client.ApiClient(client.Configuration(host=url)))
    try:
        yield api
    finally:
        await api.close()


class Collection:
    """The Jobs of the fake server; `pool` of each is the label that they are grouped by."""

    def __init__(self) -> None:
        self.version = 100
        self.oldest_version = 0
        self.objects: dict[str, Body] = {}
        self.lists: list[dict[str, str]] = []
        self.watches: list[dict[str, str]] = []
        self.page = 500
        self.refuse: tuple[int, Body] | None = None
        self.watch_ends_at_once = False
        self._events: list[tuple[int, Body]] = []
        self._news = asyncio.Condition()
        self._generation = 0

    def app(self) -> web.Application:
        app = web.Application()
        app.add_routes([web.get(PATH, self._get)])
        return app

    async def set(self, uid: str, *, pool: str = "a100", **fields: Any) -> Body:
        """Create or change an object, and tell the watches."""
        kind = "MODIFIED" if uid in self.objects else "ADDED"
        thing = self.make(uid, pool=pool, **fields)
        self.objects[uid] = thing
        await self._tell(kind, thing)
        return thing

    def make(self, uid: str, *, pool: str = "a100", **fields: Any) -> Body:
        """An object of the next version, which nobody is told of."""
        self.version += 1
        return {
            "metadata": {
                "uid": uid,
                "name": uid,
                "labels": {"pool": pool},
                "resourceVersion": str(self.version),
                "managedFields": [{"manager": "test"}],
            },
            **fields,
        }

    async def delete(self, uid: str, *, told: bool = True) -> None:
        """Remove an object; `told`: the watches hear of it."""
        thing = self.objects.pop(uid)
        self.version += 1
        thing["metadata"]["resourceVersion"] = str(self.version)
        if told:
            await self._tell("DELETED", thing)

    async def bookmark(self) -> None:
        """Tell the watches how far they are."""
        self.version += 1
        mark = {"metadata": {"resourceVersion": str(self.version)}}
        await self._tell("BOOKMARK", mark)

    async def cut(self) -> None:
        """End all watches that are open, as the server does when their time is up."""
        self._generation += 1
        async with self._news:
            self._news.notify_all()

    async def forget(self) -> None:
        """Compact: watches can't begin at any version so far, and open ones end."""
        self.version += 1
        self.oldest_version = self.version
        self._events.clear()
        await self.cut()

    async def _tell(self, kind: str, thing: Body) -> None:
        async with self._news:
            event = json.loads(json.dumps({"type": kind, "object": thing}))
            self._events.append((self.version, event))
            self._news.notify_all()

    async def _get(self, request: web.Request) -> web.StreamResponse:
        query = dict(request.query)
        if query.get("watch"):
            self.watches.append(query)
        else:
            self.lists.append(query)
        if self.refuse is not None:
            code, body = self.refuse
            return web.json_response(body, status=code)
        return await (self._watch(request) if query.get("watch") else self._list(query))

    async def _list(self, query: dict[str, str]) -> web.Response:
        names = sorted(self.objects)
        begin = int(query.get("continue") or 0)
        items = [self.objects[name] for name in names[begin : begin + self.page]]
        metadata = {"resourceVersion": str(self.version)}
        if begin + self.page < len(names):
            metadata["continue"] = str(begin + self.page)
        return web.json_response({"kind": "JobList", "metadata": metadata, "items": items})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        since, generation = int(request.query["resourceVersion"]), self._generation
        response = web.StreamResponse()
        await response.prepare(request)
        if since < self.oldest_version:
            gone = status_body(410, "Expired", "too old resource version")
            await self._send(response, {"type": "ERROR", "object": gone})
            return response
        with suppress(ConnectionError):
            while generation == self._generation and not self.watch_ends_at_once:
                for version, event in [e for e in self._events if e[0] > since]:
                    await self._send(response, event)
                    since = version
                async with self._news:
                    if generation == self._generation and not self._later_than(since):
                        await self._news.wait()
        return response

    def _later_than(self, version: int) -> bool:
        return any(at > version for at, _ in self._events)

    async def _send(self, response: web.StreamResponse, event: Body) -> None:
        await response.write(json.dumps(event).encode() + b"\n")
