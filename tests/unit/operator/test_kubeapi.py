"""Requests to the Kubernetes API and what can become of them, over real HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from unit.operator.api_server import connected, serving, status_body
from unit.operator.builders import table

from computepool_operator.kubeapi import (
    MERGE_PATCH,
    AlreadyExists,
    Conflict,
    Gone,
    KubeAPI,
    KubernetesError,
    NotFound,
    Refused,
    Unavailable,
)

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
FAST = aiohttp.ClientTimeout(total=0.2)
LONG = aiohttp.ClientTimeout(total=30)


@dataclass
class Server:
    """Answers every request with what the test says, and keeps the requests."""

    api: KubeAPI
    answer: Answer | None = None
    requests: list[tuple[str, str, dict[str, str], str, Any]] = field(default_factory=list)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async def handle(request: web.Request) -> web.StreamResponse:
        text = await request.text()
        found.requests.append(
            (
                request.method,
                request.path,
                dict(request.query),
                request.headers.get("Content-Type", ""),
                json.loads(text) if text else None,
            )
        )
        assert found.answer is not None
        return await found.answer(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    async with serving(app) as url, connected(url) as api:
        found = Server(api)
        yield found


def says(status: int, body: Any, content_type: str = "application/json") -> Answer:
    async def answer(_request: web.Request) -> web.Response:
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(status=status, text=text, content_type=content_type)

    return answer


def refuses(code: int, reason: str = "") -> Answer:
    return says(code, status_body(code, reason, f"this is why: {reason}"))


async def hangs_up(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def hangs(_request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(5)
    return web.Response()


async def breaks_off(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"kind": ')
    assert request.transport is not None
    request.transport.abort()
    return response


@dataclass(frozen=True)
class Case:
    """To this answer, the error of this kind, with this status and a message with this text."""

    answer: Answer
    kind: type[KubernetesError]
    status: int | None
    says: str
    timeout: aiohttp.ClientTimeout = LONG


SORTED = {
    "404 is not found": Case(refuses(404, "NotFound"), NotFound, 404, "this is why: NotFound"),
    "409 on creation is exists already": Case(
        refuses(409, "AlreadyExists"), AlreadyExists, 409, "AlreadyExists"
    ),
    "409 otherwise is a conflict": Case(refuses(409, "Conflict"), Conflict, 409, "Conflict"),
    "410 is gone": Case(refuses(410, "Expired"), Gone, 410, "Expired"),
    "429 is unavailable": Case(refuses(429, "TooManyRequests"), Unavailable, 429, "TooMany"),
    "500 is unavailable": Case(refuses(500, "InternalError"), Unavailable, 500, "InternalError"),
    "503 is unavailable": Case(refuses(503, "ServiceUnavailable"), Unavailable, 503, "Service"),
    "400 is refused": Case(refuses(400, "BadRequest"), Refused, 400, "BadRequest"),
    "401 is refused": Case(refuses(401, "Unauthorized"), Refused, 401, "Unauthorized"),
    "403 is refused, as a quota does": Case(refuses(403, "Forbidden"), Refused, 403, "Forbidden"),
    "422 is refused": Case(refuses(422, "Invalid"), Refused, 422, "Invalid"),
    "a proxy's page is taken by its status": Case(
        says(502, "<html>Bad Gateway</html>", "text/html"), Unavailable, 502, "Bad Gateway"
    ),
    "an error in JSON that is no Status": Case(says(403, ["a list"]), Refused, 403, "a list"),
    "a success that is no JSON": Case(says(200, "<html>"), Unavailable, 200, "not JSON"),
    "a success that is no object": Case(says(200, [1]), Unavailable, 200, "not an object"),
    "a connection that is reset": Case(hangs_up, Unavailable, None, "Disconnected"),
    "an answer that breaks off": Case(breaks_off, Unavailable, 200, "Payload"),
    "no answer": Case(hangs, Unavailable, None, "timed out", FAST),
}


@table(SORTED)
async def test_errors_by_their_meaning(case: Case, server: Server) -> None:
    server.answer = case.answer
    with pytest.raises(KubernetesError) as caught:
        await server.api.request("POST", "/api/v1/things", body={}, timeout=case.timeout)
    assert type(caught.value) is case.kind
    assert caught.value.status == case.status
    assert case.says in caught.value.message
    assert "POST /api/v1/things" in str(caught.value)


async def test_nobody_there_is_unavailable() -> None:
    async with connected("http://127.0.0.1:1") as api:
        with pytest.raises(Unavailable, match="no answer"):
            await api.request("GET", "/api/v1/things")


async def test_bytes_that_are_no_text_are_an_odd_answer(server: Server) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(
            status=500, body=b"\xff\xfe", content_type="text/plain", charset="utf-8"
        )

    server.answer = answer
    with pytest.raises(Unavailable):
        await server.api.request("GET", "/api/v1/things")


async def test_a_long_message_is_cut(server: Server) -> None:
    server.answer = says(403, status_body(403, "Forbidden", "x" * 5000))
    with pytest.raises(Refused) as caught:
        await server.api.request("GET", "/api/v1/things")
    assert len(caught.value.message) == 1024


async def test_a_request_is_made_as_it_was_asked_for(server: Server) -> None:
    server.answer = says(200, {"kind": "Thing"})
    body = {"spec": {"limits": {"nvidia.com/gpu": 1}}}
    answered = await server.api.request(
        "PATCH",
        "/api/v1/things/a",
        query={"fieldManager": "me"},
        body=body,
        content_type=MERGE_PATCH,
    )
    assert answered == {"kind": "Thing"}
    (request,) = server.requests
    assert request == ("PATCH", "/api/v1/things/a", {"fieldManager": "me"}, MERGE_PATCH, body)


class TestWatch:
    """A stream of events, one JSON object a line."""

    async def collect(self, server: Server, silence: float = 0.3) -> list[dict[str, Any]]:
        watch = server.api.watch(
            "/api/v1/things", query={"resourceVersion": "7"}, silence=silence, length=60
        )
        return [event async for event in watch]

    def streams(self, *pieces: bytes, then: Answer | None = None) -> Answer:
        async def answer(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            for piece in pieces:
                await response.write(piece)
                await asyncio.sleep(0.01)
            if then is not None:
                await then(request)
            return response

        return answer

    def event(self, name: str, **more: Any) -> dict[str, Any]:
        return {"type": "ADDED", "object": {"metadata": {"name": name}, **more}}

    def line(self, event: dict[str, Any]) -> bytes:
        return json.dumps(event).encode() + b"\n"

    async def test_asks_for_bookmarks_and_an_end(self, server: Server) -> None:
        server.answer = self.streams()
        assert await self.collect(server) == []
        assert server.requests[0][2] == {
            "resourceVersion": "7",
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": "60",
        }

    async def test_events_come_in_order_however_the_bytes_are_cut(self, server: Server) -> None:
        events = [self.event(name) for name in "abc"]
        text = b"".join(map(self.line, events))
        cuts = [text[:5], text[5:30], text[30:31], text[31:]]
        server.answer = self.streams(*cuts)
        assert await self.collect(server) == events

    async def test_an_object_may_be_large(self, server: Server) -> None:
        # Objects are limited to about 1.5 MB; pod templates with long scripts are no rarity.
        events = [self.event("big", script="x" * 1_000_000), self.event("small")]
        server.answer = self.streams(*map(self.line, events))
        assert await self.collect(server, silence=5) == events

    async def test_an_old_version_is_gone_by_status(self, server: Server) -> None:
        server.answer = refuses(410, "Expired")
        with pytest.raises(Gone):
            await self.collect(server)

    async def test_an_old_version_is_gone_by_event(self, server: Server) -> None:
        error = {"type": "ERROR", "object": status_body(410, "Expired", "too old")}
        server.answer = self.streams(self.line(error))
        with pytest.raises(Gone, match="too old"):
            await self.collect(server)

    async def test_another_error_by_event(self, server: Server) -> None:
        error = {"type": "ERROR", "object": status_body(500, "InternalError", "etcd")}
        server.answer = self.streams(self.line(error))
        with pytest.raises(Unavailable, match="etcd"):
            await self.collect(server)

    async def test_silence_is_a_dead_watch(self, server: Server) -> None:
        server.answer = self.streams(self.line(self.event("a")), then=hangs)
        with pytest.raises(Unavailable, match="timed out"):
            await self.collect(server, silence=0.1)

    async def test_a_watch_that_is_cut(self, server: Server) -> None:
        server.answer = self.streams(self.line(self.event("a")), then=hangs_up)
        with pytest.raises(Unavailable):
            await self.collect(server)

    @pytest.mark.parametrize("line", [b"<html>\n", b'{"kind": "Status"}\n', b"[]\n", b"\n"])
    async def test_what_is_no_event(self, server: Server, line: bytes) -> None:
        server.answer = self.streams(line)
        with pytest.raises(Unavailable):
            await self.collect(server)

    async def test_refused(self, server: Server) -> None:
        server.answer = refuses(403, "Forbidden")
        with pytest.raises(Refused):
            await self.collect(server)
