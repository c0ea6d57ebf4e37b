import asyncio

import pytest

from computepool_worker.settle import settled


async def test_undisturbed_it_is_an_await() -> None:
    async def work() -> int:
        return 7

    assert await settled(work(), lambda: 1) == 7


async def test_its_error_is_raised_as_it_is() -> None:
    async def work() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await settled(work(), lambda: 1)


@pytest.mark.parametrize("fails", [True, False])
async def test_cancelled_it_comes_to_its_end_first(fails: bool) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    ended: list[str] = []

    async def work() -> None:
        begun.set()
        await go_on.wait()
        ended.append("work")
        if fails:
            raise ValueError("no")

    task = asyncio.create_task(settled(work(), lambda: 5))
    await begun.wait()
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["work"]


async def test_cancelled_it_does_not_wait_for_ever() -> None:
    begun = asyncio.Event()
    cut = False

    async def work() -> None:
        nonlocal cut
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cut = True
            raise

    task = asyncio.create_task(settled(work(), lambda: 0.01))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cut
