"""Runs one compute service against a simulator, and watches it from outside."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.marks import Seen, execution
from simulator.process import SimulatorProcess

ROOT = Path(__file__).resolve().parents[2]
STANDIN = ROOT / "tests" / "standin" / "child.py"
_PATIENCE = 300.0
_PAGE = os.sysconf("SC_PAGE_SIZE")

# Prints the keyed chain of a Transformation of gufe's DummyProtocol.
_CHAIN = """
import json, sys
from gufe.tokenization import JSON_HANDLER
sys.path.insert(0, {tests!r})
from unit.worker.transformations import as_chain, transformation
print(json.dumps(as_chain(transformation())))
"""


class BenchError(Exception):
    """There is nothing to measure; the text says why."""


@dataclass(frozen=True, slots=True)
class Service:
    """A command line up to its settings file, and the environment that it needs besides."""

    name: str
    command: Sequence[str]
    environment: dict[str, str]


def worker(python: str, *, science: bool) -> Service:
    """Return this project's worker; without ``science`` its child is the stand-in."""
    paths = os.pathsep.join(str(ROOT / folder) for folder in ("worker", "computeapi"))
    environment = {"PYTHONPATH": paths}
    if not science:
        environment["COMPUTEPOOL_WORKER_CHILD"] = f"{python} {STANDIN}"
    command = [python, "-m", "computepool_worker", "compute", "synchronous", "-c"]
    return Service("worker", command, environment)


def stock(python: str, chain: list[Any] | None) -> Service:
    """Return alchemiscale's own service, to execute Tasks of ``chain``.

    Raises BenchError if ``python`` cannot import it, or there is no chain.
    """
    if chain is None:
        raise BenchError("the stock service executes real Protocols only: give --python with gufe")
    _ask(python, "import alchemiscale.compute.service", "alchemiscale")
    command = [python, "-c", "from alchemiscale.cli import cli; cli()", "compute", "synchronous"]
    return Service("stock", [*command, "-c"], {})


def dummy_chain(python: str) -> list[Any] | None:
    """Return a Transformation that takes no time, or None where there is no gufe."""
    try:
        text = _ask(python, _CHAIN.format(tests=str(ROOT / "tests")), "gufe")
    except BenchError:
        return None
    chain: list[Any] = json.loads(text)
    return chain


def run(
    service: Service,
    simulator: SimulatorProcess,
    *,
    tasks: int,
    chain: Any,
    bytecode: Path,
    token_seconds: float = 0.0,
) -> Seen:
    """Let ``service`` execute ``tasks`` Tasks, one after the other. Raises BenchError.

    Compiled modules are kept in the folder ``bytecode``: images have them, checkouts may not, and a
    start without them takes twice as long. The server takes ``token_seconds`` for a token.
    """
    simulator.admin.reset()
    if token_seconds:
        simulator.admin.fault("token", "latency", seconds=token_seconds, count=None)
    # Both forms are read by the worker, and this one by every version of the stock service's client
    # that was met.
    simulator.admin.set(transformation_form="json_string")
    if chain is None:
        simulator.admin.add_tasks(tasks)
    else:
        simulator.admin.add_tasks(tasks, chain=chain)
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder, "settings.yaml")
        settings.write_text(json.dumps(_settings(simulator, folder, tasks)))
        log = Path(folder, "log")
        with log.open("wb") as stream:
            started = time.time()
            process = subprocess.Popen(
                [*service.command, str(settings)],
                env=_environment(service, folder, bytecode),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
            )
        parent, whole = _watch(process)
        if process.returncode != 0:
            said = log.read_text(errors="replace")[-2000:]
            raise BenchError(f"{service.name} ended with {process.returncode}: {said}")
    return _seen(simulator, started, parent, whole, tasks)


def _environment(service: Service, home: str, bytecode: Path) -> dict[str, str]:
    given = {**os.environ, **service.environment}
    given.pop("PYTHONDONTWRITEBYTECODE", None)
    return {**given, "HOME": home, "PYTHONPYCACHEPREFIX": str(bytecode)}


def _settings(simulator: SimulatorProcess, folder: str, tasks: int) -> dict[str, Any]:
    return {
        "api_url": simulator.url,
        "identifier": simulator.identifier,
        "key": simulator.key,
        "name": "bench",
        "shared_basedir": f"{folder}/shared",
        "scratch_basedir": f"{folder}/scratch",
        "max_tasks": tasks,
        "scopes": ["*-*-*"],
        "loglevel": "INFO",
    }


def _watch(process: "subprocess.Popen[bytes]") -> tuple[int, int]:
    """Wait for the end; return the largest memory of the process, and with its children."""
    parent = whole = 0
    deadline = time.monotonic() + _PATIENCE
    try:
        while process.poll() is None:
            if time.monotonic() > deadline:
                raise BenchError(f"still running after {_PATIENCE:.0f} s")
            own = _resident(process.pid)
            parent = max(parent, own)
            whole = max(whole, own + sum(map(_resident, _children(process.pid))))
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    return parent, whole


def _children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(word) for word in text.split()]


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def _seen(simulator: SimulatorProcess, started: float, parent: int, whole: int, tasks: int) -> Seen:
    admin = simulator.admin
    registration = admin.audit(endpoint="service_register")[0]
    pushes = admin.audit(endpoint="results")
    entries = [entry for task in admin.tasks() for entry in admin.results(task.key)]
    spans = sorted(execution(entry.document) for entry in entries)
    if len(spans) != tasks or not all(entry.ok for entry in entries):
        raise BenchError(f"{len(spans)} results of {tasks} Tasks, or some that are failures")
    return Seen(
        started=started,
        registered=registration.wall + (registration.seconds or 0.0),
        executions=spans,
        pushed=[push.wall + (push.seconds or 0.0) for push in pushes],
        peak_memory=parent,
        whole_memory=whole,
    )


def _ask(python: str, code: str, what: str) -> str:
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        why = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise BenchError(f"{python} cannot import {what}: {why}")
    return done.stdout


if sys.platform != "linux":
    raise BenchError("memory is read from /proc, which only Linux has")
