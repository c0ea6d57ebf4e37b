"""The state folder: everything of one cluster, and the record of what has to be undone.

What is made outside the folder (processes, interfaces, cgroups) has a name derived from the
cluster's id, or is recorded in ``cluster.json`` as soon as it exists, so that a later process can
take the cluster down although the one that brought it up was killed.
"""

import json
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from testcluster import processes
from testcluster.errors import TestClusterError
from testcluster.processes import Process

RECORD = "cluster.json"


class StateFolder:
    """The folder of one cluster; ``id`` is six hex digits, part of every name outside it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._data: dict[str, Any] = json.loads((path / RECORD).read_text())

    @classmethod
    def create(cls, path: Path) -> "StateFolder":
        """Make a new state folder.

        Raises TestClusterError if ``path`` holds a cluster already or anything else.
        """
        path = path.absolute()
        if path.exists() and any(path.iterdir()):
            raise TestClusterError(
                f"{path} is not empty: take the cluster there down "
                f"(python -m testcluster down --state {path}) or choose another --state"
            )
        path.mkdir(parents=True, exist_ok=True, mode=0o755)
        owner = processes.this_process().to_json()
        record = {"id": secrets.token_hex(3), "owner": owner, "processes": []}
        _write(path / RECORD, record)
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> "StateFolder | None":
        """Open an existing state folder; None if ``path`` is not one."""
        return cls(path.absolute()) if (path / RECORD).is_file() else None

    @property
    def id(self) -> str:
        """The cluster's id."""
        return str(self._data["id"])

    @property
    def owner(self) -> Process:
        """The process that brought the cluster up."""
        return processes.from_json(self._data["owner"])

    @property
    def processes(self) -> list[Process]:
        """All recorded processes, in the order they were started."""
        return [processes.from_json(record) for record in self._data["processes"]]

    def get(self, key: str) -> Any:
        """Return a recorded value, or None."""
        return self._data.get(key)

    def update(self, **values: Any) -> None:
        """Record values, replacing those of the same names."""
        self._data.update(values)
        _write(self.path / RECORD, self._data)

    def folder(self, name: str) -> Path:
        """Return the sub-folder ``name``, made if absent."""
        path = self.path / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def start(self, name: str, argv: Iterable[str | Path]) -> Process:
        """Start a program with its log in the folder ``logs``, and record it."""
        log = self.folder("logs") / f"{name}.log"
        process = processes.start(name, list(argv), log, self.id)
        self.update(processes=[*self._data["processes"], process.to_json()])
        return process

    def adopt_child(self, name: str, parent: Process) -> Process:
        """Record the only child of ``parent``, so that its end can be waited for too."""
        process = processes.only_child(name, parent)
        self.update(processes=[*self._data["processes"], process.to_json()])
        return process

    def stop(self, names: Iterable[str], *, grace: float = 10.0) -> None:
        """Stop the recorded processes of these names and forget them."""
        wanted = set(names)
        processes.stop([p for p in self.processes if p.name in wanted], grace=grace)
        self.update(processes=[p.to_json() for p in self.processes if p.name not in wanted])

    def stop_all(self) -> None:
        """Kill every recorded process, and what carries the cluster's marker besides."""
        processes.stop([*self.processes, *processes.marked(self.id)], grace=0)
        self.update(processes=[])


def _write(path: Path, record: dict[str, Any]) -> None:
    # Replaced in one step: a reader or a crash never sees half a record.
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(record, indent=1))
    temporary.replace(path)
