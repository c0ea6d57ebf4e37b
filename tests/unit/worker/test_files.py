"""Presence, termination message and the directories of a Task."""

from pathlib import Path

import pytest

from computepool_api.outcomes import Outcome, TerminationMessage
from computepool_worker.presence import Presence
from computepool_worker.scratch import TaskDirectories
from computepool_worker.termination import DEFAULT_PATH, TerminationLog

TASK = "Task-0123456789abcdef0123456789abcdef-a-b-c"


def test_presence(tmp_path: Path) -> None:
    presence = Presence(tmp_path / "state")
    presence.prepare()
    holding = tmp_path / "state" / "holding"
    assert not holding.exists()
    presence.hold(TASK)
    assert holding.read_text() == f"{TASK}\n"
    presence.hold(TASK)
    presence.release()
    presence.release()
    assert not holding.exists()


def test_the_presence_of_a_killed_worker_is_taken_away(tmp_path: Path) -> None:
    Presence(tmp_path).hold(TASK)
    Presence(tmp_path).prepare()
    assert list(tmp_path.iterdir()) == []


def test_being_told_to_stop_before_the_start_is_heeded_once(tmp_path: Path) -> None:
    presence = Presence(tmp_path)
    assert not presence.told_to_stop()
    (tmp_path / "stop").touch()
    assert presence.told_to_stop()
    assert not presence.told_to_stop()


def test_without_a_directory_nothing_is_shown() -> None:
    presence = Presence(None)
    presence.prepare()
    assert not presence.told_to_stop()
    presence.hold(TASK)
    presence.release()


def test_the_termination_message_replaces_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "termination-log"
    log = TerminationLog.from_environment({"COMPUTEPOOL_TERMINATION_LOG": str(path)})
    log.write(TerminationMessage(Outcome.HOLDING, TASK, detail="x" * 100))
    log.write(TerminationMessage(Outcome.DONE, tasks_done=1))
    message = TerminationMessage.parse(path.read_text())
    assert message == TerminationMessage(Outcome.DONE, tasks_done=1)


def test_outside_a_pod_the_termination_message_goes_nowhere() -> None:
    if DEFAULT_PATH.exists():
        pytest.skip("this runs in a pod")
    TerminationLog.from_environment({}).write(TerminationMessage(Outcome.DONE))
    assert not DEFAULT_PATH.exists()


def make(base: Path, *, keep_shared: bool = False, keep_scratch: bool = False) -> TaskDirectories:
    return TaskDirectories.make(
        TASK,
        shared_basedir=base / "shared",
        scratch_basedir=base / "scratch",
        keep_shared=keep_shared,
        keep_scratch=keep_scratch,
    )


def test_the_directories_are_made_all_or_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        TaskDirectories.make(
            "Task-1",
            shared_basedir=tmp_path / "shared",
            scratch_basedir=tmp_path / "file" / "scratch",
            keep_shared=True,
            keep_scratch=False,
        )
    assert list((tmp_path / "shared").iterdir()) == []


def test_directories_of_two_workers_with_one_task_do_not_meet(tmp_path: Path) -> None:
    first, second = make(tmp_path), make(tmp_path)
    directories = {
        first.shared, first.scratch, first.exchange,
        second.shared, second.scratch, second.exchange,
    }  # fmt: skip
    assert len(directories) == 6
    assert all(directory.is_dir() for directory in directories)


@pytest.mark.parametrize("keep_shared", [True, False])
@pytest.mark.parametrize("keep_scratch", [True, False])
def test_removal(tmp_path: Path, keep_shared: bool, keep_scratch: bool) -> None:
    directories = make(tmp_path, keep_shared=keep_shared, keep_scratch=keep_scratch)
    for directory in (directories.shared, directories.scratch, directories.exchange):
        (directory / "deep").mkdir()
        (directory / "deep" / "file").write_text("data")
    assert directories.remove() == []
    assert directories.shared.exists() is keep_shared
    assert directories.scratch.exists() is keep_scratch
    assert not directories.exchange.exists()


def test_what_cannot_be_removed_is_told(tmp_path: Path) -> None:
    directories = make(tmp_path)
    directories.shared.rmdir()
    (problem,) = directories.remove()
    assert problem.startswith(f"{directories.shared}: ")
    assert not directories.scratch.exists()
