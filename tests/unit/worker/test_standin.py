"""The stand-in child writes what the server can read."""

import json
from pathlib import Path
from typing import Any

import pytest
import zstandard
from standin import child

from computepool_worker import boundary


@pytest.mark.parametrize("size", [0, 1, 131_071, 131_072, 131_073, 1_000_000])
def test_its_zstd_frames_are_whole_and_declare_their_size(size: int) -> None:
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    frame = child.zstd_store(data)
    assert zstandard.get_frame_parameters(frame).content_size == size
    assert zstandard.ZstdDecompressor().decompress(frame) == data
    assert child.zstd_load(frame) == data


def test_frames_of_others_are_not_read() -> None:
    assert child.zstd_load(zstandard.ZstdCompressor().compress(b"x" * 1000)) is None
    assert child.zstd_load(b"plain") is None


@pytest.mark.parametrize("form", ["chain", "text"])
def test_it_reads_both_forms_of_a_transformation(form: str) -> None:
    members: dict[str, Any] = {"__qualname__": "NonTransformation", "stand_in": {"seconds": 3}}
    body: Any = [("NonTransformation-1", members)] if form == "chain" else json.dumps(members)
    key, stand_in = child.read_transformation(body)
    assert key.startswith("NonTransformation-")
    assert stand_in == {"seconds": 3}


def test_it_finds_the_key_of_what_a_task_extends() -> None:
    blob = child.zstd_store(json.dumps([["ProtocolDAGResult-1", {}]]).encode())
    assert child.extends_key(blob.decode("latin-1")) == "ProtocolDAGResult-1"
    assert child.extends_key(None) is None


def test_a_result_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    child.write_result(tmp_path / "result.json", [("ProtocolDAGResult-1", {"name": "Task-1"})])
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]
    value = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    once = zstandard.ZstdDecompressor().decompress(value["latin-1"].encode("latin-1"))
    assert json.loads(zstandard.ZstdDecompressor().decompress(once)) == [
        ["ProtocolDAGResult-1", {"name": "Task-1"}]
    ]


def test_it_keeps_to_the_workers_boundary() -> None:
    ready = child._prepare({"message": "prepare", "openmm_platform": None})
    assert boundary.decode(json.dumps(ready).encode()) == boundary.Ready(
        ok=True, facts={"device": "stand-in"}
    )
