"""Bodies that may not fit in memory: a result on its way out, an answer on its way in.

The worker's parent process must stay small whatever the size of a result, so both pass through
files and bounded buffers. What may take long runs in a thread, so that heartbeats go on meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
import zlib
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import BinaryIO, Final

_PIECE: Final = 128 * 1024
_GZIP: Final = 16 + zlib.MAX_WBITS
_LEVEL: Final = 5
_WHITE: Final = b" \t\r\n"


class DamagedBodyError(Exception):
    """A body whose encoding cannot be undone, or that ends early."""


class FileBody:
    """A request body in a file, that knows whether its last piece was asked for.

    As long as that is not so, the server has had no whole request and cannot have acted on it.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self.size = size
        self.sent_whole = False

    async def pieces(self) -> AsyncGenerator[bytes]:
        """Read the file from its beginning, once for each time it is sent."""
        self.sent_whole = False
        sent = 0
        with await asyncio.to_thread(self._path.open, "rb") as file:
            while piece := await asyncio.to_thread(file.read, _PIECE):
                sent += len(piece)
                self.sent_whole = sent >= self.size
                yield piece


async def unzip(pieces: AsyncGenerator[bytes], encoding: str) -> AsyncGenerator[bytes]:
    """Undo a Content-Encoding, piece by piece, no piece larger than the buffer.

    Raises DamagedBodyError for an encoding that was not offered, and for a stream cut short.
    """
    if encoding in ("", "identity"):
        async for piece in pieces:
            yield piece
        return
    if encoding != "gzip":
        raise DamagedBodyError("the answer has an encoding that was not asked for")
    inflater = zlib.decompressobj(_GZIP)
    async for piece in pieces:
        rest = piece
        while True:
            try:
                out = inflater.decompress(rest, _PIECE)
            except zlib.error:
                raise DamagedBodyError("the answer is no valid gzip") from None
            if out:
                yield out
            rest = inflater.unconsumed_tail
            if not rest and len(out) < _PIECE:
                break
    if not inflater.eof:
        raise DamagedBodyError("the gzipped answer ends early")


async def save(pieces: AsyncGenerator[bytes], destination: Path) -> None:
    """Write pieces to a file that appears only when it is whole. Raises OSError."""
    with _neighbour(destination, "part") as part:
        async with aclosing(pieces):
            with await asyncio.to_thread(part.open, "xb") as file:
                async for piece in pieces:
                    await asyncio.to_thread(file.write, piece)
        await asyncio.to_thread(part.replace, destination)


@contextmanager
def results_request(result: Path) -> Iterator[Path]:
    """Name a file beside `result` for the composed request, and remove it in the end."""
    with _neighbour(result, "request") as path:
        yield path


async def compose_results_request(result: Path, service_id: str, target: Path) -> FileBody:
    """Write the gzipped body of a results request to `target`, in a thread.

    `result` holds the JSON object that gufe's encoder makes of the result's bytes. It is copied as
    it stands. Raises ValueError when it cannot be a whole object, OSError.
    """
    given_up = threading.Event()
    try:
        size = await asyncio.to_thread(_compose, result, service_id, target, given_up)
    finally:
        given_up.set()
    return FileBody(target, size)


def _compose(result: Path, service_id: str, target: Path, given_up: threading.Event) -> int:
    head, tail = b'{"protocoldagresult": ', b', "compute_service_id": %b}'
    deflater = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    with result.open("rb") as source, target.open("xb") as sink:
        _check_object(source, result)
        sink.write(deflater.compress(head))
        while (piece := source.read(_PIECE)) and not given_up.is_set():
            sink.write(deflater.compress(piece))
        sink.write(deflater.compress(tail % json.dumps(service_id).encode()))
        sink.write(deflater.flush())
        return sink.tell()


def _check_object(source: BinaryIO, path: Path) -> None:
    """Notice a file that is empty or was cut short: the server would answer 500, or worse."""
    size = source.seek(0, 2)
    source.seek(max(0, size - _PIECE))
    last = source.read().rstrip(_WHITE)[-1:]
    source.seek(0)
    first = source.read(_PIECE).lstrip(_WHITE)[:1]
    source.seek(0)
    if (first, last) != (b"{", b"}"):
        raise ValueError(f"{path.name} is no whole JSON object: the result was not written out")


@contextmanager
def _neighbour(path: Path, purpose: str) -> Iterator[Path]:
    """Name a new hidden file in the folder of `path`, and remove it if it is there in the end."""
    neighbour = path.with_name(f".{path.name}.{secrets.token_hex(4)}.{purpose}")
    try:
        yield neighbour
    finally:
        neighbour.unlink(missing_ok=True)
