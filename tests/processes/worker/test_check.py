"""``computepool-worker check`` as a process of its own, against a simulator."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from processes.worker.harness import PATIENCE, STANDIN_COMMAND, Pool, Worker, until

from computepool_api.outcomes import Outcome
from simulator.process import SimulatorProcess


def start(worker: Worker, *arguments: str, child: str = STANDIN_COMMAND) -> "subprocess.Popen[str]":
    environment = {**os.environ, "COMPUTEPOOL_WORKER_CHILD": child, **worker.environment}
    settings = ["-c", str(worker.settings_file)]
    return subprocess.Popen(
        [sys.executable, "-m", "computepool_worker", "check", *settings, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def check(worker: Worker, child: str = STANDIN_COMMAND) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the whole JSON document, and its checks by name."""
    process = start(worker, "--json", child=child)
    output, errors = process.communicate(timeout=PATIENCE)
    told = json.loads(output)
    assert process.returncode == told["exit_code"], errors
    assert SimulatorProcess.key not in output + errors
    return told, {one["name"]: one for one in told["checks"]}


def nothing_was_done(pool: Pool) -> None:
    assert pool.admin.services() == []
    assert pool.admin.counts() == {"waiting": 1}
    assert {request.endpoint for request in pool.admin.audit()} <= {
        "ping", "token", "scopes", "check",
    }  # fmt: skip


def test_all_is_well_and_nothing_is_left(pool: Pool) -> None:
    pool.admin.add_tasks(1)
    worker = pool.worker(openmm_platform="CPU", scopes=["a-b-c"])
    told, checks = check(worker)
    assert told["ok"] is True
    assert told["outcome"] is None
    assert list(checks) == [
        "settings", "shared_basedir", "scratch_basedir", "state_dir",
        "compute API", "credentials", "scopes", "server's stores", "software", "device",
    ]  # fmt: skip
    assert {one["result"] for one in checks.values()} == {"ok"}
    assert checks["device"]["facts"] == {"device": "stand-in"}
    nothing_was_done(pool)
    assert [path.name for path in worker.directory.iterdir()] == ["settings.json"]


def test_people_get_a_table(pool: Pool) -> None:
    process = start(pool.worker(openmm_platform="CPU"))
    output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert errors == ""
    lines = output.splitlines()
    assert lines[-1] == "A worker can claim Tasks here."
    assert lines[0].split()[:2] == ["settings", "ok"]
    assert SimulatorProcess.key not in output


@pytest.mark.parametrize(
    ("settings", "name", "outcome"),
    [
        ({"api_url": "http://127.0.0.1:9"}, "compute API", Outcome.API_UNREACHABLE),
        ({"key": "wrong"}, "credentials", Outcome.CREDENTIALS_REFUSED),
        ({"credentials_dir": "/absent"}, "credentials", Outcome.CREDENTIALS_REFUSED),
        (
            {"api_url": "https://x", "client_verify": "/no.pem"},
            "compute API",
            Outcome.SETTINGS_INVALID,
        ),
        ({"scratch_basedir": "/proc/scratch"}, "scratch_basedir", Outcome.DEVICE_UNFIT),
        ({"spool_dir": "/dev/null/spool"}, "spool_dir", Outcome.DEVICE_UNFIT),
        ({"scopez": []}, "settings", Outcome.SETTINGS_INVALID),
    ],
)
def test_what_is_wrong_is_named(
    pool: Pool, settings: dict[str, Any], name: str, outcome: Outcome
) -> None:
    pool.admin.add_tasks(1)
    told, checks = check(pool.worker(**settings))
    assert told["outcome"] == outcome
    assert checks[name]["result"] == "failed"
    assert [one["name"] for one in told["checks"] if one["result"] == "failed"] == [name]
    nothing_was_done(pool)


@pytest.mark.parametrize(
    ("url", "variable", "value"),
    [
        ("http://10.0.0.1", "HTTP_PROXY", "http://user:s3cr#t@proxy:3128"),
        ("http://10.0.0.1", "ALL_PROXY", "socks5://user:s3cret@proxy:1080"),
        ("https://10.0.0.1", "SSL_CERT_FILE", "/s3cret"),
    ],
)
def test_a_variable_of_no_use_is_named_and_not_shown(
    pool: Pool, url: str, variable: str, value: str
) -> None:
    told, checks = check(pool.worker(api_url=url, environment={"NO_PROXY": "", variable: value}))
    assert told["outcome"] == Outcome.SETTINGS_INVALID
    assert f"{variable} cannot be used" in checks["compute API"]["detail"]
    assert "s3c" not in json.dumps(told)


def test_a_url_with_a_password_is_refused_and_not_shown(pool: Pool) -> None:
    told, checks = check(pool.worker(api_url="https://user:s3cret@host"))
    assert told["outcome"] == Outcome.SETTINGS_INVALID
    assert "without user name or password" in checks["settings"]["detail"]
    assert "s3cret" not in json.dumps(told)


def test_networks_that_need_no_proxy_do_no_harm(pool: Pool) -> None:
    exceptions = "fd00::/8,fe80::/10,[::1],10.0.0.0/8,127.0.0.1"
    environment = {"HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": exceptions}
    _, checks = check(pool.worker(environment=environment))
    assert checks["compute API"]["result"] == "ok"


def test_scopes_that_the_identity_may_not_see(pool: Pool) -> None:
    pool.admin.add_identity("narrow", "narrow-key", ["a-*-*"])
    narrow: dict[str, Any] = {"identifier": "narrow", "key": "narrow-key"}
    told, checks = check(pool.worker(**narrow, scopes=["a-b-c", "z-*-*"]))
    assert told["outcome"] == Outcome.SETTINGS_INVALID
    assert "may not see z-*-*, only a-*-*" in checks["scopes"]["detail"]
    assert check(pool.worker(**narrow, scopes=["a-b-c"]))[0]["ok"]


def test_a_server_whose_database_is_down(pool: Pool) -> None:
    pool.admin.fault("check", "status", count=None, status=500)
    told, checks = check(pool.worker())
    assert told["outcome"] == Outcome.API_UNREACHABLE
    assert checks["server's stores"]["result"] == "failed"
    assert checks["scopes"]["result"] == "ok"


def test_a_device_that_is_not_fit(pool: Pool) -> None:
    unfit = {"COMPUTEPOOL_STANDIN_READY": "unfit"}
    told, checks = check(pool.worker(environment=unfit, openmm_platform="CUDA"))
    assert told["outcome"] == Outcome.DEVICE_UNFIT
    assert "no platform CUDA" in checks["device"]["detail"]
    crash = {"COMPUTEPOOL_STANDIN_READY": "crash"}
    told, checks = check(pool.worker(environment=crash))
    assert told["outcome"] == Outcome.DEVICE_UNFIT
    assert "the driver has gone" in checks["device"]["detail"]


def test_an_image_without_the_science(pool: Pool) -> None:
    # -S: the interpreter's own library and no other.
    paths = [path for path in sys.path if Path(path, "computepool_worker").is_dir()]
    paths += [path for path in sys.path if Path(path, "computepool_api").is_dir()]
    child = f"env PYTHONPATH={':'.join(paths)} {sys.executable} -S -m computepool_worker.child"
    told, checks = check(pool.worker(openmm_platform="CPU"), child=child)
    assert told["outcome"] == Outcome.IMAGE_UNFIT
    assert "gufe" in checks["software"]["detail"]
    assert checks["device"]["result"] == "not checked"


def test_a_signal_ends_it_with_its_child(pool: Pool) -> None:
    hang = {"COMPUTEPOOL_STANDIN_READY": "hang"}
    worker = pool.worker(environment=hang)
    process = start(worker)
    # It has listened to signals for long when it asks the server.
    until(lambda: pool.admin.audit(endpoint="check"), what="the server was asked")
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == Outcome.TERMINATED.exit_code
    assert output == ""
    assert [path.name for path in worker.directory.iterdir()] == ["settings.json"]
