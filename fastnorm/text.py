"""Text that is safe to print on a terminal, whatever files and file names contain."""

from __future__ import annotations

import shlex
import unicodedata
from pathlib import Path

_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Categories of letters that move or hide others: controls, marks of direction, line breaks."""


def printable(text: str | Path) -> str:
    """Escape control characters, and bytes of a file name that are not valid UTF-8."""
    return "".join(
        letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1]
        for letter in str(text)
    )


def visible(text: str | Path) -> str:
    """Escape line breaks and all letters that change how others look, on a screen or a page."""
    said = str(text)
    if said.isprintable():
        return said
    return "".join(
        ascii(letter)[1:-1] if unicodedata.category(letter) in _HIDDEN else letter
        for letter in said
    )


def quoted(word: str | Path) -> str:
    """Return a word of a shell command, on one line and with nothing hidden."""
    return shlex.quote(visible(word))


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
