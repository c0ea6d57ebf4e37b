"""Reading pushed results: the layers around a ProtocolDAGResult, and what the server checks.

The sources of the rules are gufe's JSON codec (a value of class `bytes` is zstd in latin-1) and
the constructors of gufe's result classes; whatever they trip over, the server answers with 500.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import zstandard

from .errors import BrokenError

_RESULT_FIELDS = {
    "name",
    "_key",
    "source_key",
    "inputs",
    "outputs",
    "stderr",
    "stdout",
    "start_time",
    "end_time",
}
_FAILURE_FIELDS = _RESULT_FIELDS | {"exception", "traceback"}
_DAG_REQUIRED = {"protocol_units", "protocol_unit_results", "transformation_key"}
_DAG_FIELDS = _DAG_REQUIRED | {"extends_key", "name"}
_TAGS = {"__qualname__", "__module__", ":version:"}


@dataclass(frozen=True, slots=True)
class ResultDocument:
    """What the server makes of a result: is it good, and if not, the tracebacks of its units."""

    key: str
    ok: bool
    tracebacks: tuple[str, ...]

    def check_tracebacks(self) -> None:
        """A failed result needs failed units, each with a traceback; the server breaks otherwise.

        It breaks after the entry was stored, so this is called then.
        """
        if not self.tracebacks or "" in self.tracebacks:
            raise BrokenError("a failed result without a unit failure or with an empty traceback")


def read_push(body: bytes) -> tuple[object, str | None]:
    """The two fields of a push; the first is bytes if they came in gufe's form."""
    try:
        fields = json.loads(body.decode("utf-8"), object_hook=_revive_bytes)
        return fields["protocoldagresult"], fields["compute_service_id"]
    except (ValueError, KeyError, TypeError) as error:
        raise BrokenError(f"not a push: {error!r}") from error


def read_chain(blob: bytes) -> list[Any]:
    """Undo zstd and JSON; BrokenError for frames that do not declare their content size."""
    try:
        chain: list[Any] = json.loads(zstandard.ZstdDecompressor().decompress(blob))
    except (zstandard.ZstdError, ValueError) as error:
        raise BrokenError(f"not zstd of JSON: {error}") from error
    return chain


def read_document(blob: object, unimportable: Collection[str] = ()) -> ResultDocument:
    """Check a pushed result as the server does; BrokenError before anything is stored."""
    if not isinstance(blob, bytes):
        raise BrokenError(f"the result is {type(blob).__name__}, not bytes in gufe's form")
    try:
        return _read_chain_of_result(read_chain(blob), unimportable)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise BrokenError(f"not the keyed chain of a ProtocolDAGResult: {error!r}") from error


def _read_chain_of_result(chain: list[Any], unimportable: Collection[str]) -> ResultDocument:
    known: dict[str, dict[str, Any]] = {}
    for key, value in chain:
        _check_references(value, known, unimportable)
        _check_fields(value)
        known[key] = value
    key, dag = chain[-1]
    if dag["__qualname__"] != "ProtocolDAGResult":
        raise TypeError(f"{dag['__qualname__']} is not a result")
    units = [reference[":gufe-key:"] for reference in dag["protocol_units"]]
    results = [known[reference[":gufe-key:"]] for reference in dag["protocol_unit_results"]]
    succeeded: set[str] = set()
    tracebacks: list[str] = []
    for result in results:
        if result["source_key"] not in units:
            raise KeyError(result["source_key"])
        if result["__qualname__"] == "ProtocolUnitFailure":
            tracebacks.append(result["traceback"])
        else:
            succeeded.add(result["source_key"])
    return ResultDocument(key, succeeded.issuperset(units), tuple(tracebacks))


def _check_references(value: Any, known: Collection[str], unimportable: Collection[str]) -> None:
    if isinstance(value, dict):
        if ":gufe-key:" in value and value[":gufe-key:"] not in known:
            raise KeyError(value[":gufe-key:"])
        module = str(value.get("__module__", ""))
        if any(module == name or module.startswith(f"{name}.") for name in unimportable):
            raise BrokenError(f"the server cannot import {module}")
        for item in value.values():
            _check_references(item, known, unimportable)
    elif isinstance(value, list):
        for item in value:
            _check_references(item, known, unimportable)


def _check_fields(value: dict[str, Any]) -> None:
    """The constructors of these classes take exactly their fields; others are not known here."""
    fields = value.keys() - _TAGS
    match value["__module__"], value["__qualname__"]:
        case "gufe.protocols.protocoldag", "ProtocolDAGResult":
            fits = _DAG_REQUIRED <= fields <= _DAG_FIELDS
        case "gufe.protocols.protocolunit", "ProtocolUnitResult":
            fits = {"_key", "source_key", "inputs", "outputs"} <= fields <= _RESULT_FIELDS
        case "gufe.protocols.protocolunit", "ProtocolUnitFailure":
            fits = {"_key", "source_key", "inputs", "outputs", "exception", "traceback"} <= fields
            fits = fits and fields <= _FAILURE_FIELDS
        case _:
            fits = True
    if not fits:
        raise TypeError(f"{value['__qualname__']} with the fields {sorted(fields)}")


def _revive_bytes(value: dict[str, Any]) -> object:
    if not value.keys() >= {"__class__", "__module__", ":is_custom:"}:
        return value
    if (value["__class__"], value["__module__"]) != ("bytes", "builtins"):
        return value
    raw = value["latin-1"].encode("latin-1")
    try:
        return zstandard.ZstdDecompressor().decompress(raw)
    except zstandard.ZstdError:
        return raw
