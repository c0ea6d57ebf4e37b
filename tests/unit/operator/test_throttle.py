"""Many notes, few calls: the time of the event loop is moved by hand."""

import asyncio
from collections.abc import Callable, Coroutine

from computepool_operator.throttle import Throttle


class Hour(asyncio.SelectorEventLoop):
    """An event loop whose clock moves only when a test says so."""

    now = 1000.0

    def time(self) -> float:
        return self.now


def timed(test: Callable[[], Coroutine[None, None, None]]) -> Callable[[], None]:
    """Run a test on such a loop."""

    def run() -> None:
        with asyncio.Runner(loop_factory=Hour) as runner:
            runner.run(test())

    return run


async def pass_time(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Hour)
    loop.now += seconds
    for _ in range(3):
        await asyncio.sleep(0)


def counted() -> tuple[list[int], Callable[[], None]]:
    calls: list[int] = []
    return calls, lambda: calls.append(len(calls))


@timed
async def test_a_note_that_comes_alone_is_followed_at_once() -> None:
    calls, call = counted()
    throttle = Throttle(call, 0.1)
    throttle.note()
    assert len(calls) == 1
    await pass_time(0.1)
    throttle.note()
    assert len(calls) == 2


@timed
async def test_many_notes_are_followed_now_and_once_more() -> None:
    calls, call = counted()
    throttle = Throttle(call, 0.1)
    for _ in range(5000):
        throttle.note()
    assert len(calls) == 1
    await pass_time(0.09)
    assert len(calls) == 1
    await pass_time(0.02)
    assert len(calls) == 2
    await pass_time(10)
    assert len(calls) == 2


@timed
async def test_what_waits_can_be_dropped() -> None:
    calls, call = counted()
    throttle = Throttle(call, 0.1)
    throttle.note()
    throttle.note()
    throttle.stop()
    await pass_time(1)
    assert len(calls) == 1
    throttle.stop()
    throttle.note()
    assert len(calls) == 2
