from pathlib import Path

import pytest

from computepool_worker.crashes import Crash, Surroundings, host_fault, reached_limit, story
from computepool_worker.memory import Shortages, shortages

ROOMY = 10**9
NONE = Shortages(0, 0)


@pytest.mark.parametrize(
    ("before", "after", "blamed"),
    [
        (Surroundings(NONE, ROOMY), Surroundings(NONE, ROOMY), None),
        (Surroundings(None, ROOMY), Surroundings(None, ROOMY), None),
        (Surroundings(NONE, ROOMY), Surroundings(None, ROOMY), None),
        (Surroundings(Shortages(3, 1), ROOMY), Surroundings(Shortages(3, 1), ROOMY), None),
        (Surroundings(Shortages(3, 1), ROOMY), Surroundings(Shortages(3, 9), ROOMY), None),
        (Surroundings(NONE, ROOMY), Surroundings(Shortages(1, 0), ROOMY), "want of memory"),
        (Surroundings(NONE, ROOMY), Surroundings(Shortages(1, 1), ROOMY), None),
        (Surroundings(NONE, ROOMY), Surroundings(NONE, 4096), "scratch space is full"),
        (Surroundings(None, ROOMY), Surroundings(None, 0), "scratch space is full"),
    ],
)
def test_whose_fault_a_death_is(
    before: Surroundings, after: Surroundings, blamed: str | None
) -> None:
    fault = host_fault(before, after)
    assert (fault is None) if blamed is None else (fault is not None and blamed in fault)


@pytest.mark.parametrize(
    ("before", "after", "own"),
    [
        (NONE, NONE, False),
        (NONE, Shortages(1, 0), False),
        (NONE, Shortages(0, 1), False),
        (NONE, Shortages(1, 1), True),
        (Shortages(1, 1), Shortages(2, 2), True),
        (None, Shortages(1, 1), False),
        (NONE, None, False),
    ],
)
def test_a_limit_of_its_own_is_the_tasks_affair(
    before: Shortages | None, after: Shortages | None, own: bool
) -> None:
    assert reached_limit(Surroundings(before, ROOMY), Surroundings(after, ROOMY)) is own


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


V2 = "low 0\noom 2\noom_kill 7\noom_group_kill 0\n"
V1 = "oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"


@pytest.mark.parametrize(
    ("cgroups", "files", "at_limit"),
    [
        ("0::/pods/one\n", {"pods/one/memory.events": V2}, 2),
        ("0::/pods/one\n", {"memory.events": V2}, 2),
        ("0::/pods/one\n", {"pods/one/memory.events": "oom_kill 7\n", "memory.events": V2}, 0),
        (
            "4:cpu:/x\n3:memory:/a\n0::/\n",
            {"memory/a/memory.oom_control": V1, "memory/a/memory.failcnt": "12\n"},
            12,
        ),
        ("3:cpuset,memory:/a\n", {"memory/memory.oom_control": V1}, 0),
    ],
)
def test_where_the_kernel_counts(
    tmp_path: Path, cgroups: str, files: dict[str, str], at_limit: int
) -> None:
    (tmp_path / "self").write_text(cgroups)
    for file, content in files.items():
        path = tmp_path / "fs" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    assert shortages(tmp_path / "self", tmp_path / "fs") == Shortages(7, at_limit)


@pytest.mark.parametrize("cgroups", ["0::/\n", "", "3:cpu:/a\n"])
def test_where_it_does_not_say(tmp_path: Path, cgroups: str) -> None:
    (tmp_path / "self").write_text(cgroups)
    assert shortages(tmp_path / "self", tmp_path) is None
    assert shortages(tmp_path / "nothing", tmp_path) is None
