"""Files and streams: whole or not at all, and never all of it in memory."""

import asyncio
import gzip
import json
import os
import random
import sys
import time
import zlib
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.computeapi.helpers import names
from unit.computeapi.raw_server import RawServer, Reply, Request, http, ok

from computepool_api.bodies import (
    DamagedBodyError,
    compose_results_request,
    results_request,
    save,
    unzip,
)


async def pieces(*parts: bytes) -> AsyncGenerator[bytes]:
    for part in parts:
        yield part


async def joined(stream: AsyncGenerator[bytes]) -> bytes:
    return b"".join([piece async for piece in stream])


def appear(path: Path) -> None:
    while not path.exists():
        time.sleep(0.001)


@given(st.binary(max_size=2000), st.integers(1, 50))
def test_gzip_is_undone_however_it_is_cut(content: bytes, size: int) -> None:
    packed = gzip.compress(content)
    parts = [packed[i : i + size] for i in range(0, len(packed), size)]
    assert asyncio.run(joined(unzip(pieces(*parts), "gzip"))) == content


@pytest.mark.parametrize("encoding", ["", "identity"])
async def test_what_is_not_encoded_passes(encoding: str) -> None:
    assert await joined(unzip(pieces(b"a", b"b"), encoding)) == b"ab"


async def test_a_bomb_comes_in_small_pieces() -> None:
    packed = gzip.compress(bytes(50_000_000))
    largest = total = 0
    async for piece in unzip(pieces(packed), "gzip"):
        largest = max(largest, len(piece))
        total += len(piece)
    assert total == 50_000_000
    assert largest <= 131_072


@pytest.mark.parametrize(
    ("packed", "encoding", "told"),
    [
        (gzip.compress(b"x" * 100)[:-9], "gzip", "ends early"),
        (b"", "gzip", "ends early"),
        (b"plain", "gzip", "no valid gzip"),
        (zlib.compress(b"x"), "gzip", "no valid gzip"),
        (b"x", "br", "not asked for"),
    ],
)
async def test_damaged_bodies(packed: bytes, encoding: str, told: str) -> None:
    with pytest.raises(DamagedBodyError, match=told):
        await joined(unzip(pieces(packed), encoding))


async def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "task.json"
    target.write_bytes(b"older")

    async def watched() -> AsyncGenerator[bytes]:
        yield b"new"
        assert target.read_bytes() == b"older"
        yield b"er"

    await save(watched(), target)
    assert target.read_bytes() == b"newer"
    assert names(tmp_path) == ["task.json"]


async def test_a_file_cut_short_leaves_nothing(tmp_path: Path) -> None:
    async def cut() -> AsyncGenerator[bytes]:
        yield b"half"
        raise DamagedBodyError("cut")

    with pytest.raises(DamagedBodyError):
        await save(cut(), tmp_path / "task.json")
    assert names(tmp_path) == []


async def test_a_folder_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await save(pieces(b"x"), tmp_path / "nowhere" / "task.json")


async def test_the_results_request_holds_the_result_as_it_stands(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    result.write_text(' {"latin-1": "\\u00b5/\\u00fd",  ":is_custom:": true}\n')
    with results_request(result) as target:
        body = await compose_results_request(result, "job-1", target)
        packed = target.read_bytes()
        assert [len(piece) async for piece in body.pieces()] == [body.size] == [len(packed)]
        assert body.sent_whole
    text = gzip.decompress(packed)
    assert result.read_bytes() in text
    assert json.loads(text) == {
        "protocoldagresult": json.loads(result.read_text()),
        "compute_service_id": "job-1",
    }
    assert names(tmp_path) == ["result.json"]


@pytest.mark.parametrize("content", [b"", b" \n", b"[1]", b'{"latin-1": "cut', b"null", b"x}"])
async def test_a_result_that_was_not_written_out(content: bytes, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    result.write_bytes(content)
    with results_request(result) as target, pytest.raises(ValueError, match="no whole JSON object"):
        await compose_results_request(result, "job-1", target)
    assert names(tmp_path) == ["result.json"]


async def test_a_body_knows_whether_its_last_piece_was_asked_for(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    result.write_text(json.dumps({"latin-1": random.Random(1).randbytes(300_000).hex()}))
    with results_request(result) as target:
        body = await compose_results_request(result, "job-1", target)
        stream = body.pieces()
        sent = len(await anext(stream))
        while sent < body.size:
            assert not body.sent_whole
            sent += len(await anext(stream))
        assert body.sent_whole
        await stream.aclose()


async def test_composing_can_be_given_up(tmp_path: Path) -> None:
    """The thread must not go on for long: the process could not end."""
    result = tmp_path / "result.json"
    with result.open("wb") as file:
        file.write(b"{")
        file.truncate(4_000_000_000)
        file.seek(0, os.SEEK_END)
        file.write(b"}")
    with results_request(result) as target:
        composing = asyncio.create_task(compose_results_request(result, "job-1", target))
        await asyncio.to_thread(appear, target)
        composing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await composing
        await asyncio.get_running_loop().shutdown_default_executor()


MEASURE = """
import asyncio, resource, sys
from pathlib import Path
from computepool_api.credentials import Credentials
from computepool_api.ids import ComputeServiceID
from computepool_api.service_client import ComputeServiceClient
from computepool_api.transport import ComputeAPI

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

async def main(url, folder):
    async with ComputeAPI(url, lambda: Credentials("a", "b")) as api:
        await api.check()
        client = ComputeServiceClient(api)
        task = "Task-" + "0" * 32 + "-a-b-c"
        before = peak()
        await client.fetch(task, Path(folder, "task.json"))
        await client.push(task, ComputeServiceID("job-" + "0" * 32), Path(folder, "result.json"))
        print(peak() - before)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_neither_a_large_task_nor_a_large_result_is_ever_in_memory(
    raw: RawServer, tmp_path: Path
) -> None:
    noise = random.Random(3).randbytes(1 << 20).hex()
    result = tmp_path / "result.json"
    result.write_text(f'{{"latin-1": "{noise * 4}"}}')
    fetched = gzip.compress(b"[" + b" " * 32_000_000 + b"]", 1)
    reference = {"gufe_key": "Ref-1", "org": "a", "campaign": "b", "project": "c"}

    def reply(request: Request) -> Reply:
        if request.target.endswith("/gufe"):
            return Reply(http(200, raw=fetched, headers=["Content-Encoding: gzip"]))
        return ok(reference if request.target.endswith("/results") else None)

    raw.replies = reply
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", MEASURE, raw.url, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    assert process.returncode == 0
    assert (tmp_path / "task.json").stat().st_size == 32_000_002
    assert len(raw.requests[-1].body) > 4_000_000
    assert int(said) < 4 * 1024  # KiB
