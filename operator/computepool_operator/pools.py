"""The loops of all pools: started, told of changes, and stopped. They run only while leading.

So does the sweeping of Jobs whose pool is gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from .loop import PoolLoop, Tools
from .sweeping import keep_sweeping

logger = logging.getLogger(__name__)

LONGEST_CYCLE = 600.0
"""Seconds that a cycle may take: every call in it has a timeout well below that."""

START_SPREAD = 0.1
"""Seconds by which each further pool may begin later."""


class Pools:
    """Every pool that is seen, and its loop while this instance leads."""

    def __init__(self) -> None:
        self._bodies: dict[str, Mapping[str, Any]] = {}
        self._loops: dict[str, tuple[PoolLoop, asyncio.Task[None]]] = {}
        self._tools: Tools | None = None
        self._sweeping: asyncio.Task[None] | None = None

    def observe(self, body: Mapping[str, Any]) -> None:
        """Take a pool that is new or has changed."""
        uid = body["metadata"]["uid"]
        self._bodies[uid] = body
        if self._tools is None:
            return
        if uid in self._loops:
            loop, task = self._loops[uid]
            if not task.done():
                loop.update(body)
            return
        loop = PoolLoop(body, self._tools)
        # Pools that are found together at a start do not all ask for a token at once.
        delay = self._tools.spread() * START_SPREAD * len(self._loops)
        task = asyncio.create_task(
            loop.run(delay), name=f"pool {loop.pool.namespace}/{loop.pool.name}"
        )
        task.add_done_callback(_report_end)
        self._loops[uid] = loop, task

    def forget(self, uid: str) -> None:
        """Let go of a pool that exists no more."""
        self._bodies.pop(uid, None)
        if (entry := self._loops.pop(uid, None)) is not None:
            entry[1].cancel()
        if self._tools is not None:
            self._tools.cluster.forget(uid)

    def workers_changed(self, uid: str) -> None:
        """Tell a pool that one of its Jobs or pods has changed."""
        if (entry := self._loops.get(uid)) is not None:
            entry[0].workers_changed()

    def lead(self, tools: Tools) -> None:
        """Begin to serve all pools."""
        self._tools = tools
        self._sweeping = asyncio.create_task(keep_sweeping(tools.cluster), name="sweeping")
        for body in list(self._bodies.values()):
            self.observe(body)

    async def stop(self) -> None:
        """Stop all loops where they are; whoever leads next takes them up."""
        self._tools = None
        tasks = [task for _loop, task in self._loops.values()]
        if self._sweeping is not None:
            tasks.append(self._sweeping)
        self._loops.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def stuck(self) -> list[str]:
        """Names of pools whose cycle does not come to an end, or whose loop has died."""
        return [
            f"{loop.pool.namespace}/{loop.pool.name}"
            for loop, task in self._loops.values()
            if loop.busy_seconds() > LONGEST_CYCLE or _died(task)
        ]


def _died(task: asyncio.Task[None]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is not None


def _report_end(task: asyncio.Task[None]) -> None:
    if _died(task):
        logger.error("loop ended", extra={"task": task.get_name()}, exc_info=task.exception())
