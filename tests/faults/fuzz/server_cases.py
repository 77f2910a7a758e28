"""Answers of servers that drip, stall, lie and break off, drawn at random."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

from hypothesis import strategies as st

from tests.dhs.fetch.fetch_cases import SIZE
from tests.dhs.fetch.flaky_server import fits_bytes

CUTOUT = fits_bytes(1.0, -60.0, SIZE)
"""The right answer to the first row of a catalogue."""
MOST_SECONDS, MOST_SECONDS_OF_SILENCE = 8.0, 1.0
"""Longest time of an answer, long after every client must have left, and of a silence."""

STATUS = (
    *(b"HTTP/1.1 200 OK",) * 30,
    *(b"HTTP/1.0 200 OK", b"HTTP/2 200", b"HTTP/1.1 200", b"http/1.1 200 ok", b"SIMPLE  =    T"),
    *(b"HTTP/1.1 %d x" % code for code in (100, 101, 103, 204, 206, 304, 404, 429, 500, 503, 999)),
    *(b"HTTP/1.1 302 x", b"HTTP/1.1 307 x", b"HTTP/1.1 -1 x", b"HTTP/1.1 " + b"2" * 5000, b""),
)
PAUSES = ("0", "-1", "301", "9" * 30, "9" * 5000, "nan", "Fri, 31 Dec 9999 23:59:59 GMT", "\xb2")
PLACES = (
    *(
        "/",
        "/?ra=1.0",
        "?",
        "//",
        "http://127.0.0.1:1/",
        "https://127.0.0.1/",
        "http://[::",
        "\x00",
    ),
    *("ftp://x/", "file:///etc/passwd", "http://a@127.0.0.1/", "http://" + "x" * 300, "x" * 70_000),
)
LENGTHS = ("0", "-1", "1e3", "9" * 30, "9" * 5000, "5, 5", "5, 6", "0x10", " ", "\xb2", "nan")
CODINGS = ("chunked", "chunked, chunked", "gzip, chunked", "identity", "Chunked", "x" * 9000)
OTHERS = (
    *(
        "Content-Encoding: gzip",
        "Content-Encoding: br, gzip",
        "Connection: close",
        "",
        " folded: x",
    ),
    *(
        "Connection: keep-alive",
        ":",
        "no colon",
        "X: \x1b[2J",
        "Content-Range: bytes 0-1/9",
        "\x00",
    ),
    *("X: " + "y" * 70_000, "\n".join(f"X-{k}: y" for k in range(120)), "Upgrade: h2c"),
)
AGAIN = (b"", b"0", b"\r", b"\r\n", b"a: b\r\n", b"1\r\n \r\n", b"HTTP/1.1 100 Continue\r\n\r\n")


class Step(NamedTuple):
    """A part of an answer. ``piece``: bytes sent at once, 0 for all. ``pause``: seconds between."""

    content: bytes
    piece: int
    pause: float


class Answer(NamedTuple):
    """An answer. ``end``: what is repeated after the steps; None is a reset."""

    steps: tuple[Step, ...]
    end: bytes | None
    pause: float

    def pieces(self) -> Iterator[bytes | None]:
        """Return what is sent, with pauses, for at most some seconds."""
        ends = time.monotonic() + (MOST_SECONDS if self.end else MOST_SECONDS_OF_SILENCE)
        for content, piece, pause in self.steps:
            size = piece or len(content) or 1
            for start in range(0, len(content), size):
                if time.monotonic() > ends:
                    return
                time.sleep(pause)
                yield content[start : start + size]
        if self.end is None:
            yield None
        while self.end is not None and self.pause and time.monotonic() < ends:
            time.sleep(self.pause)
            yield self.end


def _headers(draw: st.DrawFn, is_chunked: bool, length: int) -> bytes:
    framing = "Transfer-Encoding: chunked" if is_chunked else f"Content-Length: {length}"
    odd = st.one_of(
        st.sampled_from(LENGTHS).map("Content-Length: {}".format),
        st.sampled_from(CODINGS).map("Transfer-Encoding: {}".format),
        st.sampled_from(PLACES).map("Location: {}".format),
        st.sampled_from(PAUSES).map("Retry-After: {}".format),
        st.sampled_from(OTHERS),
    )
    lines = [*draw(st.sampled_from(([framing],) * 5 + ([],))), *draw(st.lists(odd, max_size=2))]
    if draw(st.booleans()):
        lines.reverse()
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1")


def _chunked(draw: st.DrawFn, body: bytes) -> bytes:
    size = draw(st.sampled_from((1, 7, 1000, 2880, 10**6)))
    after = draw(st.sampled_from((b"", b"", b";a=b", b" ", b";" + b"x" * 3000)))
    chunks = [
        b"%x%b\r\n%b\r\n" % (len(part), after, part)
        for part in (body[start : start + size] for start in range(0, len(body), size))
    ]
    last = draw(st.sampled_from((b"0", b"0", b"00000", b"", b"-1", b"g", b"f" * 5000, b"7fffffff")))
    trailers = draw(st.sampled_from((b"", b"", b"T: a\r\n", b"T: a\r\n" * 5000, b"x" * 9000)))
    return b"".join(chunks) + last + b"\r\n" + trailers + b"\r\n"


def _damage(draw: st.DrawFn, content: bytes) -> bytes:
    for _ in range(draw(st.sampled_from((0, 0, 0, 1, 2)))):
        # Most of an answer is pixels; what comes before them matters more.
        most = min(len(content), draw(st.sampled_from((20, 200, 4000, 10**6))))
        start = draw(st.integers(0, most))
        stop = start + draw(st.sampled_from((0, 1, 2, 100, 10**6)))
        new = draw(st.sampled_from((b"", b"\x00", b"\r\n", b"\n", b":", b"9" * 100, b"\xff" * 9)))
        content = content[:start] + new + content[stop:]
    return content


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    """Draw an answer: right, odd, damaged, dripping, or broken off."""
    body = draw(st.sampled_from((CUTOUT,) * 4 + (CUTOUT[:-2880], CUTOUT[:99], b"", bytes(400_000))))
    is_chunked = draw(st.booleans())
    head = draw(st.sampled_from((b"",) * 6 + (b"HTTP/1.1 100 Continue\r\nX: a\r\n\r\n" * 3,)))
    head += draw(st.sampled_from(STATUS)) + b"\r\n"
    head += _headers(draw, is_chunked, len(body)) + draw(st.sampled_from((b"\r\n",) * 7 + (b"",)))
    content = _damage(draw, head + (_chunked(draw, body) if is_chunked else body))
    cut = draw(st.sampled_from((len(head), 17, 1000)))
    pieces = st.sampled_from((0, 0, 0, 1, 500))
    pauses = st.sampled_from((0.0, 0.0, 0.01, 0.05))
    steps = (
        Step(part, draw(pieces), draw(pauses)) for part in (content[:cut], content[cut:]) if part
    )
    end = draw(st.sampled_from((None, b"", *AGAIN)))
    return Answer(tuple(steps), end, draw(st.sampled_from((0.0, 0.0, 0.001, 0.03))))
