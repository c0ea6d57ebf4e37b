"""The operator as a process of its own, under the ServiceAccount that `deploy/` gives it."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import httpx
import yaml

from simulator.process import SimulatorProcess
from testcluster import kubeconfig
from testcluster.cluster import Cluster
from testcluster.images import REPOSITORY

SYSTEM = "computepool-system"
ACCOUNT = "computepool-operator"
LEASE = "computepool-operator"
POOLS = "computepools.compute.alchemiscale.org"
ALTERED = "cluster.operator.altered"
ALTERATIONS = "COMPUTEPOOL_TEST_ALTERATIONS"
START_SECONDS = 90.0


def install(cluster: Cluster) -> None:
    """Apply `deploy/base` as docs/install.md says; its Deployment finds no node to run on."""
    base = REPOSITORY / "deploy" / "base"
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-k", str(base))
    cluster.kubectl("wait", "--for=condition=Established", f"crd/{POOLS}", "--timeout=30s")


def account_kubeconfig(cluster: Cluster, path: Path, server: str = "") -> Path:
    """Write a kubeconfig of the operator's ServiceAccount; `server` replaces the API server."""
    token = cluster.kubectl("create", "token", ACCOUNT, f"--namespace={SYSTEM}").strip()
    admin = yaml.safe_load(cluster.kubeconfig.read_text())["clusters"][0]["cluster"]
    authority = base64.b64decode(admin["certificate-authority-data"])
    document = kubeconfig.document(server or admin["server"], authority, ACCOUNT, token)
    path.write_text(document)
    return path


def free_port() -> int:
    """A TCP port that nobody listens on at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


class OperatorProcess:
    """`python -m computepool_operator`, started, killed and started again; its log goes on.

    `alterations` start it with times other than its own, and as one that kills itself: see
    `altered.py`. `lease`: whether it takes part in the election.
    """

    def __init__(
        self,
        config: Path,
        log: Path,
        *,
        namespaces: Sequence[str] = (),
        identity: str = "operator-a",
        lease: bool = False,
        alterations: Mapping[str, Any] | None = None,
    ) -> None:
        self.identity = identity
        self._config = config
        self._log = log
        self._namespaces = namespaces
        self._lease = lease
        self.alterations: dict[str, Any] = dict(alterations or {})
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def log(self) -> str:
        """What it has written so far, in all its lives."""
        return self._log.read_text(errors="replace")

    @property
    def health_url(self) -> str:
        """Where /livez and /readyz are."""
        return f"http://127.0.0.1:{self._port}"

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log's entries of one event, oldest first."""
        lines = [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == name]

    def start(self) -> Self:
        """Start it and wait until it says that it is ready."""
        self.launch()
        try:
            self.wait_until_ready()
        except BaseException:
            self.kill()  # it would go on, in the way of those that come after it
            raise
        return self

    def launch(self) -> None:
        """Start it."""
        self._port = free_port()
        module = ALTERED if self.alterations else "computepool_operator"
        with self._log.open("ab") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *self.arguments()],
                env=self.environment(),
                stdout=stream,
                stderr=stream,
            )

    def arguments(self) -> list[str]:
        """What it is started with."""
        arguments = [f"--health-port={self._port}", f"--identity={self.identity}"]
        arguments += [f"--namespace={name}" for name in self._namespaces]
        return [*arguments, f"--lease-namespace={SYSTEM}"] if self._lease else arguments

    def environment(self) -> dict[str, str]:
        """Its environment: none of the settings of whoever runs the tests."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("COMPUTEPOOL_")}
        kept |= {"KUBECONFIG": str(self._config), "PYTHONPATH": str(REPOSITORY / "tests")}
        return {**kept, ALTERATIONS: json.dumps(self.alterations)} if self.alterations else kept

    def wait_until_ready(self) -> None:
        """Wait until /readyz says so."""
        deadline = time.monotonic() + START_SECONDS
        while not self._is_ready():
            assert self.runs, f"the operator has ended:\n{self.log}"
            assert time.monotonic() < deadline, f"the operator does not get ready:\n{self.log}"
            time.sleep(0.03)

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """End it with SIGKILL; without effect if it has ended."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def terminate(self, patience: float = 20.0) -> int:
        """End it with SIGTERM, and return its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(patience)

    def wait(self, patience: float) -> int:
        """Wait until it has ended by itself, and return its exit code."""
        assert self._process is not None
        return self._process.wait(patience)

    def _is_ready(self) -> bool:
        try:
            answer = httpx.get(f"{self.health_url}/readyz", timeout=5, trust_env=False)
        except httpx.TransportError:
            return False
        return answer.status_code == httpx.codes.OK


def assert_log_is_clean(operator: OperatorProcess) -> None:
    """No bug has shown itself, and no secret."""
    log = operator.log
    assert "traceback" not in log.lower(), log
    assert not re.search(r"cannot \w+ resource", log), log  # RBAC
    assert SimulatorProcess.key not in log
