"""Text that is safe to print on a terminal, whatever files and file names contain."""

from __future__ import annotations

from pathlib import Path


def printable(text: str | Path) -> str:
    """Escape control characters, and bytes of a file name that are not valid UTF-8."""
    return "".join(
        letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1]
        for letter in str(text)
    )


def ascii_only(text: str) -> str:
    """Escape what is not printable ASCII, for the headers of FITS files."""
    return "".join(letter if " " <= letter <= "~" else ascii(letter)[1:-1] for letter in text)


MOST_LETTERS = 600
"""Largest number of characters in a reason."""


def one_line(text: str, most: int = MOST_LETTERS) -> str:
    """Join lines, escape control characters, and cut the middle out of long text."""
    words = " ".join(text.split())
    if len(words) > most:
        words = f"{words[: most // 2]} ... {words[-most // 2 :]}"
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in words)
