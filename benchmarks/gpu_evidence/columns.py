"""The columns of the tables on the page, each with its unit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Row = Mapping[str, Any]


class Column(NamedTuple):
    """A column: its heading with the unit, and the text of a row."""

    heading: str
    text: Callable[[Row], str]
    is_number: bool = True


def number(heading: str, key: str, pattern: str = "{:.3g}", factor: float = 1.0) -> Column:
    """Return the column of a number, ``-`` where a row has none; whole numbers stay whole."""

    def text(row: Row) -> str:
        value = row.get(key)
        if isinstance(value, int):
            return f"{value:,}"
        return pattern.format(value * factor) if isinstance(value, float) else str(value or "-")

    return Column(heading, text)


def words(heading: str, key: str) -> Column:
    """Return the column of a text, ``-`` where a row has none."""
    return Column(heading, lambda row: "-" if row.get(key) in (None, "") else str(row[key]), False)


NAME = words("", "name")
BACKEND = words("backend", "backend")
CUTOUTS = number("cutouts", "cutouts")
SPEED = (
    number("time (us)", "seconds", "{:,.1f}", 1e6),
    number("GB/s", "gb_per_second", "{:,.0f}"),
    number("copy, GB/s", "copy_gb_per_second", "{:,.0f}"),
    number("measured, of the copy", "of_copy", "{:.2f}"),
)
FIRST = number("first call (s)", "first_call_seconds", "{:.1f}")
VALUE = number("value", "value")
TOOL = (NAME, number("exit status", "exit_status"), words("last line", "last_line"))

COLUMNS: Mapping[str, tuple[Column, ...]] = {
    "machine": (NAME, words("value", "value")),
    "exactness": (NAME, BACKEND, number("planes", "planes"), number("differ", "differ"), FIRST),
    "variants": (
        NAME, BACKEND, CUTOUTS, *SPEED,
        number("modelled, of the copy", "modelled_of_copy", "{:.2f}"), FIRST,
    ),
    "sizes": (NAME, CUTOUTS, *SPEED),
    "peers": (
        NAME, CUTOUTS, *SPEED,
        number("times ours", "times_ours", "{:.1f}"),
        number("largest difference", "largest_difference"),
    ),
    "host": (
        NAME,
        number("host time (us)", "seconds", "{:.1f}", 1e6),
        number("25 % (us)", "seconds_25", "{:.1f}", 1e6),
        number("75 % (us)", "seconds_75", "{:.1f}", 1e6),
    ),
    "graph": (NAME, VALUE, CUTOUTS, *SPEED),
    "streams": (NAME, VALUE),
    "fresh": (NAME, VALUE),
    "training": (
        NAME, words("crop to 64", "crop"), words("compiled", "compiled"), number("batch", "batch"),
        number("steps / s", "steps_per_second", "{:.1f}"),
        number("cutouts / s", "cutouts_per_second", "{:,.0f}"),
        number("steps / s, input ready", "steps_per_second_alone", "{:.1f}"),
    ),
    "injection": (
        NAME, VALUE, number("images", "images"),
        number("images / s", "images_per_second", "{:,.0f}"), FIRST,
    ),
    "sanitizer": TOOL,
    "profiler": TOOL,
    "model": (
        words("variant", "variant"), number("sm", "capability"),
        number("registers", "registers"), number("resident warps", "resident_warps"),
    ),
}  # fmt: skip
"""Columns of the table of every part."""

SUMMARY = (
    words("part", "title"),
    words("result", "result"),
    number("time (s)", "seconds", "{:.0f}"),
    number("limit (s)", "limit_seconds"),
)
"""Columns of the table of the parts."""
