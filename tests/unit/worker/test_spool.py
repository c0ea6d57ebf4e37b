"""Finished results on a volume: whole entries, used by whoever holds a new claim."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from computepool_worker.fingerprint import Fingerprint
from computepool_worker.logs import EventLog
from computepool_worker.spool import Spool

TASK = "Task-0123456789abcdef0123456789abcdef-a-b-c"
OTHER = "Task-ffffffffffffffffffffffffffffffff-a-b-c"
WHAT = Fingerprint("digest-1", "Transformation-1")
NOW = 1_800_000_000.0


@pytest.fixture
def result(tmp_path: Path) -> Path:
    path = tmp_path / "result.json"
    path.write_text('{"latin-1": "a result"}')
    return path


@pytest.fixture
def taken(tmp_path: Path) -> Path:
    return tmp_path / "taken.json"


def spool_at(directory: Path | None, *, max_age: float = 1e6, max_bytes: int = 10**6) -> Spool:
    return Spool(
        directory,
        max_age=max_age,
        max_bytes=max_bytes,
        log=EventLog(logging.getLogger("test.spool")),
        now=lambda: NOW,
    )


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return spool_at(tmp_path / "spool")


def left(spool_directory: Path) -> list[str]:
    return sorted(path.name for path in spool_directory.iterdir())


def test_what_was_kept_is_found_by_another_worker(
    spool: Spool, tmp_path: Path, result: Path, taken: Path
) -> None:
    spool.keep(TASK, WHAT, result, ok=True)
    entry = spool_at(tmp_path / "spool").find(TASK, WHAT, taken)
    assert entry is not None
    assert (entry.task, entry.ok, entry.created) == (TASK, True, NOW)
    assert entry.transformation == "Transformation-1"
    assert taken.read_bytes() == result.read_bytes()


def test_finding_takes_nothing_away(spool: Spool, result: Path, taken: Path) -> None:
    spool.keep(TASK, WHAT, result, ok=True)
    assert spool.find(TASK, WHAT, taken) == spool.find(TASK, WHAT, taken) is not None


def test_what_the_server_has_taken_is_dropped(
    spool: Spool, tmp_path: Path, result: Path, taken: Path
) -> None:
    spool.keep(TASK, WHAT, result, ok=True)
    spool.keep(OTHER, WHAT, result, ok=True)
    spool.drop(TASK)
    assert spool.find(TASK, WHAT, taken) is None
    assert not taken.exists()
    assert [name.rpartition(".")[0] for name in left(tmp_path / "spool")] == [OTHER]


@pytest.mark.parametrize(
    ("ok", "sent", "not_sent", "found"),
    [
        (True, False, False, True),
        (True, True, False, True),
        (False, False, False, True),
        (False, True, False, False),
        (False, True, True, True),
    ],
)
def test_a_failure_that_the_server_may_have_is_not_pushed_again(
    spool: Spool, result: Path, taken: Path, ok: bool, sent: bool, not_sent: bool, found: bool
) -> None:
    spool.keep(TASK, WHAT, result, ok=ok)
    if sent:
        spool.mark_sent(TASK)
    if not_sent:
        spool.mark_not_sent(TASK)
    assert (spool.find(TASK, WHAT, taken) is not None) is found


def test_a_result_that_is_refused_again_and_again_is_computed_anew(
    spool: Spool, tmp_path: Path, result: Path, taken: Path
) -> None:
    spool.keep(TASK, WHAT, result, ok=True)
    spool.keep(OTHER, WHAT, result, ok=True)
    for _ in range(3):
        assert spool.find(TASK, WHAT, taken) is not None
        spool.mark_refused(TASK)
    assert spool.find(TASK, WHAT, taken) is None
    assert not taken.exists()
    assert spool.find(OTHER, WHAT, taken) is not None
    spool.keep(TASK, WHAT, result, ok=True)
    assert spool.find(TASK, WHAT, taken) is not None


def test_a_result_of_another_transformation_is_never_used(
    spool: Spool, tmp_path: Path, result: Path, taken: Path
) -> None:
    spool.keep(TASK, WHAT, result, ok=True)
    assert spool.find(TASK, Fingerprint("digest-2", "Transformation-1"), taken) is None
    assert left(tmp_path / "spool") == []


@pytest.mark.parametrize("file", ["entry.json", "result.json"])
@pytest.mark.parametrize("damage", ["cut", "empty", "gone", "changed"])
def test_a_damaged_entry_is_passed_over(
    spool: Spool, tmp_path: Path, result: Path, taken: Path, file: str, damage: str
) -> None:
    spool.keep(TASK, WHAT, result, ok=True)
    (path,) = (tmp_path / "spool").glob(f"{TASK}.*")
    target = path / file
    content = target.read_bytes()
    match damage:
        case "cut":
            target.write_bytes(content[: len(content) // 2])
        case "empty":
            target.write_bytes(b"")
        case "gone":
            target.unlink()
        case "changed":
            target.write_bytes(content.replace(b"a", b"b"))
    assert spool.find(TASK, WHAT, taken) is None
    assert not taken.exists()
    assert left(tmp_path / "spool") == []


def test_a_damaged_entry_does_not_hide_a_whole_one(
    spool: Spool, tmp_path: Path, result: Path, taken: Path
) -> None:
    spool.keep(TASK, WHAT, result, ok=True)
    damaged = tmp_path / "spool" / f"{TASK}.damaged"
    damaged.mkdir()
    (damaged / "entry.json").write_text("{}")
    os.utime(damaged, (NOW, NOW))
    assert spool.find(TASK, WHAT, taken) is not None


@pytest.mark.parametrize("bytes_written", [0, 1, 10, 100, 250, 400])
def test_killed_at_any_byte_there_is_a_whole_entry_or_none(
    tmp_path: Path, result: Path, taken: Path, bytes_written: int
) -> None:
    """The size limit of the shell kills the writer in the middle of a file."""
    result.write_text("x" * 300)
    program = f"""
import logging, os, pathlib, computepool_worker.spool as spool
left = {bytes_written}
class File:
    def __init__(self, file): self.file = file
    def __enter__(self): return self
    def __exit__(self, *_): self.file.close()
    def fileno(self): return self.file.fileno()
    def flush(self): self.file.flush()
    def read(self, size): return self.file.read(size)
    def write(self, data):
        global left
        self.file.write(data[:left])
        left -= len(data)
        if left < 0:
            self.file.flush()
            os.kill(os.getpid(), 9)
real = pathlib.Path.open
pathlib.Path.open = lambda path, *a, **n: File(real(path, *a, **n))
from computepool_worker.fingerprint import Fingerprint
from computepool_worker.logs import EventLog
spool.Spool(pathlib.Path({str(tmp_path / "spool")!r}), max_age=1e6, max_bytes=10**6,
    log=EventLog(logging.getLogger())).keep(
    {TASK!r}, Fingerprint("digest-1", "Transformation-1"), pathlib.Path({str(result)!r}), ok=True)
"""
    ended = subprocess.run([sys.executable, "-c", program], check=False, timeout=20)
    assert ended.returncode == -9
    assert spool_at(tmp_path / "spool").find(TASK, WHAT, taken) is None
    assert not taken.exists()


def test_a_spool_that_cannot_be_written_costs_no_worker(
    tmp_path: Path, result: Path, taken: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "spool").write_text("not a directory")
    spool = spool_at(tmp_path / "spool")
    spool.keep(TASK, WHAT, result, ok=True)
    spool.mark_sent(TASK)
    assert spool.find(TASK, WHAT, taken) is None
    spool.drop(TASK)
    spool.sweep()
    assert "spool.not_written" in caplog.messages


def test_without_a_spool_nothing_happens(result: Path, taken: Path) -> None:
    spool = spool_at(None)
    spool.keep(TASK, WHAT, result, ok=True)
    spool.sweep()
    assert spool.find(TASK, WHAT, taken) is None


def age(path: Path, seconds: float) -> None:
    os.utime(path, (NOW - seconds, NOW - seconds))


def test_what_is_too_old_is_swept_and_so_is_what_was_never_finished(
    tmp_path: Path, result: Path
) -> None:
    directory = tmp_path / "spool"
    spool = spool_at(directory, max_age=1000)
    for task, seconds in ((TASK, 999.0), (OTHER, 1001.0)):
        spool.keep(task, WHAT, result, ok=True)
        (path,) = directory.glob(f"{task}.*")
        age(path, seconds)
    for name, seconds in ((".unfinished-a", 1e5), (".unfinished-b", 10), (".removed-c", 1e5)):
        (directory / name).mkdir()
        age(directory / name, seconds)
    (directory / "lost+found").mkdir()
    age(directory / "lost+found", 1e7)
    spool.sweep()
    assert [name.partition(".")[0] or name for name in left(directory)] == [
        ".unfinished-b", TASK, "lost+found",
    ]  # fmt: skip


def test_when_it_is_too_much_the_oldest_go_first(tmp_path: Path, result: Path) -> None:
    directory = tmp_path / "spool"
    spool = spool_at(directory, max_bytes=1000)
    result.write_text(json.dumps("x" * 400))
    tasks = [f"Task-{number:032x}-a-b-c" for number in range(4)]
    for number, task in enumerate(tasks):
        spool.keep(task, WHAT, result, ok=True)
        (path,) = directory.glob(f"{task}.*")
        age(path, 100 - number)
    spool.sweep()
    assert [name.partition(".")[0] for name in left(directory)] == [tasks[3]]
