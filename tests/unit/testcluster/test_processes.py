import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from testcluster import processes
from testcluster.cache import locked
from testcluster.commands import run
from testcluster.errors import TestClusterError
from testcluster.processes import wait_until
from testcluster.state import StateFolder

STUBBORN = "trap '' TERM; echo ready; while :; do sleep 0.1; done"


def log_has(path: Path, text: str) -> bool:
    return path.exists() and text in path.read_text()


def test_a_process_is_in_a_session_of_its_own_and_logs(tmp_path: Path) -> None:
    log = tmp_path / "log"
    started = processes.start("one", ["sh", "-c", "echo said; exec sleep 60"], log, "m")
    assert os.getsid(started.pid) == started.pid
    wait_until(lambda: log_has(log, "said"), "output", timeout=20)
    processes.stop([started])
    assert not processes.is_alive(started)


def test_a_stubborn_process_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    started = processes.start("one", ["sh", "-c", STUBBORN], log, "m")
    wait_until(lambda: log_has(log, "ready"), "output", timeout=20)
    processes.stop([started], grace=0.2)
    assert not processes.is_alive(started)


def test_a_pid_that_belongs_to_somebody_else_now_is_not_signalled(tmp_path: Path) -> None:
    started = processes.start("one", ["sleep", "60"], tmp_path / "log", "m")
    older = replace(started, started=started.started - 1)
    assert not processes.is_alive(older)
    processes.stop([older], grace=0)
    assert processes.is_alive(started)
    processes.stop([started], grace=0)


def test_marked_processes_are_found_without_a_record(tmp_path: Path) -> None:
    started = processes.start("one", ["sleep", "60"], tmp_path / "log", "marker-of-this-test")
    (found,) = processes.marked("marker-of-this-test")
    assert (found.pid, found.started) == (started.pid, started.started)
    assert processes.marked("marker-of-this") == []
    processes.stop([found], grace=0)


def test_a_program_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(TestClusterError, match=r"cannot start one.*no-such-program"):
        processes.start("one", ["no-such-program"], tmp_path / "log", "m")


def test_waiting_ends_with_the_death_of_what_is_watched(tmp_path: Path) -> None:
    started = processes.start("one", ["sh", "-c", "echo why; exit 1"], tmp_path / "log", "m")
    with pytest.raises(TestClusterError, match=r"one died \(while waiting for rain\)[\s\S]*why"):
        wait_until(lambda: False, "rain", timeout=5, watched=[started])


def test_waiting_ends_with_the_time_and_names_the_logs(tmp_path: Path) -> None:
    started = processes.start("one", ["sleep", "60"], tmp_path / "log", "m")
    with pytest.raises(TestClusterError, match=f"rain: not so after 0 s.*\n.*{tmp_path}/log"):
        wait_until(lambda: False, "rain", timeout=0.1, watched=[started])
    processes.stop([started], grace=0)


def test_a_failed_command_tells_the_end_of_its_output() -> None:
    with pytest.raises(TestClusterError, match=r"exit code 3:\nthe reason"):
        run(["sh", "-c", "echo the reason >&2; exit 3"])
    with pytest.raises(TestClusterError, match="still running after 0 s"):
        run(["sleep", "60"], timeout=0.1)
    with pytest.raises(TestClusterError, match="cannot run `no-such-program x`"):
        run(["no-such-program", "x"])
    assert run(["cat"], text_input="in") == "in"


def test_two_builders_take_turns_and_the_second_says_that_it_waits(tmp_path: Path) -> None:
    lock, said = tmp_path / "lock", list[str]()
    code = (
        "import sys, time; from pathlib import Path; from testcluster.cache import locked\n"
        f"with locked(Path({str(lock)!r})):\n print('held', flush=True); time.sleep(0.3)"
    )
    environment = dict(os.environ) | {"PYTHONPATH": str(Path(processes.__file__).parents[1])}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        started = time.monotonic()
        with locked(lock, said.append):
            assert time.monotonic() - started > 0.1
    assert said == [f"another process holds {lock}; waiting for it"]


def test_state_survives_the_process_that_wrote_it(tmp_path: Path) -> None:
    state = StateFolder.create(tmp_path / "state")
    started = state.start("one", ["sleep", "60"])
    state.update(host_address="192.0.2.1")
    again = StateFolder.open(state.path)
    assert again is not None
    assert (again.id, again.processes, again.get("host_address")) == (
        state.id,
        [started],
        "192.0.2.1",
    )
    assert again.owner.pid == os.getpid()
    os.kill(started.pid, signal.SIGSTOP)  # stopped is not dead
    assert processes.is_alive(started)
    again.stop(["one"], grace=0)
    assert again.processes == []
    assert StateFolder.open(tmp_path) is None


def test_a_folder_with_other_things_in_it_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "letter").touch()
    with pytest.raises(TestClusterError, match="is not empty"):
        StateFolder.create(tmp_path)
