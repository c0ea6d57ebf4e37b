"""A small HTTP server for what no proper server does: resets, silence, garbage, half bodies."""

import asyncio
import base64
import contextlib
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any


class End(Enum):
    """What becomes of the connection after a reply."""

    KEEP = auto()
    CLOSE = auto()
    RESET = auto()
    HANG = auto()


@dataclass(frozen=True)
class Reply:
    """Bytes to send, and what becomes of the connection then."""

    data: bytes = b""
    end: End = End.KEEP


@dataclass(frozen=True)
class Request:
    """One request as it arrived. `connection` counts connections from 1."""

    connection: int
    method: str
    target: str
    headers: dict[str, str]
    body: bytes = field(repr=False)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def http(
    status: int,
    body: object = None,
    *,
    headers: Sequence[str] = (),
    raw: bytes | None = None,
    content_type: str = "application/json",
) -> bytes:
    """Compose an HTTP/1.1 response."""
    content = json.dumps(body).encode() if raw is None else raw
    lines = [
        f"HTTP/1.1 {status} Reason",
        f"Content-Length: {len(content)}",
        f"Content-Type: {content_type}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + content


def ok(body: object = None, **more: Any) -> Reply:
    return Reply(http(200, body, **more))


def status(code: int, detail: object = "boo", **more: Any) -> Reply:
    return Reply(http(code, {"detail": detail}, **more))


def broken() -> Reply:
    """The server's own 500: it closes the connection without saying so."""
    return Reply(http(500, raw=b"Internal Server Error", content_type="text/plain"), End.CLOSE)


RESET = Reply(end=End.RESET)
SILENT_CLOSE = Reply(end=End.CLOSE)
HANG = Reply(end=End.HANG)
GARBAGE = Reply(b"\x16\x03\x01\x02\x00 this is no HTTP\r\n\r\n", End.CLOSE)


def jwt(expiry: float | None = None, **claims: Any) -> str:
    """Make a token with the claims of a real one and a signature that nobody checks."""
    if expiry is not None:
        claims["exp"] = expiry
    parts = [{"alg": "HS256"}, {"sub": "someone", "scopes": ["*-*-*"], **claims}]
    encoded = [
        base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=").decode() for p in parts
    ]
    return ".".join([*encoded, "c2lnbmF0dXJl"])


class RawServer:
    """Answers request number n with reply number n; the last reply is for all that follow.

    `replies` may be a function of the request. `/token` has replies of its own, by default a token.
    `take_of_body` says of a path how many bytes of a request's body to read before replying;
    after a request of `last_path` nobody listens any more.
    """

    def __init__(self) -> None:
        self.replies: Sequence[Reply] | Callable[[Request], Reply] = [ok()]
        self.token_replies: Sequence[Reply] = [ok({"access_token": jwt(), "token_type": "bearer"})]
        self.take_of_body: dict[str, int] = {}
        self.last_path = ""
        self.requests: list[Request] = []
        self.token_requests: list[Request] = []
        self.asked_for_a_token = asyncio.Event()
        self.connections = 0
        self.url = ""
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def running(
        self, port: int = 0, tls: ssl.SSLContext | None = None
    ) -> AsyncIterator["RawServer"]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", port, ssl=tls)
        self._server = server
        self.port = server.sockets[0].getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await server.wait_closed()

    def of(self, path: str) -> list[Request]:
        """The requests to a path, in order."""
        return [request for request in self.requests if request.target == path]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            # Cancelled at the end of the test: asyncio's own callback would report it as an error.
            ends = (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError)
            with contextlib.suppress(*ends):
                await self._serve(self.connections, reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _serve(
        self, connection: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.rstrip().split("\r\n")
            method, target, _ = first.split(" ")
            headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines)}
            length = int(headers.get("content-length", 0))
            early = self.take_of_body.get(target)
            body = await reader.readexactly(length if early is None else min(early, length))
            request = Request(connection, method, target, headers, body)
            reply = self._choose(request)
            if target == self.last_path:
                self._server.close()
            writer.write(reply.data)
            await writer.drain()
            match reply.end:
                case End.CLOSE:
                    return
                case End.HANG:
                    await asyncio.get_running_loop().create_future()
                case End.RESET:
                    linger = struct.pack("ii", 1, 0)
                    sock = writer.get_extra_info("socket")
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    writer.transport.abort()
                    return

    def _choose(self, request: Request) -> Reply:
        if request.target.endswith("/token"):
            self.token_requests.append(request)
            self.asked_for_a_token.set()
            return self.token_replies[min(len(self.token_requests), len(self.token_replies)) - 1]
        self.requests.append(request)
        if callable(self.replies):
            return self.replies(request)
        return self.replies[min(len(self.requests), len(self.replies)) - 1]
