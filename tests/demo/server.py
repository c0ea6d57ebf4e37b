"""The simulated compute API as a process that outlives the command that started it."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from testcluster import processes

MARKER = "demo"
IDENTIFIER = "compute-identity"
KEY = "compute-key"


@dataclass(frozen=True)
class Server:
    """Where it answers: the compute API for the workers, the admin port for the demo."""

    url: str
    admin_url: str


def start(folder: Path, host: str) -> Server:
    """Start a fresh one at an address of this host; one of an earlier run is stopped.

    Raises TestClusterError, with what it said, if it does not start.
    """
    stop(folder)
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "server.log"
    log.unlink(missing_ok=True)
    words = ["-m", "simulator", "--host", host, "--admin-host", "127.0.0.1"]
    process = processes.start("simulated compute API", [sys.executable, *words], log, MARKER)
    _record(folder).write_text(json.dumps(process.to_json()))
    processes.wait_until(
        lambda: _said(log) is not None,
        "the simulated compute API answers",
        timeout=120,
        watched=[process],
    )
    said = _said(log)
    assert said is not None
    return said


def stop(folder: Path) -> None:
    """Stop the one that was started in this folder, if there is one."""
    record = _record(folder)
    if record.exists():
        processes.stop([processes.from_json(json.loads(record.read_text()))])
        record.unlink()


def _record(folder: Path) -> Path:
    return folder / "server.json"


def _said(log: Path) -> Server | None:
    """The line in which it says where it answers."""
    for line in log.read_text().splitlines():
        if line.startswith("{"):
            where = json.loads(line)
            return Server(where["url"], where["admin_url"])
    return None
