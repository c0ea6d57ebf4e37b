"""When the server, the network or the settings are not as they should be."""

import signal
import socket
import uuid
from pathlib import Path
from typing import Any

import pytest
from processes.worker.harness import Pool, until

from computepool_api.outcomes import Outcome


def test_a_lost_registration_means_that_nothing_is_pushed(pool: Pool) -> None:
    gate = pool.directory / "gate"
    (task,) = pool.admin.add_tasks(1, stand_in={"gate": str(gate)})
    worker = pool.worker().start()
    until(lambda: worker.logged("task.executing"), what="the Task is being executed")
    pool.forget_services()
    gate.touch()
    assert worker.wait() is Outcome.REGISTRATION_LOST
    assert pool.pushes() == 0
    assert pool.admin.task(task).status == "waiting"
    assert pool.admin.services() == []
    assert worker.left_behind() == []
    message = worker.message()
    assert message is not None
    assert (message.outcome, message.task) == (Outcome.REGISTRATION_LOST, task)


@pytest.mark.parametrize(
    ("fault", "stored"),
    [
        ({"kind": "reset", "when": "after"}, True),
        ({"kind": "reset", "when": "before"}, False),
        ({"kind": "status", "status": 500, "when": "after"}, True),
        ({"kind": "status", "status": 500, "when": "before"}, False),
        ({"kind": "status", "status": 504, "when": "after"}, True),
        ({"kind": "truncate", "when": "after"}, True),
    ],
    ids=lambda value: (
        "-".join(str(part) for part in value.values()) if isinstance(value, dict) else None
    ),
)
def test_a_push_of_unknown_fate_is_not_repeated(
    pool: Pool, fault: dict[str, Any], stored: bool
) -> None:
    (task,) = pool.admin.add_tasks(1)
    pool.admin.fault("results", **fault)
    worker = pool.worker(push_pause=0.5)
    assert worker.run() is Outcome.PUSH_AMBIGUOUS
    view = pool.admin.task(task)
    assert (view.status, len(view.results)) == (("complete", 1) if stored else ("waiting", 0))
    assert pool.pushes() == 1
    assert pool.admin.services() == []
    audit = pool.admin.audit()
    (push,) = [entry for entry in audit if entry.endpoint == "results"]
    (deregistered,) = [entry for entry in audit if entry.endpoint == "service_deregister"]
    assert deregistered.wall - push.wall >= 0.5
    message = worker.message()
    assert message is not None
    assert (message.outcome, message.task) == (Outcome.PUSH_AMBIGUOUS, task)


@pytest.mark.parametrize("status", [500, 422])
def test_a_result_that_the_server_refuses_for_good_is_offered_thrice_and_computed_anew(
    pool: Pool, tmp_path: Path, status: int
) -> None:
    (task,) = pool.admin.add_tasks(1)
    pool.admin.fault("results", kind="status", status=status, count=None)
    computed = []
    for _ in range(4):
        worker = pool.worker(spool_dir=str(tmp_path / "spool"))
        assert worker.run() in (Outcome.PUSH_AMBIGUOUS, Outcome.SETTINGS_INVALID)
        computed.append(len(worker.logged("task.executing")))
    assert computed == [1, 0, 0, 1]
    assert pool.pushes() == 4
    pool.admin.clear_faults()
    last = pool.worker(spool_dir=str(tmp_path / "spool"))
    assert last.run() is Outcome.DONE
    assert last.logged("task.found_in_spool")
    assert [pool.admin.task(task).status, len(pool.admin.results(task))] == ["complete", 1]


def test_a_result_that_the_network_loses_again_and_again_is_kept(
    pool: Pool, tmp_path: Path
) -> None:
    pool.admin.add_tasks(1)
    pool.admin.fault("results", kind="reset", count=None)
    computed = []
    for _ in range(5):
        worker = pool.worker(spool_dir=str(tmp_path / "spool"), push_pause=0.1)
        assert worker.run() is Outcome.PUSH_AMBIGUOUS
        computed.append(len(worker.logged("task.executing")))
    assert computed == [1, 0, 0, 0, 0]


def test_the_pause_after_such_a_push_is_not_cut_short_by_a_signal(pool: Pool) -> None:
    (task,) = pool.admin.add_tasks(1)
    pool.admin.fault("results", "reset", when="before")
    worker = pool.worker(push_pause=1.0, termination_grace=60).start()
    until(lambda: worker.logged("push.pausing"), what="the worker waits")
    worker.signal(signal.SIGTERM)
    assert worker.wait() is Outcome.PUSH_AMBIGUOUS
    assert pool.admin.task(task).status == "waiting"
    audit = pool.admin.audit()
    (push,) = [entry for entry in audit if entry.endpoint == "results"]
    (deregistered,) = [entry for entry in audit if entry.endpoint == "service_deregister"]
    assert deregistered.wall - push.wall >= 1.0


def test_without_time_for_the_pause_the_registration_is_left_standing(pool: Pool) -> None:
    (task,) = pool.admin.add_tasks(1)
    pool.admin.fault("results", "reset", when="before")
    worker = pool.worker(push_pause=60, termination_grace=8.5).start()
    until(lambda: worker.logged("push.pausing"), what="the worker waits")
    worker.signal(signal.SIGTERM)
    assert worker.wait(30) is Outcome.PUSH_AMBIGUOUS
    assert len(pool.admin.services()) == 1
    assert pool.admin.task(task).status == "running"
    assert worker.logged("service.left_registered")


def test_a_push_in_flight_comes_to_its_end_when_a_signal_comes(pool: Pool) -> None:
    (task,) = pool.admin.add_tasks(1)
    pool.admin.fault("results", "latency", seconds=1.5)
    worker = pool.worker().start()
    until(lambda: pool.struck(), what="the push is in flight")
    worker.signal(signal.SIGTERM)
    assert worker.wait() is Outcome.TERMINATED
    view = pool.admin.task(task)
    assert (view.status, len(view.results)) == ("complete", 1)
    assert pool.admin.services() == []
    message = worker.message()
    assert message is not None
    assert (message.outcome, message.tasks_done) == (Outcome.TERMINATED, 1)


def test_a_push_that_outlasts_the_grace_is_of_unknown_fate(pool: Pool) -> None:
    (task,) = pool.admin.add_tasks(1)
    pool.admin.fault("results", "hang", when="before")
    worker = pool.worker(termination_grace=8.5, push_pause=60).start()
    until(lambda: pool.struck(), what="the push is in flight")
    worker.signal(signal.SIGTERM)
    assert worker.wait(30) is Outcome.PUSH_AMBIGUOUS
    message = worker.message()
    assert message is not None
    assert (message.task, message.detail) == (task, "the push was cut off by SIGTERM")
    assert pool.admin.task(task).results == []


def test_a_finished_result_waits_for_a_server_that_is_away(pool: Pool) -> None:
    (task,) = pool.admin.add_tasks(1)
    pool.admin.fault("check", "status", status=503, count=None)
    # A gateway's answer to another probe would leave it open whether the probe arrived.
    pool.admin.fault("service_register", "status", status=503, count=None, skip=2)
    worker = pool.worker().start()
    until(lambda: worker.logged("result.waiting"), what="the result waits")
    pool.admin.clear_faults()
    assert worker.wait() is Outcome.DONE
    view = pool.admin.task(task)
    assert (view.status, len(view.results)) == ("complete", 1)


@pytest.mark.parametrize("fault", [{"kind": "status", "status": 404}, {"kind": "garbage"}])
def test_a_finished_result_waits_for_a_proxy_that_is_being_renewed(
    pool: Pool, fault: dict[str, Any]
) -> None:
    (task,) = pool.admin.add_tasks(1)
    pool.admin.fault("check", **fault)
    worker = pool.worker()
    assert worker.run() is Outcome.DONE
    assert worker.logged("result.waiting")
    view = pool.admin.task(task)
    assert (view.status, len(view.results)) == ("complete", 1)


def test_a_finished_result_waits_for_a_changed_key(pool: Pool, tmp_path: Path) -> None:
    gate = pool.directory / "gate"
    (task,) = pool.admin.add_tasks(1, stand_in={"gate": str(gate)})
    (tmp_path / "identifier").write_text("changing")
    (tmp_path / "key").write_text("old-key")
    pool.admin.add_identity("changing", "old-key", ["*-*-*"])
    worker = pool.worker(identifier=None, key=None, credentials_dir=str(tmp_path)).start()
    until(lambda: worker.logged("task.executing"), what="the Task is being executed")
    pool.admin.add_identity("changing", "new-key", ["*-*-*"])
    pool.admin.rotate_tokens()
    gate.touch()
    until(lambda: worker.logged("result.waiting"), what="the result waits")
    (tmp_path / "key").write_text("new-key")
    assert worker.wait() is Outcome.DONE
    view = pool.admin.task(task)
    assert (view.status, len(view.results)) == ("complete", 1)


def test_a_result_does_not_wait_for_ever(pool: Pool) -> None:
    (task,) = pool.admin.add_tasks(1)
    pool.admin.fault("check", "status", status=503, count=None)
    worker = pool.worker(result_patience=0.1)
    assert worker.run() is Outcome.API_UNREACHABLE
    assert pool.pushes() == 0
    assert pool.admin.task(task).status == "waiting"


def test_a_result_that_waits_does_not_delay_a_stop(pool: Pool) -> None:
    (task,) = pool.admin.add_tasks(1)
    pool.admin.fault("check", "status", status=503, count=None)
    worker = pool.worker().start()
    until(lambda: worker.logged("result.waiting"), what="the result waits")
    worker.signal(signal.SIGTERM)
    assert worker.wait(30) is Outcome.TERMINATED
    assert pool.admin.task(task).status == "waiting"


def test_a_denied_claim_ends_the_worker(pool: Pool) -> None:
    pool.admin.add_tasks(3, behaviour="raise")
    pool.admin.set(max_failures=1)
    worker = pool.worker(max_tasks=10, max_failures=3)
    assert worker.run() is Outcome.DENIED
    message = worker.message()
    assert message is not None
    assert (message.outcome, message.tasks_failed) == (Outcome.DENIED, 2)
    assert pool.admin.services() == []


def test_a_claim_without_an_answer_is_given_back(pool: Pool) -> None:
    (task,) = pool.admin.add_tasks(1)
    pool.admin.fault("claim", "reset", when="after")
    worker = pool.worker()
    assert worker.run() is Outcome.API_UNREACHABLE
    assert pool.admin.task(task).status == "waiting"
    assert pool.admin.services() == []


def test_a_claim_in_flight_comes_to_its_end_when_a_signal_comes(pool: Pool) -> None:
    (task,) = pool.admin.add_tasks(1)
    pool.admin.fault("claim", "latency", seconds=1.5, when="after")
    worker = pool.worker().start()
    until(lambda: pool.struck(), what="the claim is in flight")
    worker.signal(signal.SIGTERM)
    assert worker.wait() is Outcome.TERMINATED
    assert pool.admin.task(task).status == "waiting"
    assert pool.admin.services() == []
    assert worker.left_behind() == []


def test_a_claim_after_the_registration_was_lost(pool: Pool) -> None:
    pool.admin.add_tasks(1)
    worker = pool.worker(environment={"COMPUTEPOOL_STANDIN_READY_SECONDS": "1"}).start()
    until(lambda: pool.admin.services(), what="the service is registered")
    pool.forget_services()
    assert worker.wait() is Outcome.REGISTRATION_LOST
    assert pool.admin.services() == []


def test_a_task_that_the_server_does_not_give_out_is_put_aside(pool: Pool) -> None:
    bad, good = pool.admin.add_tasks(2)
    pool.admin.fault("transformation_gufe", "status", status=500, count=None, contains=bad)
    worker = pool.worker(claim_limit=2, max_tasks=5)
    assert worker.run() is Outcome.TASK_UNUSABLE
    assert pool.admin.task(good).status == "complete"
    assert pool.admin.task(bad).status == "waiting"
    message = worker.message()
    assert message is not None
    assert (message.task, message.tasks_done) == (bad, 1)


def test_a_wrong_key(pool: Pool) -> None:
    worker = pool.worker(key="wrong")
    assert worker.run() is Outcome.CREDENTIALS_REFUSED
    message = worker.message()
    assert message is not None
    assert "identifier and key" in message.detail


def test_credentials_come_from_a_directory(pool: Pool, tmp_path: Path) -> None:
    (task,) = pool.admin.add_tasks(1)
    directory = tmp_path / "credentials"
    directory.mkdir()
    (directory / "identifier").write_text(f"{pool.simulator.identifier}\n")
    (directory / "key").write_text(f"{pool.simulator.key}\n")
    worker = pool.worker(identifier=None, key=None, credentials_dir=str(directory))
    assert worker.run() is Outcome.DONE
    assert pool.admin.task(task).status == "complete"


def test_changed_credentials_are_used_by_a_worker_that_runs(pool: Pool, tmp_path: Path) -> None:
    gate = pool.directory / "gate"
    (task,) = pool.admin.add_tasks(1, stand_in={"gate": str(gate)})
    directory = tmp_path / "credentials"
    directory.mkdir()
    settings = directory / "settings.yaml"
    settings.write_text(f"init:\n  identifier: {pool.simulator.identifier}\n  key: compute-key\n")
    worker = pool.worker(identifier=None, key=None, credentials_dir=str(directory)).start()
    until(lambda: worker.logged("task.executing"), what="the Task is being executed")
    pool.admin.add_identity("another", "another-key", ["*-*-*"])
    settings.write_text("identifier: another\nkey: another-key\n")
    pool.admin.rotate_tokens()
    gate.touch()
    assert worker.wait() is Outcome.DONE
    (push,) = pool.admin.audit(endpoint="results")
    assert push.notes["identity"] == "another"
    assert pool.admin.task(task).status == "complete"


def test_missing_credentials(pool: Pool, tmp_path: Path) -> None:
    worker = pool.worker(identifier=None, key=None, credentials_dir=str(tmp_path / "nothing"))
    assert worker.run() is Outcome.CREDENTIALS_REFUSED
    message = worker.message()
    assert message is not None
    assert f"{tmp_path / 'nothing'} cannot be read: No such file" in message.detail


def test_a_server_that_is_down_at_the_start(pool: Pool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    worker = pool.worker(api_url=f"http://127.0.0.1:{port}")
    assert worker.run() is Outcome.API_UNREACHABLE
    message = worker.message()
    assert message is not None
    assert message.outcome is Outcome.API_UNREACHABLE


def test_an_unknown_manager(pool: Pool) -> None:
    worker = pool.worker(compute_manager_id=f"nobody-{uuid.uuid4().hex}")
    assert worker.run() is Outcome.MANAGER_UNKNOWN
    assert pool.admin.services() == []


def test_an_earlier_life_of_the_same_pod_is_ended_first(pool: Pool) -> None:
    pod = str(uuid.uuid4())
    (task,) = pool.admin.add_tasks(1, behaviour="hang")
    first = pool.worker(environment={"COMPUTEPOOL_POD_UID": pod}).start()
    until(lambda: first.holding, what="the first worker holds the Task")
    first.kill()
    second = pool.worker(environment={"COMPUTEPOOL_POD_UID": pod}).start()
    until(lambda: second.logged("task.executing"), what="the second one has the Task")
    assert [event["event"] for event in pool.admin.task(task).history] == [
        "created", "claimed", "released", "claimed",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"max_task": 1}, "did you mean 'max_tasks'"),
        ({"max_tasks": "many"}, "max_tasks must be a whole number"),
        ({"api_url": None}, "must give api_url"),
        ({"compute_manager_id": "a100"}, "compute_manager_id must be"),
        ({"client_verify": "/no/such/file.pem", "api_url": "https://localhost"}, "/no/such/file"),
    ],
)
def test_invalid_settings(pool: Pool, settings: dict[str, Any], says: str) -> None:
    worker = pool.worker(**settings)
    assert worker.run() is Outcome.SETTINGS_INVALID
    message = worker.message()
    assert message is not None
    assert says in message.detail


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HTTPS_PROXY", "http://user:s3cr#t@proxy:3128"),
        ("ALL_PROXY", "socks5://user:s3cret@proxy:1080"),
        ("SSL_CERT_FILE", "/s3cret"),
    ],
)
def test_a_variable_of_no_use(pool: Pool, variable: str, value: str) -> None:
    worker = pool.worker(
        api_url="https://10.0.0.1", environment={"NO_PROXY": "fd00::/8,[::1]", variable: value}
    )
    assert worker.run() is Outcome.SETTINGS_INVALID
    message = worker.message()
    assert message is not None
    assert f"{variable} cannot be used" in message.detail
    assert "s3c" not in message.detail


def test_a_disk_that_cannot_be_used_shows_before_a_claim(pool: Pool) -> None:
    pool.admin.add_tasks(1)
    worker = pool.worker(scratch_basedir="/proc/nowhere")
    assert worker.run() is Outcome.DEVICE_UNFIT
    assert pool.admin.audit() == []


def test_a_child_that_does_not_exist(pool: Pool) -> None:
    worker = pool.worker(child="/no/such/program")
    assert worker.run() is Outcome.DEVICE_UNFIT
    assert pool.admin.audit() == []


def test_a_server_that_does_not_answer_delays_leaving_only_a_little(pool: Pool) -> None:
    pool.admin.add_tasks(1, behaviour="hang")
    worker = pool.worker().start()
    until(lambda: worker.logged("task.executing"), what="the Task is being executed")
    pool.admin.fault("service_deregister", "hang", count=None)
    worker.signal(signal.SIGTERM)
    assert worker.wait(30) is Outcome.TERMINATED
    assert worker.logged("service.not_deregistered")


def test_after_a_gap_in_its_heartbeats_a_worker_asks_whether_it_is_registered(pool: Pool) -> None:
    (task,) = pool.admin.add_tasks(1, seconds=60)
    worker = pool.worker(heartbeat_interval=0.1, probe_after=0.4).start()
    until(lambda: worker.logged("task.executing"), what="the Task is being executed")
    pool.admin.fault("service_heartbeat", "status", status=503, count=None, contains="pool_job_1")
    until(lambda: worker.logged("heartbeat.failed"), what="heartbeats fail")
    pool.forget_services()
    pool.admin.clear_faults()
    assert worker.wait(30) is Outcome.REGISTRATION_LOST
    assert worker.logged("heartbeat.gap")
    assert pool.pushes() == 0
    assert (pool.admin.task(task).status, pool.admin.services()) == ("waiting", [])


def test_a_worker_that_is_still_registered_goes_on_after_a_gap(pool: Pool) -> None:
    (task,) = pool.admin.add_tasks(1, seconds=60)
    pool.admin.fault("service_heartbeat", "status", status=503, count=2)
    worker = pool.worker(heartbeat_interval=0.1, probe_after=0.2).start()
    (gap,) = until(lambda: worker.logged("heartbeat.gap"), what="the gap is noticed")
    assert "registered=true" in gap
    assert pool.admin.task(task).status == "running"
    assert worker.running.poll() is None
