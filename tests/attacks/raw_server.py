"""A local server of raw bytes, for answers that no library for servers would send."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

Answer = Callable[[int], Iterable[bytes | None]]
"""Makes the pieces of the answer to request number 0, 1, ...; may be endless. None is a reset."""


class RawServer(NamedTuple):
    """A running server.

    ``url``: its address. ``asked``: first line of every request. ``port``: its port.
    """

    url: str
    asked: list[str]
    port: int


@contextmanager
def raw_server(answer: Answer, seconds: float = 0.0, scheme: str = "http") -> Iterator[RawServer]:
    """Run a server in threads, which end with the block.

    Parameters
    ----------
    answer : function
        Makes the pieces of every answer. The connection is closed after the last.
    seconds : float
        Pause before every piece.
    scheme : str
        ``https`` answers whatever comes first, as no request is readable.

    Yields
    ------
    RawServer
    """
    closing, asked = threading.Event(), []
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            request = connection.recv(2**16)
            if not request:
                return
            asked.append(request.split(b"\r\n")[0].decode("ascii", "replace"))
            for piece in answer(len(asked) - 1):
                if closing.wait(seconds):
                    return
                if piece is None:
                    linger = struct.pack("ii", 1, 0)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    return
                connection.sendall(piece)

    def listen() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connection.settimeout(5)
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=listen, daemon=True).start()
    try:
        yield RawServer(f"{scheme}://127.0.0.1:{port}/fits-cutout", asked, port)
    finally:
        closing.set()
        # Closing alone does not wake a thread that waits in accept.
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
