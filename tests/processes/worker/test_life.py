"""The life of a worker, seen from the server, the pod and the log."""

import os
import re
import signal
import sys
import uuid
from importlib.util import find_spec
from pathlib import Path

import pytest
from processes.worker.harness import Pool, Worker, until

from computepool_api.outcomes import Outcome
from simulator.process import SimulatorProcess


def test_a_task_is_claimed_executed_and_pushed_and_nothing_is_left(pool: Pool) -> None:
    (task,) = pool.admin.add_tasks(1, seconds=0.1, units=2)
    worker = pool.worker()
    assert worker.run() is Outcome.DONE
    view = pool.admin.task(task)
    assert (view.status, len(view.results)) == ("complete", 1)
    (result,) = pool.admin.results(task)
    assert result.ok
    assert result.document[-1][1]["name"] == task
    assert pool.admin.services() == []
    assert worker.left_behind() == []
    message = worker.message()
    assert message is not None
    assert (message.outcome, message.tasks_done, message.tasks_failed) == (Outcome.DONE, 1, 0)


def test_a_task_costs_the_server_no_more_requests_than_it_must(pool: Pool) -> None:
    pool.admin.add_tasks(2)
    assert pool.worker(max_tasks=2).run() is Outcome.DONE
    of_a_task = [
        "claim",
        "transformation_gufe",
        # The probe, and whether its 500 says "taken": the registration is held.
        "service_register",
        "check",
        "results",
    ]
    asked = [entry.endpoint for entry in pool.admin.audit()]
    assert asked == ["token", "service_register", *of_a_task, *of_a_task, "service_deregister"]


def test_old_servers_send_the_transformation_as_a_string(pool: Pool) -> None:
    pool.admin.set(transformation_form="json_string")
    (task,) = pool.admin.add_tasks(1)
    assert pool.worker().run() is Outcome.DONE
    assert pool.admin.task(task).status == "complete"


def test_a_task_that_extends_another_is_given_its_result(pool: Pool) -> None:
    (parent,) = pool.admin.add_tasks(1)
    (child,) = pool.admin.add_tasks(1, extends=parent)
    assert pool.worker(max_tasks=2).run() is Outcome.DONE
    parent_key = pool.admin.results(parent)[0].document[-1][0]
    assert pool.admin.results(child)[0].document[-1][1]["extends_key"] == parent_key


def test_nothing_to_claim_means_leaving_at_once(pool: Pool) -> None:
    worker = pool.worker()
    assert worker.run() is Outcome.DONE  # the exit code of NOTHING_TO_DO as well: 0
    message = worker.message()
    assert message is not None
    assert message.outcome is Outcome.NOTHING_TO_DO
    assert pool.admin.services() == []
    assert not worker.holding
    assert len(pool.admin.audit(endpoint="claim")) == 1


def test_a_worker_takes_no_more_tasks_than_it_may(pool: Pool) -> None:
    pool.admin.add_tasks(5)
    worker = pool.worker(max_tasks=3, claim_limit=2)
    assert worker.run() is Outcome.DONE
    assert pool.admin.counts() == {"complete": 3, "waiting": 2}
    message = worker.message()
    assert message is not None
    assert message.tasks_done == 3


def test_max_time_ends_no_task_but_begins_none_either(pool: Pool) -> None:
    pool.admin.add_tasks(3, seconds=0.2)
    worker = pool.worker(max_tasks=None, max_time=0.1, claim_limit=2)
    assert worker.run() is Outcome.DONE
    assert pool.admin.counts() == {"complete": 1, "waiting": 2}


def test_the_service_registers_under_its_manager_with_the_pods_uid(pool: Pool) -> None:
    manager = f"alchemiscale.a100-{uuid.uuid4().hex}"
    pool.admin.add_tasks(1, behaviour="hang")
    pool.register_manager(manager)
    pod = uuid.uuid4()
    worker = pool.worker(
        environment={"COMPUTEPOOL_POD_UID": str(pod)}, compute_manager_id=manager
    ).start()
    until(lambda: worker.holding, what="the worker holds a Task")
    (service,) = pool.admin.services()
    assert service.id == f"pool_job_1-{pod.hex}"
    assert service.manager_name == "alchemiscale.a100"


def test_the_command_line_wins_over_the_settings_file(pool: Pool) -> None:
    manager = f"other-{uuid.uuid4().hex}"
    pool.register_manager(manager)
    pool.admin.add_tasks(1, behaviour="hang")
    worker = pool.worker(arguments=["--name", "from-the-line", "-m", manager]).start()
    until(lambda: worker.holding, what="the worker holds a Task")
    (service,) = pool.admin.services()
    assert service.id.startswith("from_the_line-")
    assert service.manager_name == "other"


def test_holding_is_shown_from_the_claim_to_the_push(pool: Pool) -> None:
    gate = pool.directory / "gate"
    (task,) = pool.admin.add_tasks(1, stand_in={"gate": str(gate)})
    pool.admin.fault("claim", "latency", seconds=1.5, skip=1)
    worker = pool.worker(max_tasks=2).start()
    until(lambda: pool.admin.task(task).status == "running", what="the Task is claimed")
    until(lambda: worker.holding, what="the worker shows that it holds a Task")
    message = worker.message()
    assert message is not None
    assert (message.outcome, message.task) == (Outcome.HOLDING, task)
    gate.touch()
    until(lambda: pool.admin.task(task).status == "complete", what="the result is stored")
    until(lambda: not worker.holding, what="the worker shows that it holds none")
    assert len(pool.admin.services()) == 1
    assert worker.wait() is Outcome.DONE


def test_a_protocol_that_raises_has_its_failed_result_pushed(pool: Pool) -> None:
    (task,) = pool.admin.add_tasks(1, behaviour="raise")
    worker = pool.worker()
    assert worker.run() is Outcome.DONE
    (result,) = pool.admin.results(task)
    assert not result.ok
    assert "told to raise" in result.tracebacks[0]
    message = worker.message()
    assert message is not None
    assert (message.tasks_done, message.tasks_failed) == (0, 1)


def test_after_a_failure_the_next_task_gets_a_process_of_its_own(pool: Pool) -> None:
    pool.admin.add_tasks(1, behaviour="raise", priority=1)
    tasks = pool.admin.add_tasks(2, priority=2)
    worker = pool.worker(max_tasks=3)
    assert worker.run() is Outcome.DONE
    processes = {
        entry["outputs"]["process"]
        for task in tasks
        for key, entry in pool.admin.results(task)[0].document
        if key.startswith("ProtocolUnitResult")
    }
    assert len(processes) == 1
    assert len(worker.logged("device.fit")) == 2


def test_heartbeats_go_on_while_the_science_keeps_every_processor_busy(pool: Pool) -> None:
    pool.admin.add_tasks(1, behaviour="hog", seconds=1.0)
    assert pool.worker(heartbeat_interval=0.1).run() is Outcome.DONE
    assert len(pool.admin.audit(endpoint="service_heartbeat")) >= 4


def test_a_flood_of_output_neither_fills_the_memory_nor_the_log(pool: Pool) -> None:
    (task,) = pool.admin.add_tasks(1, behaviour="flood", stand_in={"bytes": 60_000_000})
    worker = pool.worker().start()
    peak = 0
    while worker.running.poll() is None:
        peak = max(peak, worker.peak_memory())
    assert worker.wait() is Outcome.DONE
    assert pool.admin.task(task).status == "complete"
    for event in ("child.output", "child.output.dropped"):
        assert f" task={task} " in worker.logged(event)[0]
    assert len(worker.log()) < 100_000
    assert 0 < peak < 60 * 2**20


def test_the_parent_stays_small(pool: Pool) -> None:
    pool.admin.add_tasks(1, behaviour="hang")
    worker = pool.worker().start()
    until(lambda: worker.logged("task.executing"), what="the Task is being executed")
    assert 0 < worker.peak_memory() < 60 * 2**20


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_in_the_middle_of_a_task_gives_it_back(pool: Pool, number: signal.Signals) -> None:
    (task,) = pool.admin.add_tasks(1, behaviour="hang")
    worker = pool.worker()
    worker.prefix = ["env", "--default-signal"]  # the tests may have been started under nohup
    worker.start()
    until(lambda: worker.logged("task.executing"), what="the Task is being executed")
    worker.signal(number)
    assert worker.wait(30) is Outcome.TERMINATED
    assert pool.admin.task(task).status == "waiting"
    assert pool.admin.services() == []
    assert pool.pushes() == 0
    assert worker.left_behind() == []
    message = worker.message()
    assert message is not None
    assert (message.outcome, message.task) == (Outcome.TERMINATED, task)


def test_under_nohup_a_closed_terminal_ends_nothing(pool: Pool, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    (task,) = pool.admin.add_tasks(1, stand_in={"gate": str(gate)})
    worker = pool.worker()
    worker.prefix = ["nohup"]
    worker.start()
    until(lambda: worker.logged("task.executing"), what="the Task is being executed")
    worker.signal(signal.SIGHUP)
    gate.touch()
    assert worker.wait() is Outcome.DONE
    assert pool.admin.task(task).status == "complete"


def test_a_second_signal_changes_nothing(pool: Pool) -> None:
    (task,) = pool.admin.add_tasks(1, behaviour="stubborn")
    worker = pool.worker().start()
    until(lambda: worker.logged("task.executing"), what="the Task is being executed")
    worker.signal(signal.SIGTERM)
    until(lambda: worker.logged("worker.leaving"), what="the worker leaves")
    worker.signal(signal.SIGTERM)
    worker.signal(signal.SIGINT)
    assert worker.wait(30) is Outcome.TERMINATED
    assert pool.admin.task(task).status == "waiting"
    assert pool.admin.services() == []


def _ignores_sigterm(process: int) -> bool:
    status = Path(f"/proc/{process}/status").read_text()
    (ignored,) = re.findall(r"^SigIgn:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return bool(int(ignored, 16) & 1 << (signal.SIGTERM - 1))


def test_a_signal_that_came_before_anything_listened_is_heeded(pool: Pool) -> None:
    (task,) = pool.admin.add_tasks(1)
    worker = pool.worker()
    state = worker.directory / "state"
    state.mkdir()
    (state / "stop").touch()  # as the pod's preStop hook does; the signal itself was lost
    assert worker.run() is Outcome.TERMINATED
    assert pool.admin.task(task).status == "waiting"
    assert pool.admin.services() == []
    assert worker.left_behind() == []
    assert pool.worker().run() is Outcome.DONE


def test_a_child_that_ignores_sigterm_is_killed(pool: Pool) -> None:
    pool.admin.add_tasks(1, behaviour="stubborn")
    worker = pool.worker(stop_grace=0.2).start()
    until(lambda: worker.logged("task.executing"), what="the Task is being executed")
    (child,) = re.findall(r" child=(\d+)", worker.logged("worker.started")[0])
    until(lambda: _ignores_sigterm(int(child)), what="the child ignores SIGTERM")
    worker.signal(signal.SIGTERM)
    assert worker.wait(30) is Outcome.TERMINATED
    assert "code=-9" in worker.logged("child.ended")[0]


def test_a_signal_before_the_child_is_ready_ends_it_too(pool: Pool) -> None:
    pool.admin.add_tasks(1)
    worker = pool.worker(environment={"COMPUTEPOOL_STANDIN_READY": "hang"}).start()
    until(lambda: pool.admin.services(), what="the service is registered")
    worker.signal(signal.SIGTERM)
    assert worker.wait(30) is Outcome.TERMINATED
    assert pool.admin.services() == []
    assert pool.admin.audit(endpoint="claim") == []


def test_a_signal_in_the_first_moment_is_not_lost(pool: Pool) -> None:
    pool.admin.add_tasks(1)
    worker = pool.worker().start()
    until(lambda: worker.logged("worker.started"), what="the worker has started")
    worker.signal(signal.SIGTERM)
    assert worker.wait(30) is Outcome.TERMINATED
    assert pool.admin.services() == []
    assert pool.admin.audit(endpoint="claim") == []


def test_what_the_science_has_started_ends_with_it(pool: Pool) -> None:
    (task,) = pool.admin.add_tasks(1, behaviour="fork")
    assert pool.worker().run() is Outcome.DONE
    document = pool.admin.results(task)[0].document
    (left,) = [
        entry["outputs"]["left_behind"]
        for key, entry in document
        if key.startswith("ProtocolUnitResult")
    ]
    until(lambda: not _alive(left), what="the science's own process is gone")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux adopts orphans")
@pytest.mark.parametrize("times", [0, 1, 9], ids=["ends well", "crashes once", "crashes"])
def test_what_has_left_the_sciences_session_ends_before_the_next_attempt_begins(
    pool: Pool, tmp_path: Path, times: int
) -> None:
    escaped = tmp_path / "escaped"
    stand_in = {"escaped": str(escaped), "counter": str(tmp_path / "counter"), "times": times}
    (task,) = pool.admin.add_tasks(1, behaviour="escape", stand_in=stand_in)
    worker = pool.worker(n_retries=1)
    assert worker.run() is Outcome.DONE
    assert pool.admin.task(task).status == ("error" if times > 1 else "complete")
    processes = [int(line) for line in escaped.read_text().split()]
    assert len(processes) == min(times, 1) + 1
    assert not [process for process in processes if _alive(process)]
    ended = worker.log().index("event=child.orphans_ended")
    assert times == 0 or ended < worker.log().index("event=task.retrying")
    assert len(worker.logged("child.orphans_ended")) == len(processes)


def test_a_killed_worker_takes_the_science_with_it(pool: Pool) -> None:
    pool.admin.add_tasks(1, behaviour="hang")
    worker = pool.worker().start()
    until(lambda: worker.logged("task.executing"), what="the Task is being executed")
    (line,) = worker.logged("worker.started")
    child = int(line.rpartition("child=")[2])
    assert _alive(child)
    worker.kill()
    until(lambda: not _alive(child), what="the child is gone")


@pytest.mark.parametrize(
    ("behaviour", "stand_in", "what"),
    [
        ("segfault", {}, "was killed by SIGSEGV"),
        ("abort", {}, "was killed by SIGABRT"),
        ("killed", {}, "was killed by SIGKILL"),
        ("exit", {"code": 7}, "exited with code 7"),
    ],
)
def test_a_task_whose_process_dies_is_failed_with_the_story_in_its_traceback(
    pool: Pool, behaviour: str, stand_in: dict[str, int], what: str
) -> None:
    (task,) = pool.admin.add_tasks(1, behaviour=behaviour, stand_in=stand_in)
    worker = pool.worker(n_retries=1)
    assert worker.run() is Outcome.DONE
    view = pool.admin.task(task)
    assert (view.status, len(view.results)) == ("error", 1)
    assert pool.admin.services() == []
    assert worker.left_behind() == []
    (traceback,) = pool.admin.results(task)[0].tracebacks
    assert re.search(rf"Attempt 1: the process {re.escape(what)}.* MiB of memory", traceback)
    assert re.search(rf"Attempt 2: the process {re.escape(what)}.* MiB of memory", traceback)
    assert "the science is about to end" in traceback
    message = worker.message()
    assert message is not None
    assert (message.outcome, message.tasks_failed) == (Outcome.DONE, 1)
    assert _measured(worker, "cpu_seconds") > 0
    assert _measured(worker, "peak_memory_mib") > 0
    used = re.search(r"at most (\d+) MiB of memory", message.detail)
    assert used is not None
    assert int(used[1]) > 0


def test_what_an_earlier_task_has_used_is_not_held_against_one_that_crashes(pool: Pool) -> None:
    pool.admin.add_tasks(1, behaviour="hog", seconds=1.0, priority=1)
    pool.admin.add_tasks(1, behaviour="segfault", priority=2)
    worker = pool.worker(max_tasks=2)
    assert worker.run() is Outcome.DONE
    assert 0 < _measured(worker, "cpu_seconds", task=1) < _measured(worker, "cpu_seconds", task=0)


def test_a_task_whose_process_dies_once_is_executed_by_another(pool: Pool, tmp_path: Path) -> None:
    stand_in = {"counter": str(tmp_path / "counter"), "times": 2}
    (task,) = pool.admin.add_tasks(1, behaviour="flaky", stand_in=stand_in)
    worker = pool.worker(n_retries=2)
    assert worker.run() is Outcome.DONE
    assert pool.admin.task(task).status == "complete"
    assert len(worker.logged("task.retrying")) == 2
    assert worker.left_behind() == []


def test_a_child_that_cannot_even_fail_a_task_gives_it_back(pool: Pool) -> None:
    (task,) = pool.admin.add_tasks(1, behaviour="segfault", stand_in={"fails_hard": True})
    worker = pool.worker()
    assert worker.run() is Outcome.TASK_CRASHED
    assert pool.admin.task(task).status == "waiting"
    assert pool.pushes() == 0
    message = worker.message()
    assert message is not None
    assert message.task == task
    assert "SIGSEGV" in message.detail


def test_a_task_that_is_silent_for_too_long_counts_as_hanging(pool: Pool) -> None:
    (task,) = pool.admin.add_tasks(1, behaviour="hang")
    worker = pool.worker(max_silence=0.5)
    assert worker.run() is Outcome.DONE
    (traceback,) = pool.admin.results(task)[0].tracebacks
    assert "gave no sign of life for 0.5 s and was ended" in traceback


def test_a_task_that_prints_is_not_silent(pool: Pool) -> None:
    (task,) = pool.admin.add_tasks(1, seconds=1.2, units=6)
    assert pool.worker(max_silence=0.6).run() is Outcome.DONE
    assert pool.admin.task(task).status == "complete"


def test_a_child_that_breaks_the_protocol_is_ended(pool: Pool) -> None:
    (task,) = pool.admin.add_tasks(1, behaviour="gibberish", seconds=60)
    worker = pool.worker()
    assert worker.run() is Outcome.DONE
    (traceback,) = pool.admin.results(task)[0].tracebacks
    assert "broke the protocol" in traceback


@pytest.mark.parametrize(
    ("behaviour", "outcome"),
    [("refuse", Outcome.TASK_UNUSABLE), ("refuse_host", Outcome.TASK_CRASHED)],
)
def test_a_task_without_a_result_is_given_back(
    pool: Pool, behaviour: str, outcome: Outcome
) -> None:
    (task,) = pool.admin.add_tasks(1, behaviour=behaviour)
    worker = pool.worker()
    assert worker.run() is outcome
    assert pool.admin.task(task).status == "waiting"
    message = worker.message()
    assert message is not None
    assert (message.task, message.detail) == (task, f"told to {behaviour}")


@pytest.mark.parametrize(
    ("ready", "reason"),
    [
        ("unfit", "there is no platform CUDA"),
        ("crash", "the driver has gone"),
        ("hang", "did not get ready within"),
    ],
)
def test_nothing_is_claimed_with_an_unfit_device(pool: Pool, ready: str, reason: str) -> None:
    pool.admin.add_tasks(1)
    worker = pool.worker(
        environment={"COMPUTEPOOL_STANDIN_READY": ready},
        openmm_platform="CUDA",
        ready_timeout=0.5 if ready == "hang" else 30,
    )
    assert worker.run() is Outcome.DEVICE_UNFIT
    assert pool.admin.audit(endpoint="claim") == []
    assert pool.admin.services() == []
    message = worker.message()
    assert message is not None
    assert reason in message.detail


@pytest.mark.skipif(find_spec("gufe") is not None, reason="gufe is here: its own tests run")
def test_the_real_child_says_that_there_is_no_gufe(pool: Pool) -> None:
    pool.admin.add_tasks(1)
    worker = pool.worker(child="")
    assert worker.run() is Outcome.IMAGE_UNFIT
    assert pool.admin.audit(endpoint="claim") == []
    message = worker.message()
    assert message is not None
    assert "No module named 'gufe'" in message.detail


def test_the_worker_registers_while_the_child_gets_ready(pool: Pool) -> None:
    pool.admin.add_tasks(1)
    worker = pool.worker(environment={"COMPUTEPOOL_STANDIN_READY_SECONDS": "1.5"})
    assert worker.run() is Outcome.DONE
    (registered,) = worker.logged("service.registered")
    (fit,) = worker.logged("device.fit")
    assert registered < fit


def test_no_secret_is_shown_anywhere(pool: Pool) -> None:
    key = "a-key-that-nobody-may-read"
    pool.admin.add_identity("secretive", key, ["*-*-*"])
    pool.admin.fault("token", "status", status=422, body=f'{{"detail": [{{"input": "{key}"}}]}}')
    pool.admin.add_tasks(1)
    worker = pool.worker(identifier="secretive", key=key)
    worker.run()
    assert worker.logged("worker.left")
    for file in (worker.log_file, worker.termination_file):
        assert key not in file.read_text()


def test_the_child_is_told_no_secret(pool: Pool) -> None:
    pool.admin.add_tasks(1, behaviour="hang")
    worker = pool.worker().start()
    until(lambda: worker.logged("task.executing"), what="the Task is being executed")
    (line,) = worker.logged("worker.started")
    child = int(line.rpartition("child=")[2])
    for what in ("environ", "cmdline"):
        assert SimulatorProcess.key.encode() not in Path(f"/proc/{child}/{what}").read_bytes()


def _measured(worker: Worker, name: str, task: int = 0) -> float:
    """Return a number that the log has of the executed Task number `task`."""
    (value,) = re.findall(rf" {name}=([\d.e-]+)", worker.logged("task.executed")[task])
    return float(value)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
