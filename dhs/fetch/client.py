"""HTTP client with a rate limit, retries, and a limit on the size of an answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from urllib3 import BaseHTTPResponse, PoolManager, ProxyManager, Retry, Timeout
from urllib3.exceptions import HTTPError, InvalidHeader, MaxRetryError, NewConnectionError
from urllib3.exceptions import TimeoutError as NoAnswerError

import fastnorm

Kept = TypeVar("Kept")

MOST_REDIRECTS = 3
MOST_SECONDS_ASKED = 300
"""Longest ``Retry-After`` to wait for, in seconds; after a longer one the run stops."""
TIMEOUTS_PER_BODY = 10
"""Longest time for a whole body, in timeouts, so that a trickle of bytes cannot block a thread."""
CHUNK = 2**16


class BadAnswerError(Exception):
    """An attempt failed, but another attempt may succeed."""


class FinalAnswerError(Exception):
    """The request failed, and further attempts are of no use."""


class NoDataError(Exception):
    """The survey has no image at the position."""


class FetchStoppedError(RuntimeError):
    """The whole run stopped early; it keeps the fetched files and can be resumed."""


class Pace:
    """Rate limit of requests, shared by all threads.

    Parameters
    ----------
    rate : float
        Largest number of requests per second.
    """

    def __init__(self, rate: float) -> None:
        self._interval = 1 / rate
        self._free_at = 0.0
        self._stopped: str | None = None
        self._changed = threading.Condition()

    def wait(self, seconds: float = 0.0) -> None:
        """Wait for the next turn, and at least for a number of seconds.

        Raises
        ------
        FetchStoppedError
            Another thread called `stop`.
        """
        own = time.monotonic() + seconds
        with self._changed:
            while self._stopped is None:
                left = max(own, self._free_at) - time.monotonic()
                if left <= 0:
                    self._free_at = time.monotonic() + self._interval
                    return
                self._changed.wait(left)
            raise FetchStoppedError(self._stopped)

    def pause(self, seconds: float) -> None:
        """Hold all requests for a number of seconds."""
        with self._changed:
            self._free_at = max(self._free_at, time.monotonic() + seconds)

    def stop(self, reason: str) -> None:
        """Stop all requests, and give the first reason to every waiting thread."""
        with self._changed:
            self._stopped = self._stopped or reason
            self._changed.notify_all()


class Client:
    """Client that any thread can use to request bodies.

    Parameters
    ----------
    url : str
        Address of the service, which selects the proxy from the environment, if any.
    most_bytes : int
        Largest size of a body, bytes.
    rate : float
        Largest number of requests per second in all threads together, including retries and
        redirects.
    workers : int
        Number of threads.
    attempts : int
        Largest number of attempts per body.
    timeout : float
        Longest wait for the next byte, seconds.
    backoff : float
        Unit of the pauses, seconds. The second attempt follows at once; the pauses before the
        third, fourth, ... attempt are 2, 4, ... times this long.
    """

    def __init__(
        self,
        url: str,
        most_bytes: int,
        *,
        rate: float,
        workers: int,
        attempts: int,
        timeout: float,
        backoff: float,
    ) -> None:
        self.pace = Pace(rate)
        self._most_bytes, self._attempts, self._timeout = most_bytes, attempts, timeout
        # This only counts attempts and pauses. `get` has its own loop, because every request
        # waits its turn and a body that is not a cutout is a failure.
        self._retries = Retry(attempts - 1, backoff_factor=backoff)
        parts = urlsplit(url)
        proxy = None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)
        open_pool: Callable[..., PoolManager] = (
            partial(ProxyManager, proxy) if proxy else PoolManager
        )
        self._pool = open_pool(
            maxsize=workers,
            timeout=Timeout(connect=timeout, read=timeout),
            headers={"User-Agent": f"dhs-fastnorm/{fastnorm.__version__}"},
        )

    def get(self, address: str, accept: Callable[[bytes], Kept]) -> Kept:
        """Request an address until a body is accepted.

        Parameters
        ----------
        address : str
            Full URL.
        accept : function
            Takes a body. Raises `BadAnswerError` or `NoDataError` to reject it.

        Returns
        -------
        object
            Result of ``accept``.

        Raises
        ------
        FinalAnswerError
            The service refused the request, or every attempt failed. The message has the last
            reason.
        NoDataError
            ``accept`` found no data.
        FetchStoppedError
            The service asks for a long pause, or another thread stopped the run.
        """
        retries, seconds = self._retries, 0.0
        while True:
            response = None
            try:
                response = self._open(address, seconds)
                self._check_status(response)
                return accept(self._read(response))
            except (HTTPError, BadAnswerError) as error:
                try:
                    retries = retries.increment("GET", address, error=error)
                except MaxRetryError:
                    raise FinalAnswerError(
                        f"{self._reason(error)} Attempt {self._attempts} of {self._attempts}."
                    ) from error
                if asked := _seconds_asked(retries, response):
                    self._pause(asked)
                seconds = 0.0 if asked else retries.get_backoff_time()
            finally:
                if response is not None:
                    response.close()

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def _open(self, address: str, seconds: float) -> BaseHTTPResponse:
        """Wait, send the request, and follow redirects, which count as requests."""
        try:
            for _ in range(MOST_REDIRECTS + 1):
                self.pace.wait(seconds)
                seconds = 0.0
                response = self._pool.request(
                    "GET", address, redirect=False, retries=False, preload_content=False
                )
                if not (location := response.get_redirect_location()):
                    return response
                response.close()
                address = urljoin(address, location)
        except ValueError as error:
            raise FinalAnswerError(f"redirected to an invalid address ({error}).") from error
        raise FinalAnswerError(f"redirected more than {MOST_REDIRECTS} times, last to {address}.")

    def _check_status(self, response: BaseHTTPResponse) -> None:
        status = response.status
        if status == 200:
            return
        may_pass = status in (408, 429) or status >= 500
        kind = BadAnswerError if may_pass else FinalAnswerError
        raise kind(f"HTTP {status} {response.reason or ''}".rstrip() + ".")

    def _read(self, response: BaseHTTPResponse) -> bytes:
        body = bytearray()
        seconds = TIMEOUTS_PER_BODY * self._timeout
        ends = time.monotonic() + seconds
        while chunk := response.read1(CHUNK):
            body += chunk
            if len(body) > self._most_bytes:
                raise BadAnswerError(
                    f"larger than any such cutout (limit: {self._most_bytes:,} bytes)."
                )
            if time.monotonic() > ends:
                raise BadAnswerError(f"incomplete after {seconds:g} s ({len(body):,} bytes).")
        return bytes(body)

    def _pause(self, seconds: float) -> None:
        if seconds > MOST_SECONDS_ASKED:
            self.pace.stop(
                f"the service asks for a pause of {seconds:.0f} s; the fetched files are kept. "
                "Run the same command again after that to resume."
            )
        self.pace.pause(seconds)

    def _reason(self, error: Exception) -> str:
        if isinstance(error, BadAnswerError):
            return str(error)
        if isinstance(error, NewConnectionError):
            return "the service cannot be reached; check the network and --url."
        if isinstance(error, NoAnswerError):
            return f"no data arrived for {self._timeout:g} s."
        return f"the connection failed ({' '.join(str(error).split())})."


def _seconds_asked(retries: Retry, response: BaseHTTPResponse | None) -> float:
    """Return the value of Retry-After, or 0 if it is missing or invalid."""
    if response is None or response.status == 200:
        return 0.0
    try:
        return retries.get_retry_after(response) or 0.0
    except InvalidHeader:
        return 0.0
