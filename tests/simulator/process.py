"""A simulator in a process of its own."""

import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from .client import AdminClient

_TESTS = Path(__file__).resolve().parent.parent


class SimulatorProcess:
    """`python -m simulator` on free ports, for the length of a `with` block.

    `url` is the compute API's base URL, `admin` the client of the admin port. The identity is
    `compute-identity` with the key `compute-key` and all scopes, unless `arguments` say otherwise.
    """

    identifier = "compute-identity"
    key = "compute-key"

    def __init__(self, arguments: Sequence[str] = (), *, start_timeout: float = 120.0) -> None:
        """`arguments` are those of `python -m simulator`; nothing starts yet."""
        self._arguments = list(arguments)
        self._start_timeout = start_timeout
        self._log = ""
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""
        self.admin_url = ""

    def start(self) -> Self:
        """Start it and wait until it answers; RuntimeError with its output if it does not."""
        descriptor, name = tempfile.mkstemp(prefix="simulator-", suffix=".log")
        self._log_file = Path(name)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "simulator", *self._arguments],
            env={**os.environ, "PYTHONPATH": str(_TESTS)},
            stdout=subprocess.PIPE,
            stderr=descriptor,
        )
        os.close(descriptor)
        stdout = self._process.stdout
        assert stdout is not None
        ready, _, _ = select.select([stdout], [], [], self._start_timeout)
        line = stdout.readline() if ready else b""
        if not line:
            self.stop()
            raise RuntimeError(f"the simulator did not start:\n{self.log()}")
        where = json.loads(line)
        self.url, self.admin_url = where["url"], where["admin_url"]
        self.admin = AdminClient(self.admin_url)
        return self

    def stop(self) -> None:
        """End it; a second call does nothing."""
        if self._process is None:
            return
        if self.admin_url:
            self.admin.close()
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log = self.log()
        self._log_file.unlink()
        self._process = None

    @property
    def pid(self) -> int:
        """The process id; RuntimeError if it does not run."""
        if self._process is None:
            raise RuntimeError("the simulator is not running")
        return self._process.pid

    def log(self) -> str:
        """What it wrote, or has written in its last run, to standard error."""
        if self._process is None:
            return self._log
        return self._log_file.read_text(errors="replace")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
