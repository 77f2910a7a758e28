"""The page for users of stronglens_calibration: its table is complete, and its names exist."""

from __future__ import annotations

import importlib
import importlib.util
import re
from typing import Any, NamedTuple

import pytest

from tests import ROOT, SHARED

PAGE = ROOT / "docs" / "howto" / "stronglens_calibration.md"
EXISTING = SHARED / "EXISTING.md"
KINDS = {"unchanged", "other", "not here"}
NOT_NAMES = {"each", "private", "helpers"}


class Row(NamedTuple):
    """A row of the table: the name there, the name here or nothing, its kind, and the advice."""

    there: str
    here: str
    kind: str
    advice: str


def rows() -> list[Row]:
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.read_text("utf-8").splitlines()
        if line.startswith("| `dhs.")
    ]
    assert {len(row) for row in cells} == {4}
    return [Row(row[0].strip("`"), row[1].strip("`"), *row[2:]) for row in cells]


def resolve(name: str) -> Any:
    """Import the longest module that a dotted name begins with, and return the rest of it."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


def names_there(text: str) -> set[str]:
    """Return the dotted names that the section on imports lists, module by module."""
    _, _, section = text.partition("## Names that its 44 files import from `dhs`")
    paragraph = section.strip().split("\n\n")[0].partition("\n")[2]
    modules = re.findall(r"`(\w+)`: ([^`]*)", paragraph)
    return {
        f"dhs.{module}.{name}"
        for module, listed in modules
        for name in re.findall(r"[A-Za-z_]\w*", listed)
        if name not in NOT_NAMES
    }


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.there)
def test_the_name_here_exists(row: Row) -> None:
    assert row.kind in KINDS
    if row.kind == "not here":
        assert row.here == ""
        assert row.advice
        with pytest.raises((ModuleNotFoundError, AttributeError)):
            resolve(row.there)
        return
    assert callable(resolve(row.here)) or row.here.startswith("dhs.constants.")
    if row.kind == "unchanged":
        assert row.here == row.there
    else:
        assert row.advice
    named = re.findall(r"`((?:dhs|fastnorm)\.[\w.]+)`", row.advice)
    assert all(resolve(name) is not None for name in named)


def test_modules_that_fail_at_import_are_named() -> None:
    modules = {row.there.rpartition(".")[0] for row in rows()}
    gone = {name for name in modules if importlib.util.find_spec(name) is None}
    sentence = re.search(r"These modules do not exist.*?\.\n", PAGE.read_text("utf-8"), re.DOTALL)
    assert sentence is not None
    assert {f"dhs.{name}" for name in re.findall(r"`(\w+)`", sentence[0])} == gone


def test_names_outside_of_the_table_exist() -> None:
    text = re.sub(r"^\|.*$", "", PAGE.read_text("utf-8"), flags=re.MULTILINE)
    named = re.findall(r"`((?:dhs|fastnorm)\.[\w.]+)`", text)
    assert len(named) >= 7
    assert all(resolve(name) is not None for name in named)


def test_the_list_of_names_is_read() -> None:
    text = (
        "## Names that its 44 files import from `dhs` (how many files)\n"
        "`a`: one 28, two 2. `b`: Three, four 17 each, private helpers 2 each.\n\n`not`: this.\n"
    )
    assert names_there(text) == {"dhs.a.one", "dhs.a.two", "dhs.b.Three", "dhs.b.four"}


def test_the_table_is_complete() -> None:
    if not EXISTING.is_file():
        pytest.skip(f"no list of names at {EXISTING.relative_to(ROOT.parent)}")
    expected = names_there(EXISTING.read_text("utf-8"))
    assert len(expected) > 40
    found = [row.there for row in rows()]
    assert len(found) == len(set(found))
    assert set(found) == expected
