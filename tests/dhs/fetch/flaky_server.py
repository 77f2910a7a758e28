"""A local cutout service that gives correct answers or, on demand, wrong ones."""

from __future__ import annotations

import io
import socket
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

PIXEL = 0.262 / 3600
MOST_SECONDS = 5


def pixels_at(ra: float, dec: float, size: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(abs(hash((ra, dec))))
    return rng.normal(0, 0.01, (3, size, size)).astype(np.float32)


@cache
def fits_bytes(ra: float, dec: float, size: int, planes: bool = True, **changes: Any) -> bytes:
    """Create a file like those of the service, whose HDUs are named only by IMAGETYP."""
    image = np.float32(changes.pop("factor", 1)) * pixels_at(ra, dec, size)
    middle = (size + 1) / 2
    cards: dict[str, Any] = {"SURVEY": "LegacySurvey", "VERSION": "DR10", "BANDS": "grz"}
    cards |= {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": ra, "CRVAL2": dec}
    cards |= {"CRPIX1": middle, "CRPIX2": middle, "CD1_1": -PIXEL, "CD1_2": 0.0}
    cards |= {"CD2_1": 0.0, "CD2_2": PIXEL} | changes
    units: list[Any] = [fits.PrimaryHDU(image)]
    if planes:
        units.append(fits.ImageHDU(np.full_like(image, 1e4)))
        units.append(fits.ImageHDU(np.zeros((size, size), np.int16)))
    for unit, kind in zip(units, ("IMAGE", "INVVAR", "MASKBITS"), strict=False):
        unit.header.update(cards | {"IMAGETYP": kind})
    stream = io.BytesIO()
    fits.HDUList(units).writeto(stream)
    return stream.getvalue()


class FlakyServer(ThreadingHTTPServer):
    """A server that gives the ``answers`` listed for a position in turn, then correct ones.

    ``asked``: path and time of every request. ``always``: the answer to every request, if set.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[tuple[float, float], list[str]] = defaultdict(list)
        self.always: str | None = None
        self.asked: list[tuple[str, float]] = []
        self.agents: set[str] = set()
        self.closing = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/fits-cutout"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing, because clients may disconnect during an answer."""

    def shutdown_request(self, request: Any) -> None:
        """Close without a shutdown, so that a connection can end with a reset."""
        self.close_request(request)

    def times(self) -> list[float]:
        return [when for _, when in self.asked]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FlakyServer

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        self.server.asked.append((self.path, time.monotonic()))
        self.server.agents.add(self.headers["User-Agent"])
        query = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        self.ra, self.dec = float(query["ra"][0]), float(query["dec"][0])
        self.size, self.planes = int(query["size"][0]), "maskbits" in query
        planned = self.server.answers[self.ra, self.dec]
        answer = self.server.always or (planned.pop(0) if planned else "good")
        name, _, argument = answer.partition(" ")
        getattr(self, f"answer_{name}")(*argument.split())

    def result(self, **changes: Any) -> bytes:
        given = {"ra": self.ra, "dec": self.dec, "size": self.size, "planes": self.planes}
        return fits_bytes(**given | changes)

    def send(
        self, body: bytes, said: int | None = None, status: int = 200, header: str = ""
    ) -> None:
        """Send a body, optionally with a wrong Content-Length or none (-1)."""
        self.send_response(status)
        if header:
            self.send_header(*header.split(": ", 1))
        if said == -1:
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(len(body) if said is None else said))
        self.end_headers()
        self.wfile.write(body)

    def answer_good(self) -> None:
        self.send(self.result())

    def answer_chunked(self, share: str = "1") -> None:
        """Send a chunked answer, as some proxies do, whole or in part."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        body = self.result()
        body = body[: int(float(share) * len(body))]
        self.wfile.write(f"{len(body):x}\r\n".encode() + body + b"\r\n")
        if share == "1":
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.close_connection = True

    def answer_status(self, status: str, retry_after: str = "") -> None:
        header = f"Retry-After: {retry_after}" if retry_after else ""
        self.send(b"<html>Sorry</html>", status=int(status), header=header)

    def answer_reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def answer_stalled(self) -> None:
        body = self.result()
        self.send(body[: len(body) // 2], said=len(body))
        self.server.closing.wait(MOST_SECONDS)

    def answer_dripping(self) -> None:
        self.send(b"SIMPLE", said=10**6)
        while not self.server.closing.wait(0.02):
            self.wfile.write(b" ")

    def answer_cut(self) -> None:
        """Send less than the Content-Length, and close the connection."""
        body = self.result()
        self.send(body[: len(body) // 2], said=len(body))
        self.close_connection = True

    def answer_short(self) -> None:
        """Send as much as the Content-Length, but not the whole file."""
        body = self.result()
        self.send(body[: len(body) // 2])

    def answer_unsaid(self) -> None:
        body = self.result()
        self.send(body[: len(body) // 2], said=-1)

    def answer_endless(self) -> None:
        self.send(b"SIMPLE", said=10**12)
        while not self.server.closing.is_set():
            self.wfile.write(bytes(2**16))

    def answer_html(self) -> None:
        self.send(b"<html><body>The service is down.</body></html>")

    def answer_empty(self) -> None:
        self.send(b"")

    def answer_damaged(self) -> None:
        self.send(self.result().replace(b"CTYPE1  = 'RA-", b"CTYPE1  = 'XX-"))

    def answer_unparsable(self) -> None:
        self.send(self.result().replace(b"IMAGETYP= 'INVVAR", b'IMAGETYP= "INVVAR'))

    def answer_overwritten(self) -> None:
        body = bytearray(self.result())
        body[400:2000] = bytes(range(64)) * 25
        self.send(bytes(body))

    def answer_elsewhere(self) -> None:
        self.send(self.result(dec=self.dec - 1 / 3600))

    def answer_small(self) -> None:
        self.send(self.result(size=self.size - 2))

    def answer_coarse(self) -> None:
        self.send(self.result(CD1_1=-2 * PIXEL, CD2_2=2 * PIXEL))

    def answer_bare(self) -> None:
        self.send(self.result(planes=False))

    def answer_zeros(self) -> None:
        self.send(self.result(factor=0))

    def answer_sent_on(self, count: str) -> None:
        """Redirect a number of times."""
        self.server.answers[self.ra, self.dec][:0] = [f"sent_on {int(count) - 1}"] * (
            int(count) > 1
        )
        self.send(b"", status=302, header=f"Location: {self.path}")

    def answer_to(self, address: str) -> None:
        self.send(b"", status=302, header=f"Location: {address}")


@contextmanager
def flaky_server() -> Iterator[FlakyServer]:
    with FlakyServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()
