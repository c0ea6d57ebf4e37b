"""A proxy between an operator and the API server, which cuts, slows, silences and answers itself.

It speaks plain HTTP to the operator, so that it can answer in the API server's stead; what it
passes on goes over TLS, with whatever credentials the operator sends.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import aiohttp
import yaml
from aiohttp import web

T = TypeVar("T")
FORWARDED = ("Authorization", "Content-Type", "Accept")


@dataclass(slots=True)
class Fault:
    """What becomes of the next `count` requests that match "METHOD path".

    They get an answer of the proxy's own; or, with status 0, they are passed on and the connection
    breaks before the answer.
    """

    call: str
    status: int
    reason: str
    count: int
    struck: int = 0


class Proxy:
    """Runs in a thread of its own for the length of a `with` block; `url` is where it listens."""

    def __init__(self, kubeconfig: Path) -> None:
        self._upstream = yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
        self.url = ""
        self.delay = 0.0
        """Seconds by which each request is held up."""
        self._faults: list[Fault] = []
        self._flows = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._streams: set[asyncio.Task[Any]] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def cut(self) -> None:
        """Break every connection, and refuse new ones."""
        self._do(self._cut())

    def drop(self) -> None:
        """Break every connection; new ones work."""
        self._do(self._drop())

    def mend(self) -> None:
        """Let everything through again."""
        self.delay = 0.0
        self._do(self._mend())

    def silence(self) -> None:
        """Keep the watches there are, and let nothing more through them; new ones work."""
        self._do(self._silence())

    def answer(self, call: str, status: int, reason: str, *, count: int = 1) -> Fault:
        """Answer matching requests with an error of Kubernetes' form."""
        fault = Fault(call, status, reason, count)
        self._faults.append(fault)
        return fault

    def lose(self, call: str, *, count: int = 1) -> Fault:
        """Pass matching requests on, and break the connection instead of answering."""
        return self.answer(call, 0, "", count=count)

    def _do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    async def _start(self) -> None:
        self._flows.set()
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
        )
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        self._site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await self._site.start()
        self.url = self._site.name
        self._port = int(self.url.rpartition(":")[2])

    async def _stop(self) -> None:
        self._break_streams()
        await asyncio.gather(*self._streams, return_exceptions=True)
        await self._runner.cleanup()
        await self._session.close()
        await asyncio.sleep(0.25)  # aiohttp's documentation: TLS connections close a little later

    async def _cut(self) -> None:
        await self._site.stop()
        self._break_streams()

    async def _drop(self) -> None:
        self._break_streams()

    async def _silence(self) -> None:
        self._flows.clear()
        self._flows = asyncio.Event()
        self._flows.set()

    async def _mend(self) -> None:
        self._faults.clear()
        if self._site not in self._runner.sites:
            self._site = web.TCPSite(self._runner, "127.0.0.1", self._port)
            await self._site.start()

    def _break_streams(self) -> None:
        for connection in list(self._runner.server.connections if self._runner.server else ()):
            if connection.transport is not None:
                connection.transport.abort()
        for task in self._streams:
            task.cancel()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._streams.add(task)
        try:
            return await self._pass(request)
        finally:
            self._streams.discard(task)

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        body, flows = await request.read(), self._flows
        await asyncio.sleep(self.delay)
        fault = self._strikes(f"{request.method} {request.path}")
        if fault is not None and fault.status:
            status = {"kind": "Status", "reason": fault.reason, "code": fault.status}
            message = f"{fault.reason}, says the proxy"
            return web.json_response({**status, "message": message}, status=fault.status)
        headers = {name: request.headers[name] for name in FORWARDED if name in request.headers}
        async with self._session.request(
            request.method,
            self._upstream + request.path_qs,
            data=body or None,
            headers=headers,
            skip_auto_headers=FORWARDED,
        ) as found:
            if fault is not None and request.transport is not None:
                await found.read()
                request.transport.abort()
            answer = web.StreamResponse(status=found.status)
            answer.content_type = found.content_type
            await answer.prepare(request)
            async for piece in found.content.iter_any():
                if "watch" in request.query:
                    await flows.wait()
                await answer.write(piece)
            await answer.write_eof()
            return answer

    def _strikes(self, call: str) -> Fault | None:
        for fault in self._faults:
            if fault.struck < fault.count and re.search(fault.call, call):
                fault.struck += 1
                return fault
        return None
