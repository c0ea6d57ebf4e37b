"""A network that breaks at a given byte of a push, or of the answer to it."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

_PIECE = 65536


@dataclass
class Cut:
    """Where the one push is cut, and what happens then, before the connections are reset.

    `request` is the share of the request that passes; 1.0 is all of it. `answer` is the share of
    the answer that passes then. `struck` is set when it has happened.
    """

    request: float
    answer: float = 0.0
    then: Callable[[], None] = lambda: None
    struck: threading.Event | None = None


@contextlib.contextmanager
def cutting_proxy(upstream: str, cut: Cut) -> Iterator[str]:
    """Pass everything on to `upstream` but what `cut` says; give the proxy's URL."""
    cut.struck = threading.Event()
    target = urlsplit(upstream)
    assert target.hostname is not None
    assert target.port is not None
    address = (target.hostname, target.port)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accept, args=(listener, address, cut), daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def _accept(listener: socket.socket, address: tuple[str, int], cut: Cut) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_serve, args=(client, address, cut), daemon=True).start()


def _serve(client: socket.socket, address: tuple[str, int], cut: Cut) -> None:
    with client, contextlib.suppress(OSError), socket.create_connection(address) as server:
        head = b""
        while b"\r\n\r\n" not in head:
            piece = client.recv(_PIECE)
            if not piece:
                return
            head += piece
        assert cut.struck is not None
        if b"/results HTTP/" in head.partition(b"\r\n")[0] and not cut.struck.is_set():
            _cut_off(client, server, head, cut)
            return
        server.sendall(head)
        back = threading.Thread(target=_pump, args=(server, client), daemon=True)
        back.start()
        _pump(client, server)
        back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(_PIECE):
            target.sendall(piece)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _cut_off(client: socket.socket, server: socket.socket, head: bytes, cut: Cut) -> None:
    headers, _, body = head.partition(b"\r\n\r\n")
    (length,) = [
        int(line.partition(b":")[2])
        for line in headers.split(b"\r\n")
        if line.lower().startswith(b"content-length:")
    ]
    whole = headers + b"\r\n\r\n" + body
    total = len(headers) + 4 + length
    while len(whole) < total:
        whole += client.recv(_PIECE)
    server.sendall(whole[: int(total * cut.request)])
    if cut.request >= 1:
        answer = server.recv(_PIECE)
        client.sendall(answer[: int(len(answer) * cut.answer)])
    cut.then()
    for side in (client, server):
        # A reset, as a network gives that has gone.
        side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert cut.struck is not None
    cut.struck.set()
