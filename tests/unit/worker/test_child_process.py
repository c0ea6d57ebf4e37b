"""A child as the parent sees it, with children of a few lines."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from computepool_worker import child_process
from computepool_worker.boundary import Execute, Prepare, Ready
from computepool_worker.child_process import Child, ChildLostError, Exit
from computepool_worker.child_start import command, start
from computepool_worker.logs import EventLog

REQUEST = Execute("Task-1", "/t.json", "/r.json", "/", "/", 0, False, False)
DONE = '{"message": "done", "task": "Task-1", "ok": true, "units": 1, "failures": 0, "seconds": 1}'
READY = '{"message": "ready", "ok": true, "reason": "", "facts": {}}'
OTHER_DONE = DONE.replace("Task-1", "Task-2")
BEGIN = f"""
import os, signal, sys, time
requests = os.fdopen(int(sys.argv[2]), "rb")
answers = os.fdopen(int(sys.argv[4]), "w", buffering=1)
requests.readline()
answers.write('{READY}\\n')
"""

MakeChild = Callable[[str], Awaitable[Child]]


@pytest.fixture
async def make() -> AsyncIterator[MakeChild]:
    children: list[Child] = []

    async def made(program: str) -> Child:
        started = start([sys.executable, "-c", program], Prepare(None))
        log = EventLog(logging.getLogger("test.child"))
        children.append(await Child.attach(started, grace=0.2, log=log))
        return children[-1]

    yield made
    for child in children:
        await child.stop()


async def test_a_child_gets_ready_executes_and_is_let_go(make: MakeChild) -> None:
    child = await make(f"{BEGIN}\nrequests.readline()\nanswers.write('{DONE}\\n')\n")
    assert await child.ready(10) == Ready(ok=True)
    answer = await child.execute(REQUEST)
    assert (answer.task, type(answer).__name__) == ("Task-1", "Done")
    ended = await child.stop()
    assert ended is not None
    assert ended.code == 0
    assert ended.peak_memory > 2**20
    assert await child.stop() == ended


async def test_an_answer_counts_although_the_child_died_right_after_it(make: MakeChild) -> None:
    child = await make(
        f"{BEGIN}\nrequests.readline()\nanswers.write('{DONE}\\n')\nos.kill(os.getpid(), 9)\n"
    )
    await child.ready(10)
    assert (await child.execute(REQUEST)).task == "Task-1"


@pytest.mark.parametrize(
    ("program", "what"),
    [
        ("import sys; sys.exit(3)", "exited with code 3"),
        ("import os; os.kill(os.getpid(), 11)", "was killed by SIGSEGV"),
        (f"{BEGIN}\nos.kill(os.getpid(), 6)", "was killed by SIGABRT"),
        (f"{BEGIN}\nrequests.readline(); answers.close(); time.sleep(60)", "closed its pipe"),
        (f"{BEGIN}\nrequests.readline(); answers.write('x' * 10**6)", "broke the protocol"),
        (f"{BEGIN}\nrequests.readline(); answers.write('half a')", "exited with code 0"),
        (
            f"{BEGIN}\nrequests.readline(); answers.write('{READY}\\n'); time.sleep(60)",
            "spoke out of turn",
        ),
        (
            f"{BEGIN}\nrequests.readline(); answers.write('{OTHER_DONE}\\n'); time.sleep(60)",
            "spoke out of turn",
        ),
    ],
)
async def test_a_child_that_will_not_answer_is_lost(
    make: MakeChild, program: str, what: str
) -> None:
    child = await make(program)

    async def get_ready_and_execute() -> None:
        await child.ready(10)
        await child.execute(REQUEST)

    with pytest.raises(ChildLostError) as caught:
        await get_ready_and_execute()
    assert caught.value.what.startswith(what)


async def test_the_end_of_its_stderr_is_told(make: MakeChild) -> None:
    child = await make("import sys; [print(i, file=sys.stderr) for i in range(200)]; sys.exit(1)")
    with pytest.raises(ChildLostError) as caught:
        await child.ready(10)
    assert caught.value.last_lines[-1] == "199"
    assert str(caught.value).splitlines()[-1] == "199"
    assert len(str(caught.value)) < 3000


async def test_a_child_that_is_slow_to_get_ready(make: MakeChild) -> None:
    child = await make("import time; time.sleep(60)")
    with pytest.raises(ChildLostError, match="did not get ready within 0 s"):
        await child.ready(0.05)


async def test_a_busy_child_is_stopped_at_once(make: MakeChild) -> None:
    child = await make(f"{BEGIN}\nrequests.readline(); time.sleep(60)")
    await child.ready(10)
    work = asyncio.create_task(child.execute(REQUEST))
    await asyncio.sleep(0)
    ended = await child.stop()
    assert ended is not None
    assert ended.code == -15
    with pytest.raises(ChildLostError, match="SIGTERM"):
        await work


async def test_a_child_that_does_not_die_is_lost_to_any_further_request(
    make: MakeChild, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = await make(f"{BEGIN}\ntime.sleep(60)")
    await child.ready(10)
    with monkeypatch.context() as driver_hangs:
        driver_hangs.setattr(child_process, "_KILL_PATIENCE", 0.05)
        driver_hangs.setattr(Child, "_signal", lambda *_: None)
        assert await child.stop() is None
        with pytest.raises(ChildLostError, match="does not die"):
            await child.execute(REQUEST)


def test_the_command_can_be_replaced() -> None:
    assert command({})[1:] == ["-P", "-m", "computepool_worker.child"]
    assert command({"COMPUTEPOOL_WORKER_CHILD": "python3 '/opt/a b.py' -v"}) == [
        "python3",
        "/opt/a b.py",
        "-v",
    ]


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (0, "exited with code 0"),
        (137, "exited with code 137"),
        (-11, "was killed by SIGSEGV"),
        (-9, "was killed by SIGKILL (often the kernel, for want of memory)"),
        (-77, "was killed by signal 77"),
    ],
)
def test_an_exit_in_words(code: int, text: str) -> None:
    assert str(Exit(code, 0, 0.0)) == text
