"""A stand-in for the worker's child process: it does no science, and everything that science does.

It keeps to the boundary described in `computepool_worker.boundary`, obeys the member ``stand_in``
of the Transformation it is given, and writes a result that the server takes. It needs nothing but
Python's standard library, because it runs in the worker's image.

``stand_in``: ``seconds`` (how long, 0), ``units`` (1), ``behaviour`` (ok) and what a behaviour
needs besides; ``device_memory`` (bytes) is what it says that it has used of a device:

- ok, raise: a result; a failed result. Not before the file ``gate`` exists, if one is named.
- break: a failed result, and from then on the device is unfit: it makes the file ``broken``;
  if it ``dies``, by a segfault, there is no result.
- segfault, abort, killed: death by that signal, half way.
- exit: death with exit code ``code`` (1).
- hang: never ends. stubborn: never ends and ignores SIGTERM.
- hog: keeps a processor busy for ``seconds``.
- greedy: takes ``bytes`` bytes of memory.
- fill: writes to its scratch directory until the disk is full, and dies of that.
- flood: writes ``bytes`` bytes to stdout and as many to stderr.
- flaky: death by a segfault as often as the file ``counter`` allows (``times``), then a result.
- fork: leaves a process behind that never ends; its number is in the output ``left_behind``.
- escape: as flaky, but before each attempt it leaves a process behind in a session of its own;
  their numbers are in the file ``escaped``.
- refuse, refuse_host: no result, by fault of the Task or of the machine.
- lose: says that it has a result, and has none.
- gibberish: breaks the protocol of the pipe.

The environment variable COMPUTEPOOL_STANDIN_READY says how it gets ready: ok, unfit, crash or hang;
COMPUTEPOOL_STANDIN_READY_SECONDS how long that takes. While there is a file of the name that
COMPUTEPOOL_STANDIN_BROKEN gives, the device is unfit.
"""

import argparse
import ctypes
import datetime as dt
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

Message = dict[str, Any]
Entry = tuple[str, dict[str, Any]]

_BLOCK = 128 * 1024
_MODULE = "computepool_standin"


def main() -> int:
    """Answer requests until there are no more."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, required=True)
    parser.add_argument("--answers", type=int, required=True)
    arguments = parser.parse_args()
    _die_with_parent()
    with os.fdopen(arguments.requests, "rb") as requests, os.fdopen(arguments.answers, "wb") as out:
        for line in requests:
            request = json.loads(line)
            if request["message"] == "prepare":
                _say(out, _prepare(request))
            elif request["message"] == "execute":
                _say(out, _execute(request, out))
            elif request["message"] == "fail":
                _say(out, _fail(request))
    return 0


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _say(answers: IO[bytes], message: Message) -> None:
    answers.write(json.dumps(message).encode() + b"\n")
    answers.flush()


def _prepare(request: Message) -> Message:
    time.sleep(float(os.environ.get("COMPUTEPOOL_STANDIN_READY_SECONDS", "0")))
    broken = os.environ.get("COMPUTEPOOL_STANDIN_BROKEN")
    if broken and Path(broken).exists():
        reason = "the device has fallen off its bus"
        return {"message": "ready", "ok": False, "reason": reason, "facts": {}}
    match os.environ.get("COMPUTEPOOL_STANDIN_READY", "ok"):
        case "crash":
            sys.stderr.write("the driver has gone\n")
            os._exit(3)
        case "hang":
            _wait_for_ever()
        case "unfit":
            reason = f"there is no platform {request['openmm_platform']}"
            return {"message": "ready", "ok": False, "reason": reason, "facts": {}}
    return {"message": "ready", "ok": True, "reason": "", "facts": {"device": "stand-in"}}


def _execute(request: Message, answers: IO[bytes]) -> Message:
    body = json.loads(Path(request["transformation"]).read_text(encoding="utf-8"))
    transformation_key, stand_in = read_transformation(body[0])
    stand_in["directory"] = request["scratch"]
    seconds = float(stand_in.get("seconds", 0))
    units = int(stand_in.get("units", 1))
    for name in ("shared", "scratch"):
        Path(request[name], "left-by-the-science").write_text("data", encoding="ascii")
    began, cpu_began = time.monotonic(), time.process_time()
    outputs: dict[str, Any] = {"task": request["task"], "process": os.getpid()}
    chain: list[Entry] = []
    failed = False
    for number in range(units):
        unit = {"task": request["task"], "unit": number + 1, "units": units}
        _say(answers, {"message": "progress", "name": f"unit {number}", **unit})
        started = dt.datetime.now(dt.UTC)
        behaviour = stand_in.get("behaviour", "ok") if number == units - 1 else "ok"
        failed = behaviour in ("raise", "break")
        match behaviour:
            case "refuse" | "refuse_host":
                fault = "task" if behaviour == "refuse" else "host"
                detail = f"told to {behaviour}"
                return {
                    "message": "refused",
                    "task": request["task"],
                    "fault": fault,
                    "detail": detail,
                }
            case "gibberish":
                answers.write(b"what?\n")
                answers.flush()
        _ACTIONS.get(behaviour, _sleep)(seconds / units, stand_in, outputs)
        chain += _unit(number, started, outputs, failed=failed)
    chain.append(_dag_result(request["task"], chain, transformation_key, extends_key(body[1])))
    if stand_in.get("behaviour") != "lose":
        write_result(Path(request["result"]), chain)
    return {
        "message": "done",
        "task": request["task"],
        "ok": not failed,
        "units": units,
        "failures": int(failed),
        "seconds": time.monotonic() - began,
        "cpu_seconds": time.process_time() - cpu_began,
        "peak_device_memory": stand_in.get("device_memory"),
    }


def _fail(request: Message) -> Message:
    body = json.loads(Path(request["transformation"]).read_text(encoding="utf-8"))
    transformation_key, stand_in = read_transformation(body[0])
    if stand_in.get("fails_hard"):
        os.kill(os.getpid(), signal.SIGKILL)
    chain = _unit(0, dt.datetime.now(dt.UTC), {}, failed=True)
    chain[-1][1]["exception"] = [request["exception"], [""]]
    chain[-1][1]["traceback"] = request["traceback"]
    chain.append(_dag_result(request["task"], chain, transformation_key, extends_key(body[1])))
    write_result(Path(request["result"]), chain)
    return {
        "message": "done",
        "task": request["task"],
        "ok": False,
        "units": 1,
        "failures": 1,
        "seconds": 0.0,
    }


def read_transformation(transformation: str | list[Entry]) -> tuple[str, dict[str, Any]]:
    """Return the Transformation's key and its member ``stand_in``, from either form on the wire."""
    if isinstance(transformation, str):
        # The nested form of old servers carries no key.
        nested = json.loads(transformation)
        return f"{nested['__qualname__']}-{uuid.uuid4().hex}", nested.get("stand_in", {})
    key, members = transformation[-1]
    return key, members.get("stand_in", {})


def extends_key(previous: str | None) -> str | None:
    """Return the key of the result that the Task extends, if this program wrote it."""
    if previous is None:
        return None
    plain = zstd_load(previous.encode("latin-1"))
    return None if plain is None else str(json.loads(plain)[-1][0])


def _sleep(seconds: float, stand_in: Message, _outputs: Message) -> None:
    time.sleep(seconds)
    gate = stand_in.get("gate")
    while gate is not None and not Path(gate).exists():
        time.sleep(0.01)


def _die_by(number: signal.Signals) -> Callable[[float, Message, Message], None]:
    def die(seconds: float, _stand_in: Message, _outputs: Message) -> None:
        time.sleep(seconds / 2)
        sys.stderr.write("the science is about to end\n")
        sys.stderr.flush()
        signal.signal(number, signal.SIG_DFL) if number is not signal.SIGKILL else None
        os.kill(os.getpid(), number)

    return die


def _exit(seconds: float, stand_in: Message, _outputs: Message) -> None:
    time.sleep(seconds / 2)
    sys.stderr.write("the science is about to end\n")
    sys.stderr.flush()
    os._exit(int(stand_in.get("code", 1)))


def _be_flaky(seconds: float, stand_in: Message, _outputs: Message) -> None:
    counter = Path(stand_in["counter"])
    died = int(counter.read_text(encoding="ascii")) if counter.exists() else 0
    if died < int(stand_in["times"]):
        counter.write_text(str(died + 1), encoding="ascii")
        os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(seconds)


def _break(seconds: float, stand_in: Message, outputs: Message) -> None:
    _sleep(seconds, stand_in, outputs)
    Path(stand_in["broken"]).touch()
    if stand_in.get("dies"):
        os.kill(os.getpid(), signal.SIGSEGV)


def _hang(_seconds: float, _stand_in: Message, _outputs: Message) -> None:
    _wait_for_ever()


def _be_stubborn(_seconds: float, _stand_in: Message, _outputs: Message) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _wait_for_ever()


def _wait_for_ever() -> None:
    while True:
        time.sleep(3600)


def _hog(seconds: float, _stand_in: Message, _outputs: Message) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def _flood(_seconds: float, stand_in: Message, _outputs: Message) -> None:
    line = b"x" * 99 + b"\n"
    left = int(stand_in["bytes"])
    while left > 0:
        for descriptor in (1, 2):
            os.write(descriptor, line * 600)
        left -= 600 * len(line)


def _be_greedy(seconds: float, stand_in: Message, _outputs: Message) -> None:
    taken = b"x" * int(stand_in["bytes"])
    time.sleep(seconds)
    del taken


def _fork(seconds: float, _stand_in: Message, outputs: Message) -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(3600)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    outputs["left_behind"] = process.pid
    process.returncode = 0
    time.sleep(seconds)


def _escape(seconds: float, stand_in: Message, outputs: Message) -> None:
    code = "import time; time.sleep(3600)"
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    with Path(stand_in["escaped"]).open("a", encoding="ascii") as file:
        file.write(f"{process.pid}\n")
    process.returncode = 0
    _be_flaky(seconds, stand_in, outputs)


def _fill(_: float, stand_in: Message, __: Message) -> None:
    with Path(stand_in["directory"], "filling").open("wb") as file:
        while True:
            file.write(b"x" * _BLOCK)


_ACTIONS: dict[str, Callable[[float, Message, Message], None]] = {
    "break": _break,
    "segfault": _die_by(signal.SIGSEGV),
    "abort": _die_by(signal.SIGABRT),
    "killed": _die_by(signal.SIGKILL),
    "exit": _exit,
    "flaky": _be_flaky,
    "hang": _hang,
    "stubborn": _be_stubborn,
    "hog": _hog,
    "greedy": _be_greedy,
    "fill": _fill,
    "flood": _flood,
    "fork": _fork,
    "escape": _escape,
}


def _unit(number: int, started: dt.datetime, outputs: Message, *, failed: bool) -> list[Entry]:
    unit_key = f"StandInUnit-{uuid.uuid4().hex}"
    kind = "ProtocolUnitFailure" if failed else "ProtocolUnitResult"
    key = f"{kind}-{uuid.uuid4().hex}"
    name = f"unit {number}"
    unit = {
        "inputs": {},
        "name": name,
        "_key": unit_key,
        "__qualname__": "StandInUnit",
        "__module__": _MODULE,
        ":version:": 1,
    }
    result: dict[str, Any] = {
        "name": name,
        "_key": key,
        "source_key": unit_key,
        "inputs": {},
        "outputs": {} if failed else outputs,
        "stderr": {},
        "stdout": {},
        "start_time": _moment(started),
        "end_time": _moment(dt.datetime.now(dt.UTC)),
        "__qualname__": kind,
        "__module__": "gufe.protocols.protocolunit",
        ":version:": 1,
    }
    if failed:
        result["exception"] = ["RuntimeError", ["the stand-in was told to raise"]]
        result["traceback"] = (
            "Traceback (most recent call last):\nRuntimeError: the stand-in was told to raise\n"
        )
    return [(unit_key, unit), (key, result)]


def _moment(moment: dt.datetime) -> Message:
    return {
        "__class__": "datetime",
        "__module__": "datetime",
        ":is_custom:": True,
        "isotime": moment.replace(tzinfo=None).isoformat(timespec="microseconds"),
    }


def _dag_result(
    task: str, chain: list[Entry], transformation_key: str, extends: str | None
) -> Entry:
    units = [{":gufe-key:": key} for key, _ in chain if key.startswith("StandInUnit-")]
    results = [{":gufe-key:": key} for key, _ in chain if key.startswith("ProtocolUnit")]
    return f"ProtocolDAGResult-{uuid.uuid4().hex}", {
        "name": task,
        "protocol_units": units,
        "protocol_unit_results": results,
        "transformation_key": transformation_key,
        "extends_key": extends,
        "__qualname__": "ProtocolDAGResult",
        "__module__": "gufe.protocols.protocoldag",
        ":version:": 1,
    }


def write_result(path: Path, chain: list[Entry]) -> None:
    """Write what gufe's JSON encoder makes of the result's bytes; a whole file or none."""
    twice = zstd_store(zstd_store(json.dumps(chain).encode()))
    value = {
        "__class__": "bytes",
        "__module__": "builtins",
        ":is_custom:": True,
        "latin-1": twice.decode("latin-1"),
    }
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    unfinished.rename(path)


def zstd_store(data: bytes) -> bytes:
    """Return a zstd frame of raw blocks that declares its content size (RFC 8878, 3.1.1)."""
    # Single segment, a content size of four bytes, no checksum, no dictionary.
    frame = bytearray(b"\x28\xb5\x2f\xfd\xa0" + len(data).to_bytes(4, "little"))
    blocks = [data[begin : begin + _BLOCK] for begin in range(0, len(data), _BLOCK)] or [b""]
    for number, block in enumerate(blocks, 1):
        header = len(block) << 3 | (number == len(blocks))
        frame += header.to_bytes(3, "little") + block
    return bytes(frame)


def zstd_load(frame: bytes) -> bytes | None:
    """Undo `zstd_store`; None for frames of any other kind."""
    if not frame.startswith(b"\x28\xb5\x2f\xfd\xa0"):
        return None
    data = bytearray()
    position, last = 9, False
    while not last:
        header = int.from_bytes(frame[position : position + 3], "little")
        last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
        if kind != 0:
            return None
        data += frame[position + 3 : position + 3 + size]
        position += 3 + size
    return bytes(data)


if __name__ == "__main__":
    sys.exit(main())
