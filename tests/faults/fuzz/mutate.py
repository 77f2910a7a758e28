"""Damage to bytes, as values that Hypothesis can draw, show and shrink."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

ODD_NUMBERS = (
    *("0", "-1", "1", "2", "3", "7", "127", "255", "256", "65535", "65536", "2147483647"),
    *("4294967295", "4294967296", "9223372036854775807", "-9223372036854775808", "1" + "0" * 30),
    *("9" * 400, "1e999", "-1e999", "nan", "inf", "1e-999", "0.5", "0x10", "", "1_000", "true"),
    *("null", "[]", "{}", '""', "00", "1:30", "\u0663"),
)
ODD_WORDS = (
    *("", "\0", "'", '"', "\n", "\r\n", "\t", "%s", "{0}", "../x", "/etc/passwd", "a" * 300),
    *(
        "\ud7ff",
        "\x1b[31m",
        "\u202e",
        "\ufeff",
        "NaN",
        "null",
        "!!python/object:os.system",
        "&a *a",
    ),
)
_NUMBER = re.compile(rb"-?\d[\d.]*(?:[eE][-+]?\d+)?")
_WORD = re.compile(rb"[A-Za-z_]{2,}")


class Seeds(dict[str, bytes]):
    """Valid files by name; too long for their repr to show them."""

    def __repr__(self) -> str:
        return "SEEDS"


@dataclass(frozen=True)
class Flip:
    """Change bits of a byte."""

    at: int
    bits: int

    def __call__(self, content: bytes) -> bytes:
        if not content:
            return content
        at = self.at % len(content)
        return content[:at] + bytes([content[at] ^ self.bits]) + content[at + 1 :]


@dataclass(frozen=True)
class Put:
    """Replace a number of bytes by others."""

    at: int
    length: int
    new: bytes

    def __call__(self, content: bytes) -> bytes:
        at = self.at % (len(content) + 1)
        return content[:at] + self.new + content[at + self.length :]


@dataclass(frozen=True)
class Cut:
    """Truncate the content."""

    at: int

    def __call__(self, content: bytes) -> bytes:
        return content[: self.at % (len(content) + 1)]


@dataclass(frozen=True)
class Repeat:
    """Insert copies of a part before it."""

    at: int
    length: int
    times: int

    def __call__(self, content: bytes) -> bytes:
        at = self.at % (len(content) + 1)
        return content[:at] + content[at : at + self.length] * self.times + content[at:]


@dataclass(frozen=True)
class Splice:
    """Replace the end by the end of another file."""

    at: int
    other: str
    other_at: int
    seeds: Seeds

    def __call__(self, content: bytes) -> bytes:
        other = self.seeds[self.other]
        return content[: self.at % (len(content) + 1)] + other[self.other_at % (len(other) + 1) :]


@dataclass(frozen=True)
class Reword:
    """Replace a number or a word by another text."""

    which: int
    new: str
    is_number: bool

    def __call__(self, content: bytes) -> bytes:
        found = list((_NUMBER if self.is_number else _WORD).finditer(content))
        if not found:
            return content
        match = found[self.which % len(found)]
        return content[: match.start()] + self.new.encode() + content[match.end() :]


Change = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Damaged:
    """A valid file, and the changes made to it."""

    name: str
    changes: tuple[Change, ...]
    seeds: Seeds

    @property
    def content(self) -> bytes:
        content = self.seeds[self.name]
        for change in self.changes:
            content = change(content)
        return content


_places = st.integers(0, 2**13)
_lengths = st.integers(0, 40)


def _integers() -> SearchStrategy[bytes]:
    """Draw integers as in the sizes and counts of headers, of any width and byte order."""
    return st.builds(
        lambda value, width, order: (value % 2 ** (8 * width)).to_bytes(width, order),
        st.sampled_from((0, 1, 2, 127, 128, 255, 2**15, 2**16 - 1, 2**31, 2**32 - 1, 2**63, -1)),
        st.sampled_from((1, 2, 4, 8)),
        st.sampled_from(("little", "big")),
    )


def changes(seeds: Seeds, is_text: bool = False) -> SearchStrategy[Change]:
    """Draw one change of a file; in text, mostly changes of words and numbers."""
    of_bytes: list[SearchStrategy[Change]] = [
        st.builds(Flip, _places, st.integers(1, 255)),
        st.builds(Put, _places, _lengths, st.binary(max_size=40)),
        st.integers(0, 8).flatmap(lambda n: st.builds(Put, _places, st.just(n), _integers())),
        st.builds(Cut, _places),
        st.builds(Repeat, _places, st.integers(1, 4000), st.integers(1, 4)),
        st.builds(Splice, _places, st.sampled_from(sorted(seeds)), _places, st.just(seeds)),
    ]
    of_text: list[SearchStrategy[Change]] = [
        st.builds(Reword, _places, st.sampled_from(ODD_NUMBERS), st.just(True)),
        st.builds(Reword, _places, st.sampled_from(ODD_WORDS), st.booleans()),
        st.builds(Reword, _places, st.text(max_size=8), st.booleans()),
    ]
    return st.one_of(*of_text, *of_text, *of_bytes) if is_text else st.one_of(*of_text, *of_bytes)


def damaged(
    seeds: Mapping[str, bytes], is_text: bool = False, most: int = 4
) -> SearchStrategy[Damaged]:
    """Draw a valid file with a few changes, or none.

    Parameters
    ----------
    seeds : mapping of str to bytes
        Valid files by name.
    is_text : bool
        Whether the files are text.
    most : int
        Largest number of changes.
    """
    return with_changes(seeds, changes(Seeds(seeds), is_text), 0, most)


def with_changes(
    seeds: Mapping[str, bytes], change: SearchStrategy[Any], least: int, most: int
) -> SearchStrategy[Damaged]:
    """Draw a valid file with changes from a given strategy.

    Parameters
    ----------
    seeds : mapping of str to bytes
        Valid files by name.
    change : strategy
        Strategy that draws one change.
    least, most : int
        Smallest and largest number of changes.
    """
    several = st.lists(change, min_size=least, max_size=most).map(tuple)
    return st.builds(Damaged, st.sampled_from(sorted(seeds)), several, st.just(Seeds(seeds)))
