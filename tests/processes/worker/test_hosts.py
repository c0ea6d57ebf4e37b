"""The scripts of deploy/examples/hosts with real workers; conda, Slurm and the GPU are missing.

`conda` is a program that activates nothing, and the child is the stand-in.
"""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from processes.worker.harness import PATIENCE, STANDIN_COMMAND, Pool, until

from computepool_api.outcomes import Outcome
from simulator.process import SimulatorProcess
from written.manifests import HOSTS


class Host:
    """A machine with conda, credentials in a file and a folder for scratch files."""

    def __init__(self, pool: Pool) -> None:
        self.home = pool.directory / "home"
        self.local = pool.directory / "local"
        self.log = pool.directory / "log"
        self.url = pool.simulator.url
        self._started: list[subprocess.Popen[bytes]] = []
        programs = self.home / "bin"
        credentials = self.home / ".config" / "alchemiscale-compute"
        for folder in (programs, credentials, self.local):
            folder.mkdir(parents=True)
        (credentials / "identifier").write_text(SimulatorProcess.identifier)
        (credentials / "key").write_text(SimulatorProcess.key)
        self._program(programs / "conda", "echo 'conda() { :; }'")
        worker = shlex.join([sys.executable, "-m", "computepool_worker"])
        self._program(programs / "computepool-worker", f'exec {worker} "$@"')
        self.environment = {
            **{key: value for key, value in os.environ.items() if key in ("PYTHONPATH", "LANG")},
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(self.home),
            "TMPDIR": str(self.local),
            "COMPUTEPOOL_WORKER_CHILD": STANDIN_COMMAND,
        }

    def _program(self, path: Path, line: str) -> None:
        path.write_text(f"#!/usr/bin/env bash\n{line}\n")
        path.chmod(0o755)

    def settings(self, example: str, **changes: object) -> Path:
        """Copy an example's settings, with the server that is there, and faster."""
        text = (HOSTS / example).read_text()
        changes = {"api_url": self.url, "sleep_interval": 0.1, **changes}
        for key, value in changes.items():
            text, times = re.subn(rf"^{key}: .*$", f"{key}: {value}", text, flags=re.MULTILINE)
            assert times == 1, key
        path = self.home / example
        path.write_text(text)
        return path

    def start(self, script: str, settings: Path, **environment: str) -> "subprocess.Popen[bytes]":
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                [HOSTS / script],
                env={**self.environment, "SETTINGS": str(settings), **environment},
                cwd=self.home,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def kill(self) -> None:
        """End what is left of every script and of what it has started."""
        for process in self._started:
            # The script may be gone and its service not.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def left(self) -> list[str]:
        return [path.name for path in self.local.iterdir()]


@pytest.fixture
def host(pool: Pool) -> Iterator[Host]:
    host = Host(pool)
    yield host
    host.kill()


JOB = {"SLURM_JOB_ID": "4711", "SLURM_ARRAY_TASK_ID": "3", "SLURM_CLUSTER_NAME": "big"}


def test_a_job_of_slurm_computes_one_task_and_leaves_nothing(pool: Pool, host: Host) -> None:
    tasks = pool.admin.add_tasks(2)
    job = host.start("slurm.sh", host.settings("slurm-settings.yaml"), **JOB)
    assert job.wait(PATIENCE) == 0, host.log.read_text()
    assert sorted(pool.admin.task(task).status for task in tasks) == ["complete", "waiting"]
    request, *probes = pool.admin.audit(endpoint="service_register")
    assert "/big.4711-" in request.path
    assert {probe.path for probe in probes} == {request.path}
    assert pool.admin.services() == []
    assert host.left() == []


def test_a_job_that_finds_no_task_ends_when_its_window_closes(pool: Pool, host: Host) -> None:
    settings = host.settings("slurm-settings.yaml", max_time=0.5)
    job = host.start("slurm.sh", settings, **JOB)
    assert job.wait(PATIENCE) == Outcome.NOTHING_TO_DO.exit_code
    assert len(pool.admin.audit(endpoint="claim")) > 1
    assert pool.admin.services() == []
    assert host.left() == []


def test_a_job_whose_time_is_up_gives_its_task_back(pool: Pool, host: Host) -> None:
    (task,) = pool.admin.add_tasks(1, behaviour="hang")
    job = host.start("slurm.sh", host.settings("slurm-settings.yaml"), **JOB)
    until(lambda: "task.executing" in host.log.read_text(), what="the Task is executed")
    job.send_signal(signal.SIGTERM)
    assert job.wait(PATIENCE) == Outcome.TERMINATED.exit_code
    assert pool.admin.task(task).status == "waiting"
    assert pool.admin.services() == []
    assert host.left() == []


def completed(pool: Pool, number: int) -> bool:
    return pool.admin.counts() == {"complete": number}


def test_a_service_in_a_conda_environment_stands_until_it_is_told_to_stop(
    pool: Pool, host: Host
) -> None:
    scratch = {"COMPUTEPOOL_SCRATCH": str(host.local / "scratch")}
    service = host.start("conda.sh", host.settings("settings.yaml"), **scratch)
    for number in (1, 2):
        pool.admin.add_tasks(1)
        until(partial(completed, pool, number), what="it is complete")
    service.send_signal(signal.SIGINT)
    assert service.wait(PATIENCE) == Outcome.TERMINATED.exit_code
    assert pool.admin.services() == []
    assert list((host.local / "scratch" / "scratch").iterdir()) == []
