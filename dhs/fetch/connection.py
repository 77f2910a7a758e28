"""HTTP connections that take part in an exchange, with a limit on everything that is not body."""

from __future__ import annotations

import http.client
import io
import socket
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager, ProxyManager, Timeout
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

import fastnorm
from dhs.fetch.exchange import current_exchange

MOST_LINE_BYTES = 2**16
"""Largest size of status line, headers, interim answers, chunk sizes and trailers together."""
LINE_BYTES_PER_BYTE = 8
"""Bytes of chunk sizes allowed in addition per byte of the body."""


def open_pool(url: str, workers: int, timeout: float) -> PoolManager:
    """Return a pool of connections whose requests are made within an `Exchange`.

    Parameters
    ----------
    url : str
        Address of the service, which selects the proxy from the environment, if any.
    workers : int
        Number of threads.
    timeout : float
        Longest wait for the next byte, seconds.
    """
    parts = urlsplit(url)
    proxy = None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)
    make: Callable[..., PoolManager] = partial(ProxyManager, proxy) if proxy else PoolManager
    pool = make(
        maxsize=workers,
        timeout=Timeout(connect=timeout, read=timeout),
        headers={"User-Agent": f"dhs-fastnorm/{fastnorm.__version__}"},
    )
    pool.pool_classes_by_scheme = {"http": _Pool, "https": _PoolOfTls}
    return pool


class _Reader(io.BufferedReader):
    """The bytes that a server sends; it counts the lines, which are not body."""

    def __init__(self, raw: io.RawIOBase) -> None:
        super().__init__(raw)
        self._line_bytes = self._other_bytes = 0

    def readline(self, size: int | None = -1, /) -> bytes:
        most = MOST_LINE_BYTES + 1
        line = super().readline(most if size is None or size < 0 else min(size, most))
        self._line_bytes += len(line)
        if self._line_bytes > MOST_LINE_BYTES + LINE_BYTES_PER_BYTE * self._other_bytes:
            reason = (
                f"its headers, chunk sizes or trailers are too long ({self._line_bytes:,} bytes)."
            )
            current_exchange().end(reason)
            raise http.client.HTTPException(reason)
        return line

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        self._other_bytes += len(found or b"")
        return found

    def read1(self, size: int = -1, /) -> bytes:
        found = super().read1(size)
        self._other_bytes += len(found)
        return found

    def readinto(self, buffer: Any, /) -> int:
        count = super().readinto(buffer)
        self._other_bytes += count or 0
        return count


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *given: Any, **options: Any) -> None:
        super().__init__(sock, *given, **options)
        self.fp: io.BufferedReader = _Reader(self.fp.detach())


class _Connection(HTTPConnection):
    response_class = _Response

    def _new_conn(self) -> socket.socket:
        """Connect to the first address that answers; all together have the time of the exchange."""
        try:
            found = socket.getaddrinfo(
                self._dns_host.strip("[]"), self.port, type=socket.SOCK_STREAM
            )
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except UnicodeError as error:
            raise NewConnectionError(self, f"the name of the host is invalid ({error})") from error
        last: OSError = OSError("no address")
        for family, kind, protocol, _, address in found:
            try:
                return self._connected(socket.socket(family, kind, protocol), address)
            except OSError as error:
                last = error
            if current_exchange().reason is not None:
                break
        if isinstance(last, TimeoutError):
            raise ConnectTimeoutError(self, f"no connection after {self.timeout} s") from last
        raise NewConnectionError(self, f"Failed to establish a new connection: {last}") from last

    def _connected(self, new: socket.socket, address: Any) -> socket.socket:
        exchange = current_exchange()
        try:
            for option in self.socket_options or ():
                new.setsockopt(*option)
            exchange.watch(new.fileno())
            new.settimeout(min(float(self.timeout or exchange.left), exchange.left))
            new.connect(address)
            new.settimeout(self.timeout)
        except BaseException:
            new.close()
            raise
        return new

    def _tunnel(self) -> None:
        super()._tunnel()
        # Headers of a proxy seem complete where the connection was shut down.
        if (reason := current_exchange().reason) is not None:
            raise ConnectionAbortedError(reason)

    def request(self, *given: Any, **options: Any) -> None:
        # A connection that an earlier exchange opened.
        if self.sock is not None:
            current_exchange().watch(self.sock.fileno())
        super().request(*given, **options)


class _ConnectionOfTls(_Connection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _PoolOfTls(HTTPSConnectionPool):
    ConnectionCls = _ConnectionOfTls
