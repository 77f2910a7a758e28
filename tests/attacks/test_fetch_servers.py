"""Servers that want to hold ``dhs fetch`` for ever, end it, or lead it elsewhere."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from dhs.fetch import FetchResult, fetch
from dhs.fetch.client import MOST_SECONDS_MEANT, FetchStoppedError
from dhs.fetch.connection import MOST_LINE_BYTES
from tests.attacks.raw_server import raw_server
from tests.dhs.fetch.fetch_cases import SIZE, catalogue
from tests.dhs.fetch.flaky_server import fits_bytes, flaky_server

LATE = "the answer was not complete after the deadline of 0.3 s. Attempt 1 of 1."
LONG = "its headers, chunk sizes or trailers are too long"
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n"
CUTOUT = fits_bytes(1.0, -60.0, SIZE)
FOREVER = {
    "status line": (b"HTTP/1.1 200 ", b"O"),
    "header": (OK + b"X-A: ", b"a"),
    "headers": (OK, b"X: a\r\n"),
    "interim answers": (b"", CONTINUE + b"\r\n"),
    "headers of an interim answer": (CONTINUE, b"X: a\r\n"),
    "body": (OK + b"Content-Length: 9999\r\n\r\n", b"0"),
    "body without a length": (OK + b"\r\n" + CUTOUT, b" "),
    "chunk size": (CHUNKED, b"0"),
    "chunk extension": (CHUNKED + b"5;", b"x"),
    "empty lines of chunks": (CHUNKED + b"5\r\nSIMPL", b"\r"),
    "small chunks": (CHUNKED, b"1\r\n \r\n"),
    "trailer": (CHUNKED + b"0\r\n", b"a"),
    "trailers": (CHUNKED + b"0\r\n", b"a: b\r\n"),
    "redirect": (b"HTTP/1.1 302 Found\r\nLocation: /", b"x"),
    "header of an error": (b"HTTP/1.1 503 Busy\r\nX: ", b"x"),
    "header of a last word": (b"HTTP/1.1 404 None\r\nX: ", b"x"),
    "redirect elsewhere": (b"HTTP/1.1 302 Found\r\nLocation: http://x", b"y"),
}
"""The first bytes of each answer, and the bytes that the server repeats after them."""
LINES = [name for name in FOREVER if not name.startswith("body") and name != "small chunks"]


def get(url: str, out: Path, **options: Any) -> FetchResult:
    given = {"size": SIZE, "rate": 1000.0, "timeout": 5.0, "deadline": 5.0, "backoff": 0.001}
    return fetch(
        catalogue(1), out / "o", url=url, **given | {"attempts": 1, "workers": 1} | options
    )


def reason(url: str, out: Path, **options: Any) -> str:
    result = get(url, out, **options)
    assert not list((out / "o").rglob("*.fits"))
    [rejected] = result.rejected
    return rejected.reason


def forever(name: str) -> Any:
    first, again = FOREVER[name]
    return lambda number: itertools.chain([first] if first else [], itertools.repeat(again))


@pytest.mark.parametrize("name", FOREVER)
def test_a_trickle_ends_at_the_deadline(name: str, tmp_path: Path) -> None:
    started = time.monotonic()
    with raw_server(forever(name), 0.02) as server:
        assert reason(server.url, tmp_path, deadline=0.3) == LATE
    assert time.monotonic() - started < 3


@pytest.mark.parametrize("name", LINES)
def test_a_flood_of_lines_ends_at_once(name: str, tmp_path: Path) -> None:
    first, again = FOREVER[name]
    flood = again * (4096 // len(again))
    with raw_server(lambda number: itertools.chain([first], itertools.repeat(flood))) as server:
        said = reason(server.url, tmp_path)
    assert "deadline" not in said
    if name in {"interim answers", "trailers"}:
        assert said.startswith(LONG)


def test_lines_of_a_real_answer_are_not_too_long(tmp_path: Path) -> None:
    header = b"".join(b"X-%02d: %s\r\n" % (k, b"x" * (MOST_LINE_BYTES // 64)) for k in range(60))
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in CUTOUT)
    answer = CHUNKED[:-2] + header + b"\r\n" + chunks + b"0\r\nT: a\r\n\r\n"
    with raw_server(lambda number: [answer]) as server:
        assert get(server.url, tmp_path).cutouts == 1


def test_a_handshake_that_trickles_ends_at_the_deadline(tmp_path: Path) -> None:
    def answer(number: int) -> Iterator[bytes]:
        yield b"\x16\x03\x03\x40\x00"
        yield from itertools.repeat(b"\x02")

    with raw_server(answer, 0.02, scheme="https") as server:
        assert reason(server.url, tmp_path, deadline=0.3) == LATE


def test_a_proxy_that_trickles_ends_at_the_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with raw_server(forever("header"), 0.02) as server:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{server.port}")
        monkeypatch.setenv("no_proxy", "")
        assert reason("https://mirror.invalid/x", tmp_path, deadline=0.3) == LATE
        assert server.asked[0].startswith("CONNECT mirror.invalid:443")


def test_a_connection_that_is_never_accepted_ends_at_the_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as exits:
        listener = exits.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = listener.getsockname()
        # The kernel leaves all others without an answer once its queue is full.
        for _ in range(4):
            waiting = exits.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
        # A name may have any number of addresses; all together have one deadline.
        resolved = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address)] * 50
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: resolved)
        started = time.monotonic()
        said = reason(f"http://127.0.0.1:{address[1]}/x", tmp_path, timeout=0.2, deadline=0.5)
        assert said == LATE.replace("0.3", "0.5")
        assert time.monotonic() - started < 3


def test_redirects_share_one_deadline(tmp_path: Path) -> None:
    def answer(number: int) -> Iterator[bytes]:
        yield from itertools.repeat(b"", 10)
        yield b"HTTP/1.1 302 Found\r\nLocation: /x\r\nConnection: close\r\n\r\n"

    with raw_server(answer, 0.02) as server:
        assert reason(server.url, tmp_path, deadline=0.5) == LATE.replace("0.3", "0.5")
        assert len(server.asked) <= 3


def test_the_pace_does_not_count_towards_the_deadline(tmp_path: Path) -> None:
    with flaky_server() as server:
        server.answers[1.0, -60.0] = ["sent_on 2"]
        assert get(server.url, tmp_path, rate=2.0, deadline=0.4).cutouts == 1
        assert len(server.asked) == 3


@pytest.mark.parametrize("name", ["header", "interim answers", "chunk size", "trailers"])
def test_the_first_interrupt_ends_the_run(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    # Programs in the background of a shell ignore interrupts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    interrupted: list[float] = []

    def interrupt() -> None:
        interrupted.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    def answer(number: int) -> Iterator[bytes]:
        threading.Timer(0.1, interrupt).start()
        yield from forever(name)(number)

    with raw_server(answer, 0.02) as server:
        with pytest.raises(KeyboardInterrupt):
            get(server.url, tmp_path, timeout=60.0, deadline=60.0)
        assert time.monotonic() - interrupted[0] < 2
        assert len(server.asked) == 1
    assert not list((tmp_path / "o").rglob("*.fits"))


@pytest.mark.parametrize(
    "value",
    [
        *("9" * 5000, "9" * 4000, str(MOST_SECONDS_MEANT + 1), "-5", "nan", "inf", "1e3", "soon"),
        *("\u00b2", "Mon, 01 Jan 99999999 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT"),
        *("Mon, 99 Jan 2026 99:99:99 +9999999", "Thu, 01 Jan 1970 00:00:00 GMT", "a" * 60_000, ""),
    ],
)
def test_rubbish_in_retry_after_is_no_pause(value: str, tmp_path: Path) -> None:
    head = f"HTTP/1.1 503 Busy\r\nRetry-After: {value}\r\nContent-Length: 0\r\n\r\n"
    with raw_server(lambda number: [head.encode("latin-1")]) as server:
        said = reason(server.url, tmp_path, attempts=3)
        assert said == "HTTP 503 Busy. Attempt 3 of 3."
        assert len(server.asked) == 3


@pytest.mark.parametrize("value", ["301", "0000000400", "Fri, 01 Jan 2027 00:00:00 GMT"])
def test_a_real_retry_after_stops_the_run(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 2026-12-31 00:00:00 UTC.
    monkeypatch.setattr("dhs.fetch.client.time.time", lambda: 1798675200.0)
    head = f"HTTP/1.1 429 Slow\r\nRetry-After: {value}\r\nContent-Length: 0\r\n\r\n"
    with (
        raw_server(lambda number: [head.encode()]) as server,
        pytest.raises(FetchStoppedError, match=r"a pause of (301|400|86400) s"),
    ):
        get(server.url, tmp_path, attempts=2)


def test_a_redirect_to_another_port_is_refused_unless_allowed(tmp_path: Path) -> None:
    with flaky_server() as other, raw_server(lambda number: [moved]) as server:
        target = other.url.removesuffix("/fits-cutout")
        location = f"{other.url}?ra=1.0&dec=-60.0&size={SIZE}&maskbits"
        moved = f"HTTP/1.1 302 x\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
        said = reason(server.url, tmp_path, attempts=5)
        assert said == (
            f"redirected from http://127.0.0.1:{server.port} to {target}, which is not allowed; "
            f"if you trust that server, add --allow-redirect {target}."
        )
        assert (len(server.asked), len(other.asked)) == (1, 0)
        assert get(server.url, tmp_path, allow_redirect=[target]).cutouts == 1


def test_an_encoded_answer_is_not_unpacked(tmp_path: Path) -> None:
    head = OK + b"Content-Encoding: gzip, gzip\r\nContent-Length: 9\r\n\r\n"
    with raw_server(lambda number: [head, b"\x1f\x8b\x08 a b c"]) as server:
        assert reason(server.url, tmp_path).startswith("is encoded (gzip, gzip); expected FITS.")


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 404 " + b"\x1b[31m\x07" * 2000,
        b"HTTP/1.1 302 x\r\nLocation: http://" + b"x" * 9000 + b"/\x1b[2J",
        b"HTTP/1.1 302 x\r\nLocation: /" + b"x" * 9000 + b"\x1b[2J",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: " + b"\x1b[2J" * 900,
        b"\x1b[2J" * 900,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"\x1b[2J" * 900,
    ],
)
def test_what_a_server_says_is_told_in_one_short_line(head: bytes, tmp_path: Path) -> None:
    with raw_server(lambda number: [head, b"\r\nContent-Length: 0\r\n\r\n"]) as server:
        said = reason(server.url, tmp_path)
    assert said.isprintable()
    assert len(said) < 800
