"""What the worker's two processes say to each other, and nothing else passes between them.

The parent starts the child with two pipes, as ``--requests FD --answers FD``: it writes to the
first and reads from the second. A message is one JSON object on one line of at most 64 KiB, and
its member ``message`` says what it is. Bulk goes through files that the messages name.

::

    parent                                   child
    prepare {openmm_platform,         ──>    imports the science, looks at the device
      device_min_memory, scratch,
      scratch_min_free}
                                      <──    ready {ok, reason, facts, fault}
    execute {task, transformation,    ──>    reads the file ``transformation``, executes,
      result, shared, scratch,               writes the file ``result``
      n_retries, keep_shared,
      keep_scratch}
                                      <──    progress {task, unit, units, name,
                                               transformation, protocol}, any number
                                      <──    done {task, ok, units, failures, seconds,
                                               cpu_seconds, peak_memory,
                                               peak_device_memory, transformation,
                                               protocol}
                                             or refused {task, fault, detail}
    fail {task, transformation,       ──>    writes a failed result to the file ``result``
      result, exception, traceback}
                                      <──    done or refused, as above
    (closes the pipe)                        leaves with exit code 0

- ``prepare`` comes first, once. Nothing is claimed before ``ready`` with ok true. With ok false its
  fault is ``node`` if another machine may do better, and ``image`` if none will.
- ``transformation`` is the body of ``GET /tasks/{task}/transformation/gufe`` as the server sent it:
  a list of the Transformation (a keyed chain, or from old servers a JSON string) and the result
  that the Task extends, or null.
- ``result`` is the JSON value, in UTF-8, of ``protocoldagresult`` in the request that pushes it. It
  is written under another name and renamed, so that a file of this name is always a whole one. It
  exists when ``done`` is said, also with ok false: a Protocol that raises has a result, a failed
  one.
- ``refused`` means that there is no result. Its fault is ``task`` if the Task cannot be executed by
  this worker at all (it cannot be decoded, say), and ``host`` if this machine is to blame (a full
  disk, say).
- ``progress`` says that unit number ``unit`` of ``units`` (counted from 1) begins.
- ``transformation``, a gufe key, and ``protocol``, the name of a class, are there for the log.
- ``fail`` is for Tasks that cannot be run because whatever runs them dies. The result has one
  failure, with this ``exception`` (its name) and ``traceback``, and the Task is not executed.
- ``cpu_seconds`` and ``peak_memory`` (bytes) are of the child and of what it started together, for
  this Task as far as can be told. ``peak_device_memory`` (bytes) is what was in use of the device
  that was checked, by whomever, and null where nobody can tell.
- A child that has nothing to say for a Task simply dies; its exit status and the end of its stderr
  tell the rest.
- A message of an unknown kind is passed over, so that either side can be the newer one.

The child's stdout and stderr belong to the science. The child knows no credentials.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal, TypeAlias

MAX_LINE = 64 * 1024
# A reason or detail has to leave room for the rest of the line, even if JSON escapes all of it.
MAX_DETAIL = 8 * 1024


class BoundaryError(ValueError):
    """A line is not a message of this protocol."""


@dataclass(frozen=True, slots=True)
class Prepare:
    """Import the science and see whether the device is what the pool demands.

    ``device_min_memory`` and ``scratch_min_free`` are in MiB, the latter of the file system that
    the directory ``scratch`` is on; 0 demands nothing.
    """

    openmm_platform: str | None
    device_min_memory: int = 0
    scratch: str = ""
    scratch_min_free: int = 0


@dataclass(frozen=True, slots=True)
class Execute:
    """Execute one Task. All paths are absolute; the directories exist and are the Task's own."""

    task: str
    transformation: str
    result: str
    shared: str
    scratch: str
    n_retries: int
    keep_shared: bool
    keep_scratch: bool


@dataclass(frozen=True, slots=True)
class Fail:
    """Write a failed result for a Task that is not executed, with a story in its traceback."""

    task: str
    transformation: str
    result: str
    exception: str
    traceback: str


@dataclass(frozen=True, slots=True)
class Ready:
    """The child can take Tasks, or (ok false) cannot, for ``reason``; ``facts`` are for the log."""

    ok: bool
    reason: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    fault: Literal["node", "image"] = "node"


@dataclass(frozen=True, slots=True)
class Done:
    """The result is written. ``ok`` is false if a unit of the Task failed for good."""

    task: str
    ok: bool
    units: int
    failures: int
    seconds: float
    cpu_seconds: float = 0.0
    peak_memory: int = 0
    peak_device_memory: int | None = None
    transformation: str = ""
    protocol: str = ""


@dataclass(frozen=True, slots=True)
class Begun:
    """Unit number ``unit`` of ``units``, named ``name``, begins."""

    task: str
    unit: int
    units: int
    name: str
    transformation: str = ""
    protocol: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """There is no result, by fault of the task or of the host."""

    task: str
    fault: Literal["task", "host"]
    detail: str


Request: TypeAlias = Prepare | Execute | Fail
Answer: TypeAlias = Ready | Begun | Done | Refused
Message: TypeAlias = Request | Answer

_KINDS: dict[str, type[Message]] = {
    "prepare": Prepare,
    "execute": Execute,
    "fail": Fail,
    "ready": Ready,
    "progress": Begun,
    "done": Done,
    "refused": Refused,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def encode(message: Message) -> bytes:
    """Return the line of ``message``, with its line feed. Texts of any length are shortened."""
    members = asdict(message)
    for name in ("reason", "detail", "name", "traceback"):
        if name in members:
            members[name] = shorten(members[name], MAX_DETAIL)
    line = json.dumps({"message": _NAMES[type(message)], **members}).encode() + b"\n"
    if len(line) > MAX_LINE:
        raise BoundaryError(f"a message of {len(line)} bytes is longer than {MAX_LINE}")
    return line


def decode(line: bytes) -> Message | None:
    """Read a line; None if it is a message of a kind that this side does not know.

    Members that this side does not know are passed over. Raises BoundaryError.
    """
    try:
        members = json.loads(line)
    except ValueError:
        raise BoundaryError(f"not a line of JSON: {shorten(repr(line), 200)}") from None
    if not isinstance(members, dict) or not isinstance(members.get("message"), str):
        raise BoundaryError(f"not a message: {shorten(repr(line), 200)}")
    kind = _KINDS.get(members["message"])
    if kind is None:
        return None
    known = {name: members[name] for name in kind.__dataclass_fields__ if name in members}
    try:
        message = kind(**known)
    except TypeError:
        raise BoundaryError(f"members are missing: {shorten(repr(line), 200)}") from None
    _check(message, line)
    return message


def shorten(text: str, limit: int) -> str:
    """Cut the middle out of ``text`` if it is longer than ``limit`` characters."""
    if len(text) <= limit:
        return text
    half = (limit - 5) // 2
    return f"{text[:half]} ... {text[-half:]}"


_TYPES: dict[str, type | tuple[type, ...]] = {
    "task": str,
    "transformation": str,
    "result": str,
    "shared": str,
    "scratch": str,
    "reason": str,
    "detail": str,
    "fault": str,
    "ok": bool,
    "keep_shared": bool,
    "keep_scratch": bool,
    "n_retries": int,
    "units": int,
    "failures": int,
    "seconds": (int, float),
    "facts": dict,
    "cpu_seconds": (int, float),
    "peak_memory": int,
    "peak_device_memory": (int, type(None)),
    "unit": int,
    "name": str,
    "protocol": str,
    "exception": str,
    "traceback": str,
    "openmm_platform": (str, type(None)),
    "device_min_memory": int,
    "scratch_min_free": int,
}


def _check(message: Message, line: bytes) -> None:
    for name, value in asdict(message).items():
        if not isinstance(value, _TYPES[name]):
            raise BoundaryError(f"{name} has a wrong type: {shorten(repr(line), 200)}")
    if isinstance(message, Refused) and message.fault not in ("task", "host"):
        raise BoundaryError(f"fault is neither task nor host: {shorten(repr(line), 200)}")
    if isinstance(message, Ready) and message.fault not in ("node", "image"):
        raise BoundaryError(f"fault is neither node nor image: {shorten(repr(line), 200)}")
