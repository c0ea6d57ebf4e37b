"""Bodies of pushes, made from the one real result among the examples."""

import gzip
import json
import random
import zlib
from collections.abc import Callable
from typing import Any

import zstandard

from simulator.documents import encode_bytes

from .recordings import example

Chain = list[list[Any]]


def real_chain() -> Chain:
    """The keyed chain of a real, good ProtocolDAGResult."""
    value = example("results_request.json")["protocoldagresult"]
    blob = zstandard.decompress(value["latin-1"].encode("latin-1"))
    chain: Chain = json.loads(zstandard.decompress(blob))
    return chain


def good(chain: Chain | None = None) -> dict[str, Any]:
    """The good result, in gufe's bytes form."""
    return encode_bytes(_blob(real_chain() if chain is None else chain))


def other_good() -> dict[str, Any]:
    """Another good result."""
    chain = real_chain()
    chain[-1][1]["name"] = "another result"
    chain[-1][0] = chain[-1][0][:-4] + "ffff"
    return good(chain)


def failed(
    traceback: str = "Traceback (most recent call last):\nValueError: nope",
) -> dict[str, Any]:
    """The same computation with its last unit failed."""
    chain = real_chain()
    index = _last_result(chain)
    key, value = chain[index]
    failure_key = key.replace("ProtocolUnitResult", "ProtocolUnitFailure")
    value |= {
        "_key": failure_key,
        "outputs": {},
        "exception": ["ValueError", ["nope"]],
        "traceback": traceback,
        "__qualname__": "ProtocolUnitFailure",
    }
    chain[index][0] = failure_key
    results = chain[-1][1]["protocol_unit_results"]
    results[results.index({":gufe-key:": key})] = {":gufe-key:": failure_key}
    return good(chain)


def unfinished() -> dict[str, Any]:
    """The same computation without its last unit's result: not good, yet nothing failed."""
    chain = real_chain()
    key, _ = chain.pop(_last_result(chain))
    chain[-1][1]["protocol_unit_results"].remove({":gufe-key:": key})
    return good(chain)


def of_module(module: str) -> dict[str, Any]:
    """The good result with its units from another module."""
    chain = real_chain()
    for key, value in chain:
        if key.partition("-")[0] in {"InitializeUnit", "SimulationUnit", "FinishUnit"}:
            value["__module__"] = module
    return good(chain)


def large(size: int = 8_000_000) -> dict[str, Any]:
    """A good result with much in it that hardly compresses."""
    chain = real_chain()
    noise = random.Random(0).randbytes(size // 2).hex()
    chain[_last_result(chain)][1]["outputs"]["noise"] = noise
    return good(chain)


def of_transformation() -> dict[str, Any]:
    """A keyed chain of something else."""
    return encode_bytes(_blob(example("transformation_gufe.json")[0]))


def plain_dict() -> dict[str, Any]:
    """The bytes of a dict that is no keyed chain."""
    return encode_bytes(_blob(real_chain()[-1][1]))


def without_size() -> dict[str, Any]:
    """A frame that does not declare its content size, as streaming compressors write."""
    stream = zstandard.ZstdCompressor().compressobj()
    data = json.dumps(real_chain()).encode()
    return encode_bytes(stream.compress(data) + stream.flush())


def single_layer() -> dict[str, Any]:
    """The bytes as an encoder without its own zstd layer writes them."""
    return good() | {"latin-1": _blob(real_chain()).decode("latin-1")}


def level_19() -> dict[str, Any]:
    """The good result, compressed hard."""
    return encode_bytes(zstandard.compress(json.dumps(real_chain()).encode(), 19))


Value = Callable[[], Any]
_FIXED: dict[str, Value] = {
    "results-ok-pushed-another-result-on-complete": other_good,
    "results-ok-from-B-after-A": other_good,
    "results-service-id-unknown-failed": failed,
    "results-zstd-of-a-transformation": of_transformation,
    "results-zstd-without-content-size": without_size,
    "results-uncompressed-json-bytes": lambda: encode_bytes(json.dumps(real_chain()).encode()),
    "results-keyed-chain-inline": real_chain,
    "results-zstd-of-plain-dict": plain_dict,
    "results-zstd-level-19": level_19,
    "results-protocol-not-importable-by-server": lambda: of_module("foreign_proto"),
    "results-not-ok-without-any-unit-failure": unfinished,
    "results-failure-with-empty-traceback": lambda: failed(""),
    "results-failure-synthetic-with-traceback": failed,
    "results-large-8MB": large,
    "results-hand-made-bytes-object": single_layer,
    "results-hand-made-bytes-single-zstd": single_layer,
    "results-extends-parent-fails-first": failed,
}


def value_of(case: str) -> Any:
    """The `protocoldagresult` that a case pushed, as far as its recording tells."""
    if case in _FIXED:
        return _FIXED[case]()
    return failed() if case.startswith(("results-failed", "results-forgive-fail")) else good()


def body_of(case: str, service: str | None) -> bytes:
    """The body of a case's push, before the encoding that its headers announce."""
    fields: dict[str, Any] = {"protocoldagresult": value_of(case)}
    if case != "results-no-compute-service-id":
        fields["compute_service_id"] = service
    if case == "results-json-not-ascii-escaped":
        return json.dumps(fields, ensure_ascii=False).encode()
    return json.dumps(fields).encode()


def encoded(case: str, body: bytes, encoding: str | None) -> bytes:
    """The body as it goes over the wire; some cases lie about it."""
    if case == "results-gzip-header-plain-body":
        return body
    if case == "results-gzip-body-no-header" or encoding in {"gzip", "GZIP"}:
        return gzip.compress(body, 1)
    if encoding == "deflate":
        return zlib.compress(body)
    return body


def _blob(value: Any) -> bytes:
    return zstandard.compress(json.dumps(value).encode())


def _last_result(chain: Chain) -> int:
    finish = chain[-1][1]["protocol_unit_results"][-1][":gufe-key:"]
    return next(index for index, (key, _) in enumerate(chain) if key == finish)
