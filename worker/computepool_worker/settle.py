"""Requests in flight that are better left to come to their end."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def settled(coroutine: Coroutine[Any, Any, T], limit: Callable[[], float]) -> T:
    """Await ``coroutine``; cancelled meanwhile, let it come to its end before being cancelled.

    A request that changes something on the server should not be cut in the middle: it gets at most
    ``limit()`` seconds, asked at the moment of the cancellation. CancelledError follows in any
    case, so what the caller has to know of the outcome, ``coroutine`` must have noted itself.
    """
    task = asyncio.ensure_future(coroutine)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.done():
            await asyncio.wait({task}, timeout=max(0.0, limit()))
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
        if not task.cancelled():
            task.exception()
        raise
