from pathlib import Path

import pytest

from computepool_worker import memory
from computepool_worker.crashes import Crash, Surroundings, host_fault, story

ROOMY = 10**9


@pytest.mark.parametrize(
    ("before", "after", "blamed"),
    [
        (Surroundings(0, ROOMY), Surroundings(0, ROOMY), None),
        (Surroundings(None, ROOMY), Surroundings(None, ROOMY), None),
        (Surroundings(3, ROOMY), Surroundings(3, ROOMY), None),
        (Surroundings(3, ROOMY), Surroundings(4, ROOMY), "want of memory"),
        (Surroundings(0, ROOMY), Surroundings(0, 4096), "scratch space is full"),
        (Surroundings(None, ROOMY), Surroundings(None, 0), "scratch space is full"),
    ],
)
def test_whose_fault_a_death_is(
    before: Surroundings, after: Surroundings, blamed: str | None
) -> None:
    fault = host_fault(before, after)
    assert (fault is None) if blamed is None else (fault is not None and blamed in fault)


def test_the_story_has_every_attempt_and_the_last_words() -> None:
    told = story(
        [
            Crash("was killed by SIGSEGV", ("first words",), 2**30, 3.25),
            Crash("exited with code 7", ("Fatal", "last words"), None, 60),
        ]
    )
    assert told.splitlines() == [
        "This Task was executed by a process that died, so there is no traceback of Python's own.",
        (
            "Attempt 1: the process was killed by SIGSEGV after 3.2 s, after using at most "
            "1024 MiB of memory."
        ),
        "Attempt 2: the process exited with code 7 after 60.0 s.",
        "The end of its stderr:",
        "Fatal",
        "last words",
    ]


@pytest.mark.parametrize("count", [1, 500])
def test_a_story_of_any_length_passes_the_pipe(count: int) -> None:
    crash = Crash("exited with code 1", ("x" * 2000,) * 100, 1, 1)
    assert 0 < len(story([crash] * count)) <= 7100


@pytest.mark.parametrize(
    ("cgroups", "file", "content"),
    [
        ("0::/pods/one\n", "pods/one/memory.events", "oom 2\noom_kill 7\noom_group_kill 0\n"),
        ("0::/pods/one\n", "memory.events", "oom 2\noom_kill 7\n"),
        ("4:cpu:/x\n3:memory:/a\n", "memory/a/memory.oom_control", "under_oom 0\noom_kill 7\n"),
        ("3:cpu,memory:/a\n0::/\n", "memory/memory.oom_control", "under_oom 0\noom_kill 7\n"),
    ],
)
def test_where_the_kernel_counts_its_kills(
    tmp_path: Path, cgroups: str, file: str, content: str
) -> None:
    (tmp_path / "self").write_text(cgroups)
    path = tmp_path / "fs" / file
    path.parent.mkdir(parents=True)
    path.write_text(content)
    assert memory.kills(tmp_path / "self", tmp_path / "fs") == 7


@pytest.mark.parametrize("cgroups", ["0::/\n", "", "3:cpu:/a\n"])
def test_where_it_does_not_say(tmp_path: Path, cgroups: str) -> None:
    (tmp_path / "self").write_text(cgroups)
    assert memory.kills(tmp_path / "self", tmp_path) is None
    assert memory.kills(tmp_path / "nothing", tmp_path) is None
