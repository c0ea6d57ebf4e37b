"""Both ports of a simulator on one event loop."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from .admin import make_admin
from .api import make_api
from .errors import BrokenError
from .simulator import Simulator
from .wire import TransportProtocol, Wire

_SHUTDOWN_SECONDS = 1


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where to listen; port 0 takes a free one. With certificate and key the API speaks TLS."""

    host: str = "127.0.0.1"
    port: int = 0
    admin_host: str = "127.0.0.1"
    admin_port: int = 0
    certificate: Path | None = None
    certificate_key: Path | None = None


@dataclass(frozen=True, slots=True)
class Running:
    """A simulator that serves: where, and (in the same process) what."""

    url: str
    admin_url: str
    simulator: Simulator


class _Server(uvicorn.Server):
    """Leaves signals to whoever runs it, and says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listens.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def running(
    simulator: Simulator, addresses: Addresses | None = None
) -> AsyncIterator[Running]:
    """Serve a simulator on the current event loop for the length of the block."""
    where = addresses or Addresses()
    prefix = simulator.options.prefix
    logging.getLogger("uvicorn.error").addFilter(_is_not_ours)
    wire = Wire(make_api(lambda: simulator.store), simulator)
    with _listen(where.host, where.port) as api, _listen(where.admin_host, where.admin_port) as adm:
        tls = where.certificate is not None
        servers = [
            _server(
                wire,
                http=TransportProtocol,
                ssl_certfile=where.certificate,
                ssl_keyfile=where.certificate_key,
            ),
            _server(make_admin(simulator)),
        ]
        serving = [
            asyncio.create_task(server.serve([sock]))
            for server, sock in zip(servers, (api, adm), strict=True)
        ]
        try:
            for server in servers:
                await server.listens.wait()
            yield Running(
                url=_url("https" if tls else "http", api) + prefix,
                admin_url=_url("http", adm),
                simulator=simulator,
            )
        finally:
            for server in servers:
                server.should_exit = True
            await asyncio.gather(*serving)


def _server(app: Any, **options: Any) -> _Server:
    fixed: dict[str, Any] = {
        "http": "h11",
        "ws": "none",
        "lifespan": "off",
        "log_config": None,
        "access_log": False,
        "timeout_graceful_shutdown": _SHUTDOWN_SECONDS,
    }
    return _Server(uvicorn.Config(app, **fixed | options))


def _listen(host: str, port: int) -> socket.socket:
    # Named TCP, or asyncio does not switch Nagle's algorithm off: 40 ms for each answer.
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    return sock


def _url(scheme: str, sock: socket.socket) -> str:
    host, port = sock.getsockname()
    return f"{scheme}://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"


def _is_not_ours(record: logging.LogRecord) -> bool:
    """Keep the simulated server's own mishaps out of the log; they are meant."""
    return not (record.exc_info and isinstance(record.exc_info[1], BrokenError))
