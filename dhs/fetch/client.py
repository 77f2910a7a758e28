"""HTTP client with a rate limit, retries, and limits on the time and the size of an answer."""

from __future__ import annotations

import email.utils
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC
from typing import TypeVar

from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError, NewConnectionError
from urllib3.exceptions import TimeoutError as NoAnswerError

from dhs.fetch.connection import open_pool
from dhs.fetch.exchange import Exchange
from dhs.fetch.redirects import MOST_LETTERS, Redirects
from fastnorm.text import one_line

Kept = TypeVar("Kept")

MOST_REDIRECTS = 3
MOST_SECONDS_ASKED = 300
"""Longest ``Retry-After`` to wait for, in seconds; after a longer one the run stops."""
MOST_SECONDS_MEANT = 366 * 86400
"""Longest ``Retry-After`` that a service can mean; a longer one counts as none."""
MOST_SECONDS_OF_BACKOFF = 120
CHUNK = 2**16


class BadAnswerError(Exception):
    """An attempt failed, but another attempt may succeed.

    ``seconds_asked``: the pause that the service asks for.
    """

    def __init__(self, reason: str, seconds_asked: float = 0.0) -> None:
        super().__init__(reason)
        self.seconds_asked = seconds_asked


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
    deadline : float
        Longest time of one attempt, from the connection to the last byte, seconds. Turns of the
        rate limit do not count.
    backoff : float
        Unit of the pauses, seconds. The second attempt follows at once; the pauses before the
        third, fourth, ... attempt are 2, 4, ... times this long, at most 120 seconds.
    redirects : Redirects
        Servers that the service may redirect to.
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
        deadline: float,
        backoff: float,
        redirects: Redirects,
    ) -> None:
        self.pace = Pace(rate)
        self._most_bytes, self._attempts, self._timeout = most_bytes, attempts, timeout
        self._deadline, self._backoff, self._redirects = deadline, backoff, redirects
        self._pool = open_pool(url, workers, timeout)
        self._stopped: str | None = None
        self._running: set[Exchange] = set()
        self._lock = threading.Lock()

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
        seconds = 0.0
        for attempt in range(1, self._attempts + 1):
            self.pace.wait(seconds)
            try:
                return accept(self._exchange(address))
            except BadAnswerError as error:
                if attempt == self._attempts:
                    raise FinalAnswerError(f"{error} Attempt {attempt} of {attempt}.") from error
                seconds = 0.0
                if error.seconds_asked:
                    self._pause(error.seconds_asked)
                elif attempt > 1:
                    seconds = min(self._backoff * 2 ** (attempt - 1), MOST_SECONDS_OF_BACKOFF)
        raise AssertionError("the last attempt returns or raises")

    def stop(self, reason: str) -> None:
        """Stop all requests, those under way as well."""
        self.pace.stop(reason)
        with self._lock:
            self._stopped = self._stopped or reason
            for exchange in self._running:
                exchange.end(reason)

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    @contextmanager
    def _entered(self) -> Iterator[Exchange]:
        late = f"the answer was not complete after the deadline of {self._deadline:g} s."
        with Exchange(self._deadline, late) as exchange:
            with self._lock:
                self._running.add(exchange)
                if self._stopped is not None:
                    exchange.end(self._stopped)
            try:
                yield exchange
            finally:
                with self._lock:
                    self._running.discard(exchange)

    def _exchange(self, address: str) -> bytes:
        """Request an address once, and return the body."""
        response = None
        with self._entered() as exchange:
            try:
                response = self._open(address, exchange)
                self._check_status(response)
                body = self._read(response)
            except HTTPError as error:
                if exchange.reason is None:
                    raise BadAnswerError(self._reason(error)) from error
            except (BadAnswerError, FinalAnswerError):
                # Headers, too, seem complete where their connection was shut down.
                if exchange.reason is None:
                    raise
            finally:
                if response is not None:
                    response.close()
        if self._stopped is not None:
            raise FetchStoppedError(self._stopped)
        # A body without a stated length seems complete there as well.
        if exchange.reason is not None:
            raise BadAnswerError(exchange.reason)
        return body

    def _open(self, address: str, exchange: Exchange) -> BaseHTTPResponse:
        """Send the request, and follow redirects, which count as requests."""
        for redirect in range(MOST_REDIRECTS + 1):
            if redirect:
                with exchange.paused():
                    self.pace.wait()
            response = self._pool.request(
                "GET", address, redirect=False, retries=False, preload_content=False
            )
            if not (location := response.get_redirect_location()):
                return response
            response.close()
            try:
                address = self._redirects.follow(address, location)
            except ValueError as error:
                raise FinalAnswerError(str(error)) from error
        last = one_line(address, MOST_LETTERS)
        raise FinalAnswerError(f"redirected more than {MOST_REDIRECTS} times, last to {last}.")

    def _check_status(self, response: BaseHTTPResponse) -> None:
        status = response.status
        if status == 200:
            return
        reason = one_line(f"HTTP {status} {response.reason or ''}".rstrip(), MOST_LETTERS) + "."
        if status in (408, 429) or status >= 500:
            raise BadAnswerError(reason, _seconds_asked(response.headers.get("Retry-After", "")))
        raise FinalAnswerError(reason)

    def _read(self, response: BaseHTTPResponse) -> bytes:
        encoding = response.headers.get("Content-Encoding", "identity")
        # Every request asks for none, and a few bytes can unpack to any number.
        if encoding.strip().lower() not in ("", "identity"):
            raise BadAnswerError(f"is encoded ({one_line(encoding, MOST_LETTERS)}); expected FITS.")
        body = bytearray()
        while chunk := response.read1(CHUNK, decode_content=False):
            body += chunk
            if len(body) > self._most_bytes:
                raise BadAnswerError(
                    f"larger than any such cutout (limit: {self._most_bytes:,} bytes)."
                )
        return bytes(body)

    def _pause(self, seconds: float) -> None:
        if seconds > MOST_SECONDS_ASKED:
            self.pace.stop(
                f"the service asks for a pause of {seconds:.0f} s; the fetched files are kept. "
                "Run the same command again after that to resume."
            )
        self.pace.pause(seconds)

    def _reason(self, error: HTTPError) -> str:
        if isinstance(error, NewConnectionError):
            return "the service cannot be reached; check the network and --url."
        if isinstance(error, NoAnswerError):
            return f"no data arrived for {self._timeout:g} s."
        return f"the connection failed ({one_line(str(error))})."


def _seconds_asked(retry_after: str) -> float:
    """Return the pause that a header Retry-After asks for, or 0 if it says nothing sensible."""
    text = retry_after.strip()
    try:
        # More digits than this, or a longer text, are no time that anybody waits for.
        if text.isascii() and text.isdigit() and len(text.lstrip("0")) <= 9:
            seconds = float(text)
        elif len(text) <= 64:
            when = email.utils.parsedate_to_datetime(text)
            when = when.replace(tzinfo=when.tzinfo or UTC)
            seconds = when.timestamp() - time.time()
        else:
            return 0.0
    except (ValueError, TypeError, OverflowError, LookupError):
        return 0.0
    return seconds if 0 < seconds <= MOST_SECONDS_MEANT else 0.0
