"""What stands between the socket and the application: the audit log and the injected faults."""

import asyncio
import contextlib
import json
import socket
import struct
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.responses import JSONResponse
from uvicorn.protocols.http.h11_impl import H11Protocol

from .audit import AuditEntry
from .endpoints import endpoint_of
from .errors import BrokenError
from .faults import Fault, FaultKind, When
from .simulator import Simulator

ASGIScope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[ASGIScope, Receive, Send], Awaitable[None]]

TRANSPORT = "simulator.transport"
NOTES = "simulator.notes"
_GARBAGE = '{"unexpected": tru'
_NOT_FOUND = JSONResponse({"detail": "Not Found"}, 404)


class TransportProtocol(H11Protocol):
    """Uvicorn's HTTP/1.1, which lets the application see its transport, to cut it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hand the transport to every request of the connection."""
        assert isinstance(transport, asyncio.Transport)
        super().connection_made(transport)
        app = self.app

        async def with_transport(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, TRANSPORT: transport}, receive, send)

        self.app = with_transport


class Wire:
    """An ASGI application around another one: records each request and makes it suffer."""

    def __init__(self, app: App, simulator: Simulator) -> None:
        self._app = app
        self._simulator = simulator
        self._prefix = simulator.options.prefix

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        path = scope["path"]
        if self._prefix:
            inside = path.startswith(f"{self._prefix}/")
            path = path.removeprefix(self._prefix) if inside else ""
        endpoint = endpoint_of(scope["method"], path)
        entry = self._simulator.audit.begin(
            wall=time.time(),
            virtual=self._simulator.clock.now(),
            method=scope["method"],
            path=scope["path"],
            endpoint=endpoint.name,
            connection="{}:{}".format(*scope["client"]),
            ids=endpoint.ids,
        )
        scope[NOTES] = entry.notes
        scope["root_path"] = self._prefix
        app = self._app if path else _NOT_FOUND
        latencies, fault = self._simulator.faults.strike(endpoint.name, path)
        entry.fault = "+".join(str(f.kind) for f in (*latencies, fault) if f) or None

        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start":
                entry.status = message["status"]
            await send(message)

        started = time.monotonic()
        try:
            await _Exchange(scope, receive, watch, entry).serve(app, latencies, fault)
        except BrokenError:
            await self._let_next_request_run_into_close(scope[TRANSPORT])
            raise
        finally:
            entry.seconds = round(time.monotonic() - started, 6)

    async def _let_next_request_run_into_close(self, transport: asyncio.Transport) -> None:
        """Read no more, and leave the client a moment in which it may think to be connected.

        Uvicorn closes a connection when the application raises, after the 500 is on its way. What
        the client has sent by then was never read, so the close becomes a reset.
        """
        transport.pause_reading()
        await asyncio.sleep(self._simulator.store.settings.close_delay)


class _Exchange:
    """One request on its way through the faults."""

    def __init__(self, scope: ASGIScope, receive: Receive, send: Send, entry: AuditEntry) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._entry = entry
        self._transport: asyncio.Transport = scope[TRANSPORT]

    async def serve(self, app: App, latencies: list[Fault], fault: Fault | None) -> None:
        for latency in latencies:
            if latency.when is When.BEFORE:
                await asyncio.sleep(latency.seconds or 0)
        late = sum(f.seconds or 0 for f in latencies if f.when is When.AFTER)
        if fault is None and not late:
            await app(self._scope, self._receive, self._send)
            return
        answer: list[Message] = []
        processed = fault is None or fault.when is When.AFTER or fault.kind is FaultKind.TRUNCATE
        broken: BrokenError | None = None
        if processed:
            broken = await self._process(app, answer)
        await asyncio.sleep(late)
        if fault is not None:
            await self._strike(fault, answer)
            return
        for message in answer:
            await self._send(message)
        if broken is not None:
            raise broken

    async def _process(self, app: App, answer: list[Message]) -> BrokenError | None:
        """Let the application act, and keep its answer back."""

        async def keep(message: Message) -> None:
            answer.append(message)
            if message["type"] == "http.response.start":
                self._entry.notes["processed"] = message["status"]

        try:
            await app(self._scope, self._receive, keep)
        except BrokenError as error:
            return error
        return None

    async def _strike(self, fault: Fault, answer: list[Message]) -> None:
        match fault.kind:
            case FaultKind.STATUS:
                await self._answer(fault.status, fault.body or f"injected {fault.status}", fault)
                closes = fault.status == 500 if fault.closes is None else fault.closes
                if closes:
                    raise BrokenError("injected")
            case FaultKind.GARBAGE:
                await self._answer(200, fault.body or _GARBAGE, fault)
            case FaultKind.TRUNCATE:
                await self._truncate(answer)
            case FaultKind.RESET:
                self._reset()
                await self._client_gone()
            case FaultKind.HANG:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(fault.seconds):
                        await self._client_gone()
                self._transport.abort()
                await self._client_gone()

    async def _answer(self, status: int, text: str, fault: Fault) -> None:
        body = text.encode()
        headers = {
            "content-type": fault.content_type if fault.body else _content_type(text),
            "content-length": str(len(body)),
        } | {name.lower(): value for name, value in (fault.headers or {}).items()}
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})
        await self._send({"type": "http.response.body", "body": body})

    async def _truncate(self, answer: list[Message]) -> None:
        await self._send(answer[0])
        body = b"".join(message.get("body", b"") for message in answer[1:])
        half = body[: len(body) // 2]
        await self._send({"type": "http.response.body", "body": half, "more_body": True})
        self._transport.close()
        await self._client_gone()

    def _reset(self) -> None:
        """Close with a TCP RST: no lingering."""
        sock: socket.socket = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    async def _client_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass


def _content_type(text: str) -> str:
    try:
        json.loads(text)
    except ValueError:
        return "application/json" if text == _GARBAGE else "text/plain; charset=utf-8"
    return "application/json"
