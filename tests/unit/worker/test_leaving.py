import asyncio
import subprocess
import sys
import threading
import time

import pytest

from computepool_worker import leaving


def left(main: str) -> "subprocess.CompletedProcess[str]":
    """Run a program whose main function is ``main``, with a thread that never ends."""
    program = f"""
import sys, threading
from computepool_worker import leaving, logs
threading.Thread(target=threading.Event().wait).start()
def main():
    {main}
leaving.leave(main)
"""
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=False
    )


@pytest.mark.parametrize(
    ("main", "code"),
    [
        ("return 143", 143),
        ("sys.exit(2)", 2),
        ("sys.exit()", 0),
        ("sys.exit('why')", 1),
    ],
)
def test_the_code_is_told_whatever_hangs(main: str, code: int) -> None:
    assert left(main).returncode == code


def test_what_was_printed_and_logged_last_is_seen() -> None:
    ended = left(
        "log = logs.configure(level='INFO', form='text', logfile=None)\n"
        "    print('to stdout')\n"
        "    for number in range(1000): log.info('event', number=number)\n"
        "    return 0"
    )
    assert ended.stdout == "to stdout\n"
    lines = ended.stderr.splitlines()
    assert len(lines) == 1000
    assert lines[-1].endswith("event=event number=999")


def test_a_fault_of_the_program_is_shown_with_its_traceback() -> None:
    ended = left(
        "logs.configure(level='INFO', form='text', logfile=None).info('before')\n    return 1 / 0"
    )
    assert ended.returncode == 1
    lines = ended.stderr.splitlines()
    assert lines[-1] == "ZeroDivisionError: division by zero"
    assert "Traceback (most recent call last):" in lines


def test_a_loop_ends_without_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaving, "_THREADS_PATIENCE", 0.2)
    hangs = threading.Event()

    async def abandon() -> str:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.to_thread(hangs.wait), 0.01)
        return "done"

    begin = time.monotonic()
    assert leaving.run(abandon()) == "done"
    assert 0.1 < time.monotonic() - begin < 2
    hangs.set()


def test_a_loop_waits_for_a_thread_that_is_about_to_end() -> None:
    written: list[str] = []

    def write() -> None:
        time.sleep(0.2)
        written.append("all of it")

    async def abandon() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.to_thread(write), 0.01)

    leaving.run(abandon())
    assert written == ["all of it"]
