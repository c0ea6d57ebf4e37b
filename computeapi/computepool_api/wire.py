"""One HTTP request and what comes of it, as a value. The only module that sends with httpx.

Nothing of httpx leaves this module: its exceptions carry the request, and with it the token. So a
failed try is returned, not raised.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any, Final, cast
from urllib.parse import urlsplit

import httpx

from computepool_api.answers import Answer, NoAnswer, read_answer
from computepool_api.bodies import DamagedBodyError, FileBody, unzip
from computepool_api.endpoints import Endpoint, Happening
from computepool_api.proxies import proxy_for
from computepool_api.secrecy import Secret
from computepool_api.trust import Trust, Verify

Sink = Callable[[AsyncGenerator[bytes]], Awaitable[None]]

_CONNECT: Final = 10.0
_WRITE: Final = 60.0
_POOL: Final = 30.0
# uvicorn closes a connection that has been idle for 5 s: ours must be the shorter patience.
_KEEP_ALIVE: Final = 4.0
_MAX_CONNECTIONS: Final = 20
_LARGEST_ANSWER: Final = 8 * 1024 * 1024
_LARGEST_ERROR: Final = 4096


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request: at most one of `body` (JSON), `form` and `file`.

    `sink` takes the body of a 200 as it comes; without it the body is read as JSON.
    """

    path: str
    body: Mapping[str, object] | None = None
    params: Mapping[str, str] | None = None
    form: Secret | None = None
    file: FileBody | None = None
    sink: Sink | None = field(default=None, repr=False)


class Wire:
    """Two pools of connections to one server: one that keeps them alive, one that never does."""

    def __init__(self, url: str, *, verify: Verify, user_agent: str, patience: float) -> None:
        self.url = normalise_url(url)
        self._patience = patience
        self._headers = {
            "User-Agent": user_agent,
            "Accept-Encoding": "gzip",
            "Accept": "application/json",
        }
        self._trust = Trust(verify) if self.url.startswith("https:") else None
        self._kept, self._single_use = self._new_clients()
        self._retired: list[httpx.AsyncClient] = []

    async def aclose(self) -> None:
        """Close every connection."""
        for client in (self._kept, self._single_use, *self._retired):
            await client.aclose()

    async def attempt(
        self, endpoint: Endpoint, outgoing: Outgoing, token: Secret | None
    ) -> Answer | NoAnswer:
        """Send one request once. Raises only what the sink or the file of the body raises."""
        client = self._single_use if endpoint.own_connection else self._kept
        progress = _Progress()
        pieces = None if outgoing.file is None else outgoing.file.pieces()
        request = client.build_request(
            endpoint.method,
            self.url + outgoing.path,
            params=outgoing.params,
            headers=_headers(outgoing, token),
            content=pieces or _content(outgoing),
            timeout=httpx.Timeout(
                connect=_CONNECT,
                read=endpoint.read_timeout * self._patience,
                write=_WRITE,
                pool=_POOL,
            ),
            extensions={"trace": progress},
        )
        try:
            async with asyncio.timeout(endpoint.deadline * self._patience):
                response = await client.send(request, stream=True)
                try:
                    return await _receive(response, outgoing.sink)
                finally:
                    await response.aclose()
        except (httpx.TransportError, ssl.SSLError, TimeoutError, DamagedBodyError) as error:
            self._renew_trust(error)
            return NoAnswer(progress.sort(error), f"{self.url}: {_story(error, endpoint)}")
        finally:
            if pieces is not None:
                await pieces.aclose()

    def _renew_trust(self, error: Exception) -> None:
        """After a certificate that is not trusted: use the CA bundle that lies there by now."""
        if self._trust is None or not any(
            isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error)
        ):
            return
        if self._trust.renew():
            # Other requests may be under way on these, a push among them: they are not closed yet.
            self._retired += (self._kept, self._single_use)
            self._kept, self._single_use = self._new_clients()

    def _new_clients(self) -> tuple[httpx.AsyncClient, httpx.AsyncClient]:
        return self._new_client(_MAX_CONNECTIONS), self._new_client(0)

    def _new_client(self, kept: int) -> httpx.AsyncClient:
        setting = proxy_for(self.url, os.environ)
        try:
            return httpx.AsyncClient(
                headers=self._headers,
                verify=False if self._trust is None else self._trust.context,
                proxy=None if setting is None else setting.url.reveal(),
                trust_env=False,
                limits=httpx.Limits(
                    max_connections=_MAX_CONNECTIONS,
                    max_keepalive_connections=kept,
                    keepalive_expiry=_KEEP_ALIVE,
                ),
                follow_redirects=False,
            )
        except (ValueError, httpx.InvalidURL):
            if setting is None:
                raise
            raise setting.refused() from None


class _Progress:
    """How far a request came, told by httpcore's trace."""

    __slots__ = ("_answered", "_connected", "_sending")

    def __init__(self) -> None:
        self._connected = self._sending = self._answered = False

    async def __call__(self, event: str, _: Mapping[str, Any]) -> None:
        match event:
            case "connection.connect_tcp.started":
                self._connected = True
            case "http11.send_request_headers.started":
                self._sending = True
            case "http11.receive_response_headers.complete":
                self._answered = True

    def sort(self, error: Exception) -> Happening:
        if not self._sending or isinstance(
            error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout | httpx.ProxyError
        ):
            return Happening.UNSENT
        ended = isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError)
        if ended and not self._connected and not self._answered:
            return Happening.RESET
        return Happening.SILENCE


async def _receive(response: httpx.Response, sink: Sink | None) -> Answer:
    status = response.status_code
    if status >= 500:
        return read_answer(status, response.headers, await _read_of_error(response))
    encoding = response.headers.get("content-encoding", "").lower()
    async with aclosing(_raw(response)) as raw, aclosing(unzip(raw, encoding)) as plain:
        if sink is not None and status == 200:
            await sink(plain)
            return Answer(status, None)
        return read_answer(status, response.headers, await _read(plain))


def _raw(response: httpx.Response) -> AsyncGenerator[bytes]:
    """Give the body as it is sent; httpx declares less than it is, a generator to be closed."""
    return cast("AsyncGenerator[bytes]", response.aiter_raw())


async def _read(pieces: AsyncGenerator[bytes]) -> bytes:
    body = bytearray()
    async for piece in pieces:
        body += piece
        if len(body) > _LARGEST_ANSWER:
            raise DamagedBodyError(f"the answer has more than {_LARGEST_ANSWER} bytes")
    return bytes(body)


async def _read_of_error(response: httpx.Response) -> bytes:
    """Read what a 5xx says, as far as it comes, and see that its connection is not used again.

    The server closes it without saying so (trap 1). A closed stream makes httpcore drop it.
    """
    said = bytearray()
    with suppress(httpx.TransportError, ssl.SSLError):
        async with aclosing(_raw(response)) as pieces:
            async for piece in pieces:
                said += piece
                if len(said) > _LARGEST_ERROR:
                    break
    await response.extensions["network_stream"].aclose()
    return bytes(said)


def _content(outgoing: Outgoing) -> bytes | None:
    if outgoing.form is not None:
        return outgoing.form.reveal().encode()
    return None if outgoing.body is None else json.dumps(outgoing.body).encode()


def _headers(outgoing: Outgoing, token: Secret | None) -> httpx.Headers:
    """Compose the headers; unlike a dict, httpx's class hides the token in its repr."""
    headers = httpx.Headers()
    if token is not None:
        headers["Authorization"] = f"Bearer {token.reveal()}"
    if outgoing.form is not None:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    elif outgoing.body is not None or outgoing.file is not None:
        # Without it the server drops optional bodies and refuses the others (trap 19).
        headers["Content-Type"] = "application/json"
    if outgoing.file is not None:
        headers["Content-Encoding"] = "gzip"
        headers["Content-Length"] = str(outgoing.file.size)
    return headers


def normalise_url(url: str) -> str:
    """Check a base URL and take trailing slashes off; a path prefix stays.

    Raises ValueError, whose text does not show a password that stands in the URL.
    """
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname, parts.port
        httpx.URL(url.strip())
    except (ValueError, httpx.InvalidURL):
        raise ValueError("the URL of the compute API cannot be read") from None
    # Also behind the host: a password with a slash in it ends the host's part early.
    if "@" in url:
        raise ValueError(
            "the URL of the compute API has an @, as one with a user name or a password has: "
            "credentials belong in the Secret"
        )
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise ValueError(
            f"{url!r} is no URL of a compute API: it must be like https://host or "
            "https://host:port/prefix"
        )
    if parts.query or parts.fragment:
        raise ValueError(f"{url!r} has a query or fragment, which a base URL cannot have")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _story(error: Exception, endpoint: Endpoint) -> str:
    """Say what happened without any of the bytes that were sent or received."""
    match error:
        case httpx.ConnectTimeout():
            return f"no connection within {_CONNECT:.0f} s"
        case httpx.PoolTimeout():
            return "all connections are busy"
        case httpx.ReadTimeout():
            return f"no answer within {endpoint.read_timeout:.0f} s"
        case httpx.WriteTimeout():
            return f"nothing more could be sent for {_WRITE:.0f} s"
        case httpx.ConnectError():
            return _why_no_connection(error)
        case httpx.ProxyError():
            return "the proxy refuses to connect"
        case httpx.NetworkError():
            return "the connection ended before a whole answer"
        case TimeoutError():
            return f"no whole answer within {endpoint.deadline:.0f} s"
        case DamagedBodyError():
            return str(error)
        case _:
            return "the connection ended without an answer, or what came is no HTTP"


def _why_no_connection(error: BaseException) -> str:
    """Find the system's word for a failed connection beneath the layers around it."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"the certificate of the server is not trusted ({cause.verify_message}): name the "
                "CA that signed it"
            )
        if isinstance(cause, ssl.SSLError):
            return f"no TLS with the server ({cause.reason or 'unknown reason'})"
        if isinstance(cause, OSError) and cause.strerror:
            # asyncio puts a text of its own for the system's; those of name resolution are < 0.
            number = cause.errno or 0
            return f"no connection ({os.strerror(number) if number > 0 else cause.strerror})"
    return "no connection"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Give an error and what lies beneath it, one after the other."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        inner = cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else None
        cause = inner or cause.__cause__ or cause.__context__
