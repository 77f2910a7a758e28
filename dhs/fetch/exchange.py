"""Exchanges with a server that end at a deadline, whatever the server sends or leaves out."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType

_of_thread = threading.local()


class Exchange:
    """One request with its redirects and its answer; use it as a context in the thread that reads.

    A timeout of the socket starts again with every byte, and thus never ends a trickle. At the
    deadline a timer shuts the sockets down instead, so that whatever waits for them returns.

    Parameters
    ----------
    seconds : float
        Time from the connection to the last byte of the answer.
    late : str
        Reason to give if the deadline passes.

    Attributes
    ----------
    reason : str or None
        Why the exchange was ended early. Whatever was read since is incomplete.
    """

    def __init__(self, seconds: float, late: str) -> None:
        self.reason: str | None = None
        self._left, self._late = seconds, late
        self._timer: threading.Timer | None = None
        self._ends = 0.0
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Exchange:
        _of_thread.exchange = self
        self._start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pause()
        _of_thread.exchange = None
        with self._lock:
            for watched in self._sockets:
                watched.close()
            self._sockets.clear()

    @property
    def left(self) -> float:
        """Seconds until the deadline, at least a moment."""
        return max(self._ends - time.monotonic(), 1e-3)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count the time inside, which is ours and not the server's."""
        self._pause()
        try:
            yield
        finally:
            self._start()

    def watch(self, descriptor: int) -> None:
        """Shut down this socket, too, when the exchange ends."""
        # TLS moves the descriptor into another object; a duplicate stays valid.
        watched = socket.socket(fileno=os.dup(descriptor))
        with self._lock:
            self._sockets.append(watched)
            if self.reason is not None:
                _shut_down(watched)

    def end(self, reason: str) -> None:
        """End the exchange from any thread; the first reason counts."""
        with self._lock:
            self.reason = self.reason or reason
            for watched in self._sockets:
                _shut_down(watched)

    def _start(self) -> None:
        self._ends = time.monotonic() + self._left
        self._timer = threading.Timer(self._left, self.end, [self._late])
        self._timer.daemon = True
        self._timer.start()

    def _pause(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._left = self.left


def current_exchange() -> Exchange:
    """Return the exchange that this thread has entered."""
    found: Exchange = _of_thread.exchange
    return found


def _shut_down(watched: socket.socket) -> None:
    # It may not be connected yet, or not any more.
    with suppress(OSError):
        watched.shutdown(socket.SHUT_RDWR)
