"""Every test is in one lane, and what a lane says is shown to whoever ran it."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lanes.running import ROOT, Run, report, run
from lanes.table import LANES, Lane, arguments, queues

TESTS = ROOT / "tests"
ONE, TWO = Lane("one", ("one",)), Lane("two", ("two",), cluster=False)


def files(lane: Lane) -> set[Path]:
    """The test files that pytest finds with the arguments of a lane."""
    found: set[Path] = set()
    ignored: set[Path] = set()
    for word in arguments(lane):
        path = ROOT / word.removeprefix("--ignore=")
        assert path.exists(), f"{path} has moved"
        those = {path} if path.is_file() else set(path.rglob("test_*.py"))
        if word.startswith("--ignore="):
            ignored |= those
        else:
            found |= those
    return found - ignored


def test_every_test_file_is_in_one_lane() -> None:
    in_lanes = [path for lane in LANES for path in files(lane)]
    assert sorted(in_lanes) == sorted(TESTS.rglob("test_*.py"))


def test_lanes_that_share_a_cluster_wait_for_each_other() -> None:
    assert queues([ONE, TWO], shared=False) == [[ONE], [TWO]]
    three = Lane("three", ("three",))
    assert queues([ONE, TWO, three], shared=True) == [[ONE, three], [TWO]]
    assert queues([TWO], shared=True) == [[TWO]]


def script(lane: Lane, said: dict[str, str], codes: dict[str, int]) -> list[str]:
    return [sys.executable, "-c", f"print({said[lane.name]!r}); exit({codes.get(lane.name, 0)})"]


PASSED = "t.py::test PASSED  [100%]\n[testcluster] a cluster comes up\n1 passed in 2.00s"
SUMMARY = "=== short test summary info ===\nSKIPPED [1] t.py: no GPU"
TROUBLE = "t.py::test FAILED [100%]\n=== FAILURES ===\ntrace"
FAILED = f"{TROUBLE}\n{SUMMARY}\nFAILED t.py::test - assert\n1 failed, 1 skipped in 0.1s"


def test_what_is_said_of_lanes() -> None:
    said = {"one": PASSED, "two": FAILED}
    shown: list[str] = []
    ran = asyncio.run(
        run([[ONE], [TWO]], lambda lane: script(lane, said, {"two": 1}), shown.append)
    )
    assert "one: [testcluster] a cluster comes up" in shown
    assert not any("100%" in line for line in shown)
    assert "two: trace" in shown
    assert [result.failed for result in ran] == [False, True]
    assert ran[0].percent == " 100%"

    shown.clear()
    assert report(ran, 3.0, shown.append) == 1
    assert shown[0] == "\n=== 2 lanes in 3 s"
    assert "1 passed in 2.00s" in shown[1]
    assert shown[-1] == "two: FAILED t.py::test - assert"


def test_what_uses_a_cluster_waits_for_the_preparation() -> None:
    shown: list[str] = []
    first = Lane("first", ())
    said = {"first": "1 prepared", "one": "1 passed", "two": "2 passed"}
    ran = asyncio.run(
        run([[ONE], [TWO]], lambda lane: script(lane, said, {}), shown.append, preparation=first)
    )
    assert [result.lane.name for result in ran] == ["first", "one", "two"]
    ends = [line.partition(":")[0] for line in shown]
    assert ends.index("first") < ends.index("one")
    assert ran[0].began + ran[0].seconds <= ran[1].began


def test_why_tests_were_skipped_is_said_of_a_lane_that_passed() -> None:
    shown: list[str] = []
    said = {"one": f"{SUMMARY}\n3 passed, 1 skipped in 0.1s"}
    (ran,) = asyncio.run(run([[ONE]], lambda lane: script(lane, said, {}), shown.append))
    assert shown[0] == "one: SKIPPED [1] t.py: no GPU"
    assert report([ran], 1.0, shown.append) == 0


def test_the_last_words_of_a_lane_that_never_began_are_shown() -> None:
    shown: list[str] = []
    said = {"one": "ERROR: unrecognized arguments"}
    asyncio.run(run([[ONE]], lambda lane: script(lane, said, {"one": 4}), shown.append))
    assert shown[0] == "one: ERROR: unrecognized arguments"


@pytest.mark.parametrize("code", [None, 1, 2, 3, 4, 5, -9])
def test_a_lane_that_ended_otherwise_has_failed(code: int | None) -> None:
    assert Run(ONE, ["interrupted"], code=code).failed


def test_an_interrupt_reaches_each_lane_once_and_is_waited_for(tmp_path: Path) -> None:
    """A second one would keep pytest from cleaning up."""
    program = tmp_path / "program.py"
    program.write_text(
        "import asyncio, sys\n"
        "from lanes.running import run\n"
        "from lanes.table import Lane\n"
        "lane = 'import time\\n"
        'try:\\n print("[begun]", flush=True); time.sleep(60)\\n'
        'except KeyboardInterrupt:\\n time.sleep(0.2); open("cleaned", "x")\'\n'
        "words = [sys.executable, '-c', lane.replace('cleaned', sys.argv[1])]\n"
        "lanes = [[Lane('one', ())]]\n"
        "asyncio.run(run(lanes, lambda _: words, lambda line: print(line, flush=True)))\n"
    )
    cleaned = tmp_path / "cleaned"
    with subprocess.Popen(
        [sys.executable, str(program), str(cleaned)],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "one: [begun]\n"
        os.killpg(running.pid, signal.SIGINT)  # as a terminal does
        assert running.wait(20) != 0
    assert cleaned.exists()
