"""Ephemeral, bounded and standing services; Tasks that are failed unseen; what is seen outside."""

import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
from processes.worker.harness import Pool, until

from computepool_api.outcomes import Outcome
from simulator.process import SimulatorProcess


def test_a_standing_service_sleeps_and_asks_again(pool: Pool) -> None:
    worker = pool.worker(ephemeral=False, max_tasks=None, sleep_interval=0.2).start()
    until(lambda: worker.logged("service.sleeping"), what="there was nothing to claim")
    assert len(pool.admin.services()) == 1
    tasks = pool.admin.add_tasks(2)
    until(lambda: pool.admin.counts() == {"complete": 2}, what="the Tasks are done")
    assert all(len(pool.admin.results(task)) == 1 for task in tasks)
    until(lambda: not worker.holding, what="it holds none")
    # Killed now, it takes no Task down with it.
    until(lambda: worker.termination_file.read_text() == "", what="its message names none")
    worker.signal(signal.SIGTERM)
    assert worker.wait(30) is Outcome.TERMINATED
    assert pool.admin.services() == []


def test_a_sleep_is_interrupted_by_a_signal(pool: Pool) -> None:
    worker = pool.worker(ephemeral=False, max_tasks=None, sleep_interval=600).start()
    until(lambda: worker.logged("service.sleeping"), what="there was nothing to claim")
    worker.signal(signal.SIGTERM)
    assert worker.wait(30) is Outcome.TERMINATED


def test_a_denied_standing_service_sleeps_deeply(pool: Pool) -> None:
    (task,) = pool.admin.add_tasks(1)
    pool.admin.fault("claim", "garbage", body="null")
    worker = pool.worker(ephemeral=False, deep_sleep_interval=0.5, sleep_interval=600)
    assert worker.run() is Outcome.DONE
    (slept,) = worker.logged("service.sleeping")
    assert "reason=denied" in slept
    assert pool.admin.task(task).status == "complete"


@pytest.mark.parametrize(
    "trouble",
    [
        {"endpoint": "claim", "kind": "reset", "when": "after"},
        {"endpoint": "results", "kind": "reset"},
        {"endpoint": "transformation_gufe", "kind": "status", "status": 500, "count": 2},
        {"endpoint": "claim", "kind": "status", "status": 404},
        {"endpoint": "results", "kind": "status", "status": 413},
        {"endpoint": "results", "kind": "status", "status": 422},
    ],
    ids=lambda fault: f"{fault['endpoint']}-{fault.get('status', fault['kind'])}",
)
def test_a_standing_service_registers_anew_after_a_trouble_that_passes(
    pool: Pool, trouble: dict[str, Any]
) -> None:
    (task,) = pool.admin.add_tasks(1)
    pool.admin.fault(**trouble)
    worker = pool.worker(ephemeral=False, max_tasks=None, sleep_interval=0.2).start()
    until(lambda: pool.admin.task(task).status == "complete", what="the Task is done")
    assert len(pool.admin.results(task)) == 1
    ids = {line.partition("service=")[2].split()[0] for line in worker.logged("worker.left")}
    (service,) = pool.admin.services()
    assert len(ids) == 1
    assert service.id not in ids
    worker.signal(signal.SIGTERM)
    assert worker.wait(30) is Outcome.TERMINATED
    assert pool.admin.services() == []


def test_a_404_to_a_later_life_of_a_standing_service_is_no_wrong_url(pool: Pool) -> None:
    (task,) = pool.admin.add_tasks(1)
    pool.admin.fault("claim", "status", status=404)
    pool.admin.fault("service_register", "status", status=404, skip=1)
    worker = pool.worker(ephemeral=False, max_tasks=None, sleep_interval=0.1).start()
    until(lambda: pool.admin.task(task).status == "complete", what="the Task is done")
    assert len(worker.logged("worker.left")) == 2
    assert pool.struck() == 2
    worker.signal(signal.SIGTERM)
    assert worker.wait(30) is Outcome.TERMINATED


def test_a_standing_service_leaves_when_its_results_are_forbidden(pool: Pool) -> None:
    pool.admin.add_tasks(1)
    pool.admin.fault("results", "status", status=403, body='{"detail": "no"}')
    worker = pool.worker(ephemeral=False, max_tasks=None)
    assert worker.run() is Outcome.SETTINGS_INVALID


def test_a_standing_service_leaves_when_a_person_is_needed(pool: Pool) -> None:
    worker = pool.worker(ephemeral=False, max_tasks=None, key="wrong")
    assert worker.run() is Outcome.CREDENTIALS_REFUSED


def test_a_bounded_service_waits_for_work_within_its_time(pool: Pool) -> None:
    worker = pool.worker(ephemeral=False, max_time=1.0, sleep_interval=0.2).start()
    until(lambda: worker.logged("service.sleeping"), what="there was nothing to claim")
    assert worker.wait() is Outcome.DONE
    message = worker.message()
    assert message is not None
    assert message.outcome is Outcome.NOTHING_TO_DO


def test_an_ephemeral_service_leaves_before_it_would_be_denied(pool: Pool) -> None:
    pool.admin.add_tasks(5, behaviour="raise")
    worker = pool.worker(max_tasks=None, claim_limit=2)
    assert worker.run() is Outcome.DONE
    assert pool.admin.counts() == {"error": 3, "waiting": 2}
    message = worker.message()
    assert message is not None
    assert (message.outcome, message.tasks_failed) == (Outcome.DONE, 3)
    assert "one failure more would be too many" in message.detail


def test_a_standing_service_sleeps_until_its_failures_are_forgiven(pool: Pool) -> None:
    pool.admin.add_tasks(2, behaviour="raise")
    worker = pool.worker(
        ephemeral=False, max_tasks=2, max_failures=1, forgive_time=1.5, sleep_interval=600
    )
    assert worker.run() is Outcome.DONE
    (slept,) = worker.logged("service.sleeping")
    assert "reason=failures" in slept
    first, second = pool.admin.audit(endpoint="results")
    assert second.wall - first.wall >= 1.5


def test_tasks_in_hand_are_given_back_before_that_sleep(pool: Pool) -> None:
    first = pool.admin.add_tasks(1, behaviour="raise", priority=1)
    (second,) = pool.admin.add_tasks(1, priority=2)
    worker = pool.worker(
        ephemeral=False,
        max_tasks=2,
        claim_limit=2,
        max_failures=1,
        forgive_time=3.0,
        heartbeat_interval=0.2,
    ).start()
    until(lambda: worker.logged("service.sleeping"), what="it sleeps")
    assert pool.admin.task(second).status == "waiting"
    assert pool.admin.services() == []
    assert not worker.holding
    assert worker.termination_file.read_text() == ""
    assert worker.wait() is Outcome.DONE
    assert pool.admin.counts() == {"error": 1, "complete": 1}
    assert [event["event"] for event in pool.admin.task(second).history][:4] == [
        "created", "claimed", "released", "claimed",
    ]  # fmt: skip
    audit = pool.admin.audit()
    given_back, left = (entry for entry in audit if entry.endpoint == "service_deregister")
    anew = [entry for entry in audit if entry.endpoint == "service_register"][2]
    assert anew.path == f"/computeservice/{given_back.path.split('/')[-2]}/register"
    # It pretends no life meanwhile, and what failed before counts on.
    assert not [
        entry
        for entry in audit
        if entry.endpoint == "service_heartbeat" and given_back.wall < entry.wall < anew.wall
    ]
    failure, success = (entry for entry in audit if entry.endpoint == "results")
    assert first[0] in failure.path
    assert success.wall - failure.wall >= 3.0
    assert len(worker.logged("service.sleeping")) == 1
    assert left.wall > success.wall


def test_a_signal_in_that_sleep_finds_nothing_to_give_back(pool: Pool) -> None:
    pool.admin.add_tasks(2, behaviour="raise")
    worker = pool.worker(
        ephemeral=False, max_tasks=None, claim_limit=2, max_failures=1, forgive_time=600
    ).start()
    until(lambda: worker.logged("service.sleeping"), what="it sleeps")
    worker.signal(signal.SIGTERM)
    assert worker.wait(30) is Outcome.TERMINATED
    assert pool.admin.counts() == {"error": 1, "waiting": 1}
    assert len(pool.admin.audit(endpoint="service_deregister")) == 1


def test_what_gives_tasks_back_is_repeated_under_another_id(pool: Pool) -> None:
    pool.admin.add_tasks(2, behaviour="raise")
    pool.admin.fault("service_deregister", "status", status=503, count=3)
    worker = pool.worker(
        ephemeral=False,
        max_tasks=None,
        claim_limit=2,
        max_failures=1,
        forgive_time=600,
        sleep_interval=0.2,
    ).start()
    until(lambda: pool.admin.counts() == {"error": 2}, what="another life has the second Task")
    assert not worker.logged("task.given_back")
    assert len(worker.logged("worker.left")) == 1
    worker.signal(signal.SIGTERM)
    assert worker.wait(30) is Outcome.TERMINATED
    assert pool.admin.services() == []


def test_a_poisonous_task_is_failed_without_being_run(pool: Pool, tmp_path: Path) -> None:
    bad, good = pool.admin.add_tasks(2, behaviour="ok")
    poison = tmp_path / "poison.json"
    poison.write_text(json.dumps([{"task": bad, "story": "it took node-1 and node-2 down"}]))
    worker = pool.worker(max_tasks=2, claim_limit=2, poison_file=str(poison))
    assert worker.run() is Outcome.DONE
    (result,) = pool.admin.results(bad)
    assert not result.ok
    assert result.tracebacks == ["it took node-1 and node-2 down"]
    assert pool.admin.task(good).status == "complete"
    (executed,) = worker.logged("task.executing")
    assert good in executed


def test_the_list_is_read_at_each_claim(pool: Pool, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    (first,) = pool.admin.add_tasks(1, priority=1, stand_in={"gate": str(gate)})
    (second,) = pool.admin.add_tasks(1, priority=2)
    poison = tmp_path / "poison.json"
    worker = pool.worker(max_tasks=2, poison_file=str(poison)).start()
    until(lambda: worker.logged("task.executing"), what="the first Task is being executed")
    poison.write_text(json.dumps([{"task": second, "story": "it has done harm"}]))
    gate.touch()
    assert worker.wait() is Outcome.DONE
    assert pool.admin.task(first).status == "complete"
    assert pool.admin.task(second).status == "error"


def test_a_list_that_cannot_be_read_fails_nobody(pool: Pool, tmp_path: Path) -> None:
    poison = tmp_path / "poison.json"
    poison.write_text("{")
    (task,) = pool.admin.add_tasks(1)
    worker = pool.worker(poison_file=str(poison))
    assert worker.run() is Outcome.DONE
    assert pool.admin.task(task).status == "complete"
    assert worker.logged("poison.not_readable")


def test_the_environment_fills_the_settings_and_the_child_sees_no_key(pool: Pool) -> None:
    (task,) = pool.admin.add_tasks(1, behaviour="hang")
    worker = pool.worker(
        api_url=None,
        identifier="${WHO}",
        key=None,
        name=None,
        environment={
            "ALCHEMISCALE_URL": pool.simulator.url,
            "ALCHEMISCALE_KEY": SimulatorProcess.key,
            "WHO": SimulatorProcess.identifier,
        },
    ).start()
    until(lambda: worker.logged("task.executing"), what="the Task is being executed")
    (service,) = pool.admin.services()
    host = socket.gethostname().replace("-", "_")
    assert service.id.rpartition("-")[0] in (host, f"N{host}")
    child = int(worker.logged("worker.started")[0].rpartition("child=")[2])
    environment = Path(f"/proc/{child}/environ").read_bytes()
    assert SimulatorProcess.key.encode() not in environment
    assert b"WHO=" in environment
    assert pool.admin.task(task).status == "running"


def test_a_missing_variable_is_told(pool: Pool) -> None:
    worker = pool.worker(scratch_basedir="${NO_SUCH_VARIABLE}/scratch")
    assert worker.run() is Outcome.SETTINGS_INVALID
    message = worker.message()
    assert message is not None
    assert "NO_SUCH_VARIABLE is not set" in message.detail


def test_progress_and_resources_are_logged_and_told(pool: Pool) -> None:
    (task,) = pool.admin.add_tasks(
        1, behaviour="hog", seconds=1.0, units=2, stand_in={"device_memory": 700 * 2**20}
    )
    worker = pool.worker(progress_interval=0.2)
    assert worker.run() is Outcome.DONE
    begun = worker.logged("task.unit_begins")
    assert [" unit=1 units=2 " in begun[0], " unit=2 units=2 " in begun[1]] == [True, True]
    assert len(worker.logged("task.in_progress")) >= 2
    (executed,) = worker.logged("task.executed")
    (pushed,) = worker.logged("result.pushed")
    for line in (*begun, executed, pushed):
        assert f"task={task} transformation=NonTransformation-" in line
        assert "protocol=StandInProtocol " in line
    for measured in ("wall_seconds=", "cpu_seconds=", "peak_memory_mib="):
        assert measured in executed
    assert "peak_device_memory_mib=700" in executed
    message = worker.message()
    assert message is not None
    assert f"{task}: 2 units in 1 s" in message.detail
    assert "MiB of memory and 700 MiB of the device's" in message.detail


def test_a_file_shows_that_the_worker_is_alive(pool: Pool) -> None:
    pool.admin.add_tasks(1, behaviour="hang")
    worker = pool.worker().start()
    alive = worker.directory / "state" / "alive"
    until(alive.exists, what="the worker shows that it is alive")
    os.utime(alive, (0, 0))
    until(lambda: alive.stat().st_mtime > 0, what="it shows it again")
    worker.signal(signal.SIGTERM)
    assert worker.wait() is Outcome.TERMINATED
    assert not alive.exists()


@pytest.mark.parametrize("keep", [True, False])
def test_what_is_to_be_kept_is_kept_of_every_attempt(
    pool: Pool, tmp_path: Path, keep: bool
) -> None:
    stand_in = {"counter": str(tmp_path / "counter"), "times": 1}
    pool.admin.add_tasks(1, behaviour="flaky", stand_in=stand_in)
    worker = pool.worker(n_retries=1, keep_scratch=keep)
    assert worker.run() is Outcome.DONE
    assert len(list((worker.directory / "scratch").iterdir())) == (2 if keep else 0)
