"""Text that is safe on a terminal, whatever file names and files say."""

from __future__ import annotations

from pathlib import Path


def printable(text: str | Path) -> str:
    """Escape what a terminal would obey, and the bytes of a file name that are no UTF-8."""
    return "".join(
        letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1]
        for letter in str(text)
    )


MOST_LETTERS = 600
"""Of a reason."""


def one_line(text: str, most: int = MOST_LETTERS) -> str:
    """Join lines, escape what a terminal would obey, and leave out the middle of what is long."""
    words = " ".join(text.split())
    if len(words) > most:
        words = f"{words[: most // 2]} ... {words[-most // 2 :]}"
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in words)
