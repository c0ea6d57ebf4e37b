"""What the kubelet asks: is the operator alive (cycles come to an end), and is it ready."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from aiohttp import web

logger = logging.getLogger(__name__)


class HealthServer:
    """Answers /livez and /readyz over HTTP.

    `stuck` names pools whose cycle does not end; `ready` tells whether the mirrors are filled.
    """

    def __init__(
        self, port: int, *, stuck: Callable[[], Sequence[str]], ready: Callable[[], bool]
    ) -> None:
        self._port = port
        self._stuck = stuck
        self._ready = ready
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen on all addresses of the pod."""
        app = web.Application()
        app.add_routes([web.get("/livez", self._live), web.get("/readyz", self._readiness)])
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, port=self._port).start()

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _live(self, _request: web.Request) -> web.Response:
        if stuck := self._stuck():
            # The kubelet keeps the answer to itself.
            logger.error("cycles do not end", extra={"pools": list(stuck)})
            return web.Response(status=503, text=f"cycles do not end: {', '.join(stuck)}\n")
        return web.Response(text="ok\n")

    async def _readiness(self, _request: web.Request) -> web.Response:
        if not self._ready():
            return web.Response(status=503, text="Jobs and pods have not been listed yet\n")
        return web.Response(text="ok\n")
