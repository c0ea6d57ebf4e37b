"""Result documents: the least that is well-formed, and what is not."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import zstandard

from simulator.documents import (
    decode_document,
    encode_bytes,
    encode_document,
    failed_document,
    nested_json,
    ok_document,
    push_body,
    transformation_chain,
    transformation_of,
    zstd_store,
)
from simulator.errors import BrokenError
from simulator.identifiers import random_ids
from simulator.results import ResultDocument, read_document, read_push

Chain = list[tuple[str, dict[str, Any]]]
TASK, TRANSFORMATION = "Task-0-a-b-c", "NonTransformation-0"


def good() -> Chain:
    return ok_document(
        TASK,
        TRANSFORMATION,
        new_id=random_ids(3),
        outputs={"x": 1},
        units=2,
        now=datetime(2026, 1, 2, tzinfo=UTC),
    )


def failed() -> Chain:
    return failed_document(TASK, TRANSFORMATION, new_id=random_ids(3), traceback="it broke")


def read(chain: object) -> ResultDocument:
    return read_document(zstandard.compress(json.dumps(chain).encode()))


def test_a_good_document_goes_over_the_wire_and_back() -> None:
    body = push_body(encode_document(good()), "svc-0")
    blob, service = read_push(body)
    document = read_document(blob)
    assert service == "svc-0"
    assert (document.key, document.ok, document.tracebacks) == (good()[-1][0], True, ())
    assert decode_document(json.loads(body)["protocoldagresult"]) == good()


def test_a_failed_document_carries_its_traceback() -> None:
    document = read(failed())
    assert (document.ok, document.tracebacks) == (False, ("it broke",))
    document.check_tracebacks()


def test_a_document_written_without_a_zstd_library_is_as_good() -> None:
    frame = zstd_store(zstd_store(json.dumps(good()).encode()))
    value = encode_bytes(b"") | {"latin-1": frame.decode("latin-1")}
    blob, _ = read_push(push_body(value, None))
    assert read_document(blob).ok


@pytest.mark.parametrize("size", [0, 1, 131071, 131072, 131073, 400_000])
def test_stored_frames_declare_their_size(size: int) -> None:
    data = bytes(size)
    frame = zstd_store(data)
    assert zstandard.get_frame_parameters(frame).content_size == size
    assert zstandard.decompress(frame) == data


def test_a_unit_that_failed_and_then_succeeded_is_good() -> None:
    chain = failed()
    chain.insert(2, ("ProtocolUnitResult-9", dict(chain[1][1])))
    del chain[2][1]["exception"], chain[2][1]["traceback"]
    chain[2][1]["__qualname__"] = "ProtocolUnitResult"
    chain[-1][1]["protocol_unit_results"].append({":gufe-key:": "ProtocolUnitResult-9"})
    assert read(chain).ok


def _without_last(chain: Chain) -> Any:
    return chain[:-1]


def _other_class(chain: Chain) -> Any:
    chain[-1][1]["__qualname__"] = "ProtocolDAG"
    return chain


def _unknown_reference(chain: Chain) -> Any:
    chain[-1][1]["protocol_units"].append({":gufe-key:": "StandInUnit-unknown"})
    return chain


def _wrong_order(chain: Chain) -> Any:
    return [chain[-1], *chain[:-1]]


def _foreign_source(chain: Chain) -> Any:
    next(v for _, v in chain if "source_key" in v)["source_key"] = "StandInUnit-unknown"
    return chain


def _missing_field(chain: Chain) -> Any:
    del chain[-1][1]["transformation_key"]
    return chain


def _unknown_field(chain: Chain) -> Any:
    next(v for _, v in chain if "source_key" in v)["surprise"] = 1
    return chain


def _no_class(chain: Chain) -> Any:
    del chain[0][1]["__module__"]
    return chain


@pytest.mark.parametrize(
    "spoil",
    [
        _without_last,
        _other_class,
        _unknown_reference,
        _wrong_order,
        _foreign_source,
        _missing_field,
        _unknown_field,
        _no_class,
        lambda chain: [],
        lambda chain: {},
        lambda chain: dict(chain),
        lambda chain: "text",
        lambda chain: None,
        lambda chain: [1, 2],
    ],
)
def test_what_is_no_keyed_chain_of_a_result_is_refused(spoil: Callable[[Chain], Any]) -> None:
    with pytest.raises(BrokenError):
        read(spoil(good()))


def test_modules_that_the_server_lacks_are_refused() -> None:
    blob = zstandard.compress(json.dumps(good()).encode())
    read_document(blob, ["computepool"])
    with pytest.raises(BrokenError, match="cannot import computepool_standin"):
        read_document(blob, ["computepool_standin"])


@pytest.mark.parametrize(
    "body",
    [
        b"hello",
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b'{"protocoldagresult": 1}',
        b'{"compute_service_id": null}',
    ],
)
def test_bodies_that_are_no_push(body: bytes) -> None:
    with pytest.raises(BrokenError):
        read_push(body)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("text", id="a string"),
        pytest.param(None, id="null"),
        pytest.param(good(), id="the chain itself"),
        pytest.param({"latin-1": "x"}, id="bytes without their class"),
        pytest.param(encode_bytes(b"not zstd"), id="no zstd inside"),
        pytest.param(encode_bytes(zstandard.compress(b"{")), id="no JSON inside"),
        pytest.param(encode_bytes(json.dumps(good()).encode()), id="one layer only"),
    ],
)
def test_values_that_are_no_result(value: Any) -> None:
    blob, _ = read_push(push_body(value, None))
    with pytest.raises(BrokenError):
        read_document(blob)


def test_a_frame_must_declare_its_size() -> None:
    stream = zstandard.ZstdCompressor().compressobj()
    frame = stream.compress(json.dumps(good()).encode()) + stream.flush()
    with pytest.raises(BrokenError, match="content size"):
        read_document(frame)


@pytest.mark.parametrize("tracebacks", [(), ("",), ("story", "")])
def test_failures_need_tracebacks(tracebacks: tuple[str, ...]) -> None:
    with pytest.raises(BrokenError):
        ResultDocument("key", ok=False, tracebacks=tracebacks).check_tracebacks()


# transformations


def test_equal_transformations_have_equal_keys() -> None:
    one, same, other = (
        transformation_of(transformation_chain(stand_in={"seconds": seconds}))
        for seconds in (1, 1, 2)
    )
    assert one.key == same.key != other.key
    assert one.labels == {"StandInProtocol", "GufeTokenizable"}


def test_the_older_form_is_one_nested_object() -> None:
    nested = json.loads(nested_json(transformation_chain(stand_in={"seconds": 2})))
    assert nested["__qualname__"] == "NonTransformation"
    assert nested["protocol"]["__qualname__"] == "StandInProtocol"
    assert nested["stand_in"] == {"seconds": 2}


def test_an_empty_chain_is_no_transformation() -> None:
    with pytest.raises(ValueError, match="at least one"):
        transformation_of([])
