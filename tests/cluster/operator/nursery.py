"""Operators that are forked from a process that has imported everything: they start at once."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from cluster.operator.process import ALTERED, OperatorProcess, free_port

from testcluster.images import REPOSITORY


class Nursery:
    """The process that forks them. The kubeconfig is read by what it imports."""

    def __init__(self, config: Path) -> None:
        self.config = config

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", ALTERED, "nursery"],
            env={
                **os.environ,
                "KUBECONFIG": str(self.config),
                "PYTHONPATH": str(REPOSITORY / "tests"),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def fork(self, order: dict[str, object]) -> int:
        """Start an operator; return its pid."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(order).encode() + b"\n")
        stdin.flush()
        return int(stdout.readline())


class ForkedOperator(OperatorProcess):
    """An operator process that a nursery has forked. It takes part in the election."""

    def __init__(
        self, nursery: Nursery, log: Path, *, namespaces: Sequence[str], identity: str = "operator"
    ) -> None:
        super().__init__(nursery.config, log, namespaces=namespaces, identity=identity, lease=True)
        self._nursery = nursery
        self._pidfd: int | None = None

    def launch(self) -> None:
        """Start it."""
        self._port = free_port()
        self._close()
        pid = self._nursery.fork(
            {
                "arguments": self.arguments(),
                "environment": self.environment(),
                "alterations": self.alterations,
                "log": str(self._log),
            }
        )
        self._pidfd = os.pidfd_open(pid)

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._pidfd is not None and not self._ends_within(0)

    def kill(self) -> None:
        """End it with SIGKILL; without effect if it has ended."""
        if self._pidfd is not None:
            if self.runs:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
                assert self._ends_within(10)
            self._close()

    def suspend(self) -> None:
        """Stop it where it is, with SIGSTOP: it does not know that time passes."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._send(signal.SIGCONT)

    def terminate(self, patience: float = 20.0) -> int:
        """End it with SIGTERM."""
        self._send(signal.SIGTERM)
        return self.wait(patience)

    def wait(self, patience: float) -> int:
        """Wait until it has ended by itself; how is not known, so 0."""
        assert self._ends_within(patience), f"the operator has not ended:\n{self.log}"
        return 0

    def _send(self, number: signal.Signals) -> None:
        assert self._pidfd is not None
        signal.pidfd_send_signal(self._pidfd, number)

    def _ends_within(self, seconds: float) -> bool:
        assert self._pidfd is not None
        return bool(select.select([self._pidfd], [], [], seconds)[0])

    def _close(self) -> None:
        if self._pidfd is not None:
            os.close(self._pidfd)
        self._pidfd = None
