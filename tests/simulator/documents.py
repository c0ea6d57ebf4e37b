"""Building and taking apart the documents that travel: transformations and results.

A transformation of the stand-in protocol carries, beside gufe's fields, the key `stand_in`: how
the stand-in child shall behave. A result document is the least that is a ProtocolDAGResult.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import zstandard

from .identifiers import IdMaker
from .records import KeyedChain, Transformation

STAND_IN_MODULE = "computepool_standin"


def transformation_chain(
    *,
    protocol: str = "StandInProtocol",
    module: str = STAND_IN_MODULE,
    name: str = "stand-in",
    stand_in: Mapping[str, Any] | None = None,
) -> KeyedChain:
    """The keyed chain of a NonTransformation of a protocol; `stand_in` tells the child what to do.

    The keys are digests of the contents, so equal arguments make equal chains.
    """
    settings = {"settings": {}, "__qualname__": protocol, "__module__": module, ":version:": 1}
    protocol_key = f"{protocol}-{_digest(settings)}"
    transformation: dict[str, Any] = {
        "protocol": {":gufe-key:": protocol_key},
        "name": name,
        "stand_in": dict(stand_in or {}),
        "__qualname__": "NonTransformation",
        "__module__": "gufe.transformations.transformation",
        ":version:": 1,
    }
    return [
        (protocol_key, settings),
        (f"NonTransformation-{_digest(transformation)}", transformation),
    ]


def transformation_of(chain: KeyedChain) -> Transformation:
    """Read a keyed chain whose last entry is the transformation; ValueError if it is empty.

    Labels are the classes it depends on directly, and GufeTokenizable, which matches everything.
    """
    if not chain:
        raise ValueError("a transformation's keyed chain has at least one entry")
    classes = {key: value["__qualname__"] for key, value in chain}
    key, last = chain[-1]
    labels = {classes[reference] for reference in _references(last)}
    return Transformation(key, [(k, v) for k, v in chain], frozenset(labels | {"GufeTokenizable"}))


def nested_json(chain: KeyedChain) -> str:
    """The older wire form: the JSON of one dict with all dependencies written out inside."""
    known: dict[str, Any] = {}
    for key, value in chain:
        known[key] = _inline(value, known)
    return json.dumps(known[chain[-1][0]])


def ok_document(
    task: str,
    transformation_key: str,
    *,
    new_id: IdMaker,
    outputs: Mapping[str, Any] | None = None,
    units: int = 1,
    extends_key: str | None = None,
    now: datetime | None = None,
) -> KeyedChain:
    """A result whose every unit succeeded, each with the same outputs."""
    entries, keys = _units(units, new_id)
    for number, key in enumerate(keys):
        value = _unit_result("ProtocolUnitResult", key, number, new_id, outputs or {}, now)
        entries.append((value["_key"], value))
    return _with_dag(entries, keys, task, transformation_key, extends_key, new_id)


def failed_document(
    task: str,
    transformation_key: str,
    *,
    new_id: IdMaker,
    traceback: str = "Traceback (most recent call last):\nRuntimeError: stand-in failure\n",
    exception: tuple[str, tuple[Any, ...]] = ("RuntimeError", ("stand-in failure",)),
    extends_key: str | None = None,
    now: datetime | None = None,
) -> KeyedChain:
    """A result with one unit, which failed."""
    entries, keys = _units(1, new_id)
    value = _unit_result("ProtocolUnitFailure", keys[0], 0, new_id, {}, now)
    value |= {"exception": [exception[0], list(exception[1])], "traceback": traceback}
    entries.append((value["_key"], value))
    return _with_dag(entries, keys, task, transformation_key, extends_key, new_id)


def encode_document(chain: KeyedChain) -> dict[str, Any]:
    """The JSON value of `protocoldagresult`: zstd of zstd of the JSON, as gufe writes bytes."""
    return encode_bytes(zstandard.compress(json.dumps(chain).encode()))


def encode_bytes(data: bytes) -> dict[str, Any]:
    """Bytes in gufe's JSON form, which adds a zstd layer to whatever they are."""
    return {
        "__class__": "bytes",
        "__module__": "builtins",
        ":is_custom:": True,
        "latin-1": zstandard.compress(data).decode("latin-1"),
    }


def decode_document(value: Mapping[str, Any]) -> KeyedChain:
    """Undo `encode_document`."""
    blob = zstandard.decompress(value["latin-1"].encode("latin-1"))
    return [(key, entry) for key, entry in json.loads(zstandard.decompress(blob))]


def push_body(value: Mapping[str, Any], service_id: str | None) -> bytes:
    """The body of a push."""
    return json.dumps({"protocoldagresult": value, "compute_service_id": service_id}).encode()


def zstd_store(data: bytes) -> bytes:
    """A zstd frame of uncompressed blocks that declares its content size, for lack of a library.

    RFC 8878: magic number, descriptor (single segment, four bytes of size), blocks of at most
    128 KiB, each with three bytes of header: length, type raw, and whether it is the last.
    """
    frame = bytearray(b"\x28\xb5\x2f\xfd\xa0" + len(data).to_bytes(4, "little"))
    blocks = [data[start : start + 131072] for start in range(0, len(data), 131072)] or [b""]
    for number, block in enumerate(blocks, 1):
        is_last = number == len(blocks)
        frame += (len(block) << 3 | is_last).to_bytes(3, "little") + block
    return bytes(frame)


def _units(count: int, new_id: IdMaker) -> tuple[KeyedChain, list[str]]:
    keys = [f"StandInUnit-{new_id()}" for _ in range(count)]
    entries: KeyedChain = []
    for number, key in enumerate(keys):
        unit = {"inputs": {}, "name": f"unit {number}", "_key": key}
        entries.append((key, unit | _tags("StandInUnit", STAND_IN_MODULE)))
    return entries, keys


def _unit_result(
    qualname: str,
    source_key: str,
    number: int,
    new_id: IdMaker,
    outputs: Mapping[str, Any],
    now: datetime | None,
) -> dict[str, Any]:
    moment = {
        "__class__": "datetime",
        "__module__": "datetime",
        ":is_custom:": True,
        "isotime": (now or datetime.now(UTC)).replace(tzinfo=None).isoformat(),
    }
    return {
        "name": f"unit {number}",
        "_key": f"{qualname}-{new_id()}",
        "source_key": source_key,
        "inputs": {},
        "outputs": dict(outputs),
        "stderr": {},
        "stdout": {},
        "start_time": moment,
        "end_time": moment,
    } | _tags(qualname, "gufe.protocols.protocolunit")


def _with_dag(
    entries: KeyedChain,
    unit_keys: Iterable[str],
    task: str,
    transformation_key: str,
    extends_key: str | None,
    new_id: IdMaker,
) -> KeyedChain:
    results = [key for key, value in entries if "source_key" in value]
    dag = {
        "name": task,
        "protocol_units": [{":gufe-key:": key} for key in unit_keys],
        "protocol_unit_results": [{":gufe-key:": key} for key in results],
        "transformation_key": transformation_key,
        "extends_key": extends_key,
    } | _tags("ProtocolDAGResult", "gufe.protocols.protocoldag")
    return [*entries, (f"ProtocolDAGResult-{new_id()}", dag)]


def _tags(qualname: str, module: str) -> dict[str, Any]:
    return {"__qualname__": qualname, "__module__": module, ":version:": 1}


def _digest(value: Mapping[str, Any]) -> str:
    text = json.dumps(value, sort_keys=True)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        if ":gufe-key:" in value:
            return [value[":gufe-key:"]]
        return [key for item in value.values() for key in _references(item)]
    if isinstance(value, list):
        return [key for item in value for key in _references(item)]
    return []


def _inline(value: Any, known: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        if ":gufe-key:" in value:
            return known[value[":gufe-key:"]]
        return {key: _inline(item, known) for key, item in value.items()}
    if isinstance(value, list):
        return [_inline(item, known) for item in value]
    return value
