"""The real worker as a process of its own, with the stand-in child, against a simulator."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from computepool_api.outcomes import Outcome, TerminationMessage
from simulator.process import SimulatorProcess

STANDIN = Path(__file__).resolve().parents[2] / "standin" / "child.py"
STANDIN_COMMAND = shlex.join([sys.executable, str(STANDIN)])
PATIENCE = 60.0


def until(condition: Callable[[], object], *, what: str, patience: float = PATIENCE) -> Any:
    """Wait until `condition` returns something true, and return it."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {patience:.0f} s: {what}")
        time.sleep(0.01)
    return value


@dataclass
class Worker:
    """One worker and the directory that holds all it may leave behind.

    `child` is the program that takes the place of its child; empty: its own. `prefix` is a command
    that runs the worker.
    """

    directory: Path
    url: str
    child: str = STANDIN_COMMAND
    settings: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    arguments: list[str] = field(default_factory=list)
    prefix: list[str] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        """Write a complete settings file; `settings` may have added to it or replaced parts."""
        self.directory.mkdir(parents=True, exist_ok=True)
        defaults = {
            "api_url": self.url,
            "name": "pool_job_1",
            "identifier": SimulatorProcess.identifier,
            "key": SimulatorProcess.key,
            "shared_basedir": str(self.directory / "shared"),
            "scratch_basedir": str(self.directory / "scratch"),
            "state_dir": str(self.directory / "state"),
            "loglevel": "DEBUG",
            "max_tasks": 1,
            "n_retries": 0,
            "ephemeral": True,
            "push_pause": 0.3,
            "stop_grace": 1.0,
        }
        given = {**defaults, **self.settings}
        self.settings = {name: value for name, value in given.items() if value is not None}
        self.settings_file.write_text(json.dumps(self.settings))

    @property
    def settings_file(self) -> Path:
        return self.directory / "settings.json"

    @property
    def log_file(self) -> Path:
        return self.directory / "worker.log"

    @property
    def termination_file(self) -> Path:
        return self.directory / "termination-log"

    @property
    def holding(self) -> bool:
        return (self.directory / "state" / "holding").exists()

    def start(self) -> "Worker":
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("COMPUTEPOOL_")
        }
        environment |= {
            **({"COMPUTEPOOL_WORKER_CHILD": self.child} if self.child else {}),
            "COMPUTEPOOL_TERMINATION_LOG": str(self.termination_file),
            **self.environment,
        }
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *self.prefix, sys.executable, "-m", "computepool_worker",
                    "compute", "synchronous", "-c", str(self.settings_file), *self.arguments,
                ],
                env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        return self

    @property
    def running(self) -> "subprocess.Popen[bytes]":
        assert self.process is not None
        return self.process

    def wait(self, patience: float = PATIENCE) -> Outcome | None:
        """Wait for the end; return the outcome that the exit code stands for."""
        try:
            code = self.running.wait(patience)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {patience:.0f} s:\n{self.log()}") from None
        return Outcome.from_exit_code(code)

    def run(self) -> Outcome | None:
        return self.start().wait()

    def signal(self, number: signal.Signals) -> None:
        self.running.send_signal(number)

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def peak_memory(self) -> int:
        """The largest resident memory of the parent so far, in bytes; 0 when it has ended."""
        try:
            status = Path(f"/proc/{self.running.pid}/status").read_text()
        except OSError:
            return 0
        sizes = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
        return int(sizes[0]) * 1024 if sizes else 0

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def logged(self, event: str) -> list[str]:
        return [line for line in self.log().splitlines() if f" event={event} " in f"{line} "]

    def message(self) -> TerminationMessage | None:
        if not self.termination_file.exists():
            return None
        return TerminationMessage.parse(self.termination_file.read_text())

    def left_behind(self) -> list[str]:
        """Files that only a run makes and none may leave."""
        kept = {self.settings_file, self.log_file, self.termination_file}
        return [
            str(path.relative_to(self.directory))
            for path in sorted(self.directory.rglob("*"))
            if path not in kept and path.parent != self.directory
        ]


class Pool:
    """Makes workers against one simulator, and ends them."""

    def __init__(self, simulator: SimulatorProcess, directory: Path) -> None:
        self.simulator = simulator
        self.admin = simulator.admin
        self.directory = directory
        self._workers: list[Worker] = []

    def worker(
        self,
        *,
        environment: Mapping[str, str] | None = None,
        arguments: list[str] | None = None,
        child: str = STANDIN_COMMAND,
        **settings: Any,
    ) -> Worker:
        worker = Worker(
            self.directory / f"worker-{len(self._workers)}",
            self.simulator.url,
            settings=settings,
            environment={"COMPUTEPOOL_STANDIN_BROKEN": str(self.broken), **(environment or {})},
            arguments=arguments or [],
            child=child,
        )
        self._workers.append(worker)
        return worker

    @property
    def broken(self) -> Path:
        """While this file exists, the stand-in's device is unfit."""
        return self.directory / "broken"

    def struck(self) -> int:
        """How many requests have met an injected fault."""
        return sum(int(fault["struck"]) for fault in self.admin.faults())

    def register_manager(self, manager: str) -> None:
        """Register a compute manager, as an operator does."""
        self._post(f"/computemanager/{manager}/register")

    def forget_services(self) -> None:
        """Let the server drop every registration, as it does after a long silence."""
        self.admin.advance(float(self.admin.settings()["service_expiry"]) + 1)
        # Any heartbeat, also one under a made-up id, makes the server sweep.
        self._post(f"/computeservice/nobody-{'0' * 32}/heartbeat")

    def _post(self, path: str) -> None:
        form = {"username": SimulatorProcess.identifier, "password": SimulatorProcess.key}
        with httpx.Client(base_url=self.simulator.url, trust_env=False) as http:
            token = http.post("/token", data=form).json()["access_token"]
            headers = {"Authorization": f"Bearer {token}"}
            http.post(path, headers=headers).raise_for_status()

    def kill(self) -> None:
        for worker in self._workers:
            worker.kill()

    def pushes(self) -> int:
        """How many results were sent, stored or not."""
        return len(self.admin.audit(endpoint="results"))
