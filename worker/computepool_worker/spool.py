"""Finished results on a volume, so that no Task is computed twice for want of a push.

A result is written here before it is first sent and removed once the server has clearly taken it.
Whoever claims the Task next finds it and pushes it in place of computing it again. That is no
second push of the same result: the server puts a Task back to waiting only if no good result of it
was stored, so a *new claim* of the Task proves that an earlier push of unknown fate stored nothing.
It proves that of good results alone: after a stored failure a restart pattern or a person may put
the Task back to waiting, to be run again. So a failed result counts only until it was first sent.

An entry is a directory ``<Task key>.<random>`` that appears whole, by renaming, and holds

- ``entry.json``: the Task's and the Transformation's key, the digest of what was fetched, when it
  was made (s since the epoch), ok, and the size and SHA-256 of
- ``result.json``: the JSON value that is pushed, and
- ``sent``, from the moment at which the server may have had it, and
- ``refused``, with a byte for each time that the server has answered that it does not take it.

What makes the server refuse a result may pass (it lacks the Protocol's package, say) or lie in the
result (of an image that does not fit the server). So a result is offered some times, and then
computed anew.

Several workers may share the volume: a claim of a Task is exclusive, and nothing here is locked.
"""

import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from computepool_worker.fingerprint import Fingerprint
from computepool_worker.logs import EventLog

_UNFINISHED = ".unfinished-"
_REMOVED = ".removed-"
# Whoever writes an entry, or removes one, has done so by then, or was killed.
_ABANDONED = 24 * 3600.0
_PIECE = 1024 * 1024
# How often the server may refuse a result before it is computed anew.
_REFUSALS = 3


@dataclass(frozen=True, slots=True)
class Entry:
    """What an entry says of its result. ``created`` is in seconds since the epoch."""

    task: str
    transformation: str
    digest: str
    created: float
    ok: bool
    size: int
    sha256: str


class UnusableEntryError(Exception):
    """An entry must not be pushed; says why."""


class Spool:
    """The entries in ``directory``; with no directory nothing is kept and nothing is found.

    ``max_age`` (s) and ``max_bytes`` bound what stays. All calls block, and none raises for what it
    finds on the disk: a spool that cannot be used costs a computation, not a worker.
    """

    def __init__(
        self,
        directory: Path | None,
        *,
        max_age: float,
        max_bytes: int,
        log: EventLog,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._max_age = max_age
        self._max_bytes = max_bytes
        self._log = log
        self._now = now

    def keep(self, task: str, of: Fingerprint, result: Path, *, ok: bool) -> None:
        """Write the finished result of ``task``; its entry is there whole, or not at all."""
        if self._directory is None:
            return
        suffix = secrets.token_hex(8)
        unfinished = self._directory / f"{_UNFINISHED}{task}.{suffix}"
        try:
            unfinished.mkdir(parents=True)
            size, sha256 = _copy(result, unfinished / "result.json")
            entry = Entry(task, of.transformation, of.digest, self._now(), ok, size, sha256)
            _write(unfinished / "entry.json", json.dumps(asdict(entry)).encode())
            _sync(unfinished)
            unfinished.rename(self._directory / f"{task}.{suffix}")
            _sync(self._directory)
        except OSError as error:
            self._log.warning("spool.not_written", task=task, error=str(error))
            shutil.rmtree(unfinished, ignore_errors=True)
        else:
            self._log.info("spool.written", task=task, ok=ok, bytes=size)

    def find(self, task: str, of: Fingerprint, destination: Path) -> Entry | None:
        """Copy the newest usable result of ``task`` to ``destination`` and return its entry.

        Only for the holder of a claim of the Task that is newer than the entry. Entries that are
        damaged, that are of another Transformation, that are of failures the server may have, or
        that it has refused too often, are said to be so and removed.
        """
        for path in sorted(self._entries(task), key=_changed, reverse=True):
            try:
                return _usable(path, task, of.digest, destination)
            except (UnusableEntryError, OSError) as error:
                destination.unlink(missing_ok=True)
                self._log.warning("spool.entry_not_used", entry=path.name, reason=str(error))
                self._remove(path)
        return None

    def mark_sent(self, task: str) -> None:
        """Note that from now on the server may have the result of ``task``."""
        for path in self._entries(task):
            try:
                _write(path / "sent", b"")
                _sync(path)
            except OSError as error:
                self._log.warning("spool.not_marked", entry=path.name, error=str(error))

    def mark_not_sent(self, task: str) -> None:
        """Note that the server certainly does not have it."""
        for path in self._entries(task):
            with suppress(OSError):
                (path / "sent").unlink(missing_ok=True)

    def mark_refused(self, task: str) -> None:
        """Note that the server has answered once more that it does not take this."""
        for path in self._entries(task):
            try:
                with (path / "refused").open("ab") as file:
                    file.write(b"x")
            except OSError as error:
                self._log.warning("spool.not_marked", entry=path.name, error=str(error))

    def drop(self, task: str) -> None:
        """Remove what is kept of ``task``: the server has a result of it."""
        for path in self._entries(task):
            self._remove(path)

    def sweep(self) -> None:
        """Remove what is too old, what is too much (oldest first), and what was never finished."""
        if self._directory is None:
            return
        now, kept = self._now(), 0
        for path in sorted(self._listed(), key=_changed, reverse=True):
            if path.name.startswith((_UNFINISHED, _REMOVED)):
                if now - _changed(path) > _ABANDONED:
                    shutil.rmtree(path, ignore_errors=True)
            elif path.name.startswith("Task-"):
                kept += _size(path)
                if now - _changed(path) > self._max_age or kept > self._max_bytes:
                    self._log.warning("spool.swept", entry=path.name)
                    self._remove(path)

    def _entries(self, task: str) -> list[Path]:
        return [path for path in self._listed() if path.name.rpartition(".")[0] == task]

    def _listed(self) -> list[Path]:
        if self._directory is None:
            return []
        try:
            return [path for path in self._directory.iterdir() if path.is_dir()]
        except FileNotFoundError:
            return []
        except OSError as error:
            self._log.warning("spool.not_readable", error=str(error))
            return []

    def _remove(self, path: Path) -> None:
        # Under another name first: half an entry must not be taken for one.
        removed = path.with_name(f"{_REMOVED}{path.name}")
        try:
            path.rename(removed)
            shutil.rmtree(removed)
        except OSError as error:
            if path.exists() or removed.exists():
                self._log.warning("spool.not_removed", entry=path.name, error=str(error))


def _usable(path: Path, task: str, digest: str, destination: Path) -> Entry:
    """Copy the result of the entry; raises UnusableEntryError, OSError."""
    entry = _read(path)
    if entry.task != task or entry.digest != digest:
        raise UnusableEntryError("it is of something else")
    if not entry.ok and (path / "sent").exists():
        raise UnusableEntryError("it is a failure that the server may have stored")
    if _refusals(path) >= _REFUSALS:
        raise UnusableEntryError(f"the server has refused it {_REFUSALS} times")
    if _copy(path / "result.json", destination) != (entry.size, entry.sha256):
        raise UnusableEntryError("its result is damaged")
    return entry


def _refusals(path: Path) -> int:
    try:
        return (path / "refused").stat().st_size
    except FileNotFoundError:
        return 0


def _read(path: Path) -> Entry:
    try:
        values = json.loads((path / "entry.json").read_text(encoding="utf-8"))
        match values:
            case {
                "task": str(task),
                "transformation": str(transformation),
                "digest": str(digest),
                "created": (int() | float()) as created,
                "ok": bool(ok),
                "size": int(size),
                "sha256": str(sha256),
            }:
                return Entry(task, transformation, digest, float(created), ok, size, sha256)
    except ValueError:
        raise UnusableEntryError("its description is damaged") from None
    raise UnusableEntryError("its description lacks something")


def _pieces(source: Path) -> Iterator[bytes]:
    with source.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece


def _copy(source: Path, destination: Path) -> tuple[int, str]:
    """Copy a file to the disk; return its size and its SHA-256."""
    digest, size = hashlib.sha256(), 0
    with destination.open("wb") as target:
        for piece in _pieces(source):
            target.write(piece)
            digest.update(piece)
            size += len(piece)
        target.flush()
        os.fsync(target.fileno())
    return size, digest.hexdigest()


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        # Some network file systems do not know it for directories, and write through anyway.
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _changed(path: Path) -> float:
    """Return when the entry was last changed, by the file system's clock."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _size(path: Path) -> int:
    try:
        return sum(file.stat().st_size for file in path.iterdir())
    except OSError:
        return 0
