"""Columns of a table under the names of another survey: labels, ids, and files after a pattern."""

from __future__ import annotations

import re
from typing import NamedTuple

import pandas as pd
import pyarrow

from dhs.manifest.columns import CUTOUT_PATH, ID, Manifest
from dhs.manifest.table import is_number, is_text

LABEL = "label"
_IN_BRACES = re.compile(r"\{([^{}]*)\}")


class Naming(NamedTuple):
    """Names that a user gives for columns; empty names leave the table as it is.

    ``label_col``: column of the labels. ``id_col``: column of the ids. ``path_pattern``: files of
    the cutouts, with names of columns in braces.
    """

    label_col: str = ""
    id_col: str = ""
    path_pattern: str = ""

    @classmethod
    def of(cls, label_col: str | None, id_col: str | None, path_pattern: str | None) -> Naming:
        """Take names of which None is not given.

        Parameters
        ----------
        label_col, id_col, path_pattern : str or None
            Same as in the class.

        Raises
        ------
        ValueError
            A name is empty.
        """
        given = {"label_col": label_col, "id_col": id_col, "path_pattern": path_pattern}
        for name, value in given.items():
            if value is not None and not value:
                raise ValueError(f"{name} is empty; give a name, or leave it out.")
        return cls(*(value or "" for value in given.values()))

    def settings(self) -> dict[str, str] | None:
        """Return what a pack records; None if nothing was given, as in packs without the entry."""
        return {name: value for name, value in self._asdict().items() if value} or None

    def text_columns(self) -> tuple[str, ...]:
        """Return the columns to read as text from a CSV, where 007 and 7 are different files."""
        named = _IN_BRACES.findall(self.path_pattern)
        return tuple(dict.fromkeys([*filter(None, [self.id_col]), *named]))

    def applied(self, table: pyarrow.Table, name: object) -> pyarrow.Table:
        """Return the table with the columns ``cutout_path``, ``galaxy_id`` and ``label``.

        The given columns are kept. ``RA`` and ``DEC`` count as ``ra`` and ``dec``.

        Parameters
        ----------
        table : pyarrow.Table
        name : object
            Name of the file, for error messages.

        Returns
        -------
        pyarrow.Table

        Raises
        ------
        ValueError
            A column is missing, empty in a row, or of a type that is not allowed; the pattern is
            not valid; or the table has a column of the name already, with other values.
        """
        if self.path_pattern:
            paths = pyarrow.array(_paths(table, self.path_pattern, name), pyarrow.string())
            table = _added(table, CUTOUT_PATH, paths, "path_pattern", self.path_pattern, name)
        if self.id_col:
            ids = pyarrow.array(texts(table, self.id_col, "id_col", name), pyarrow.string())
            table = _added(table, ID, ids, "id_col", self.id_col, name)
        if self.label_col:
            labels = _column(table, self.label_col, "label_col", name)
            table = _added(table, LABEL, labels, "label_col", self.label_col, name)
        return _with_positions(table)


def texts(table: pyarrow.Table, column: str, argument: str, name: object) -> list[str]:
    """Return a column of text or integers as text.

    Parameters
    ----------
    table : pyarrow.Table
    column : str
        Name of the column.
    argument : str
        Argument that gave the name, for error messages.
    name : object
        Name of the file, for error messages.

    Returns
    -------
    list of str

    Raises
    ------
    ValueError
        The column is missing, empty in a row, or neither text nor integers: other numbers have
        several spellings.
    """
    found = _column(table, column, argument, name)
    if not is_text(found.type, or_integers=True):
        raise ValueError(
            f"{name}: {column!r} is of type {found.type}; {argument} needs a column of text or "
            "integers."
        )
    values: list[str] = found.cast(pyarrow.string()).fill_null("").to_pylist()
    empty = [row for row, value in enumerate(values) if not value]
    if empty:
        rows = f"{len(empty):,} row{'s' * (len(empty) > 1)}"
        raise ValueError(
            f"{name}: {column!r} is empty in {rows}, first in row {empty[0]}; {argument} needs a "
            "value in each row."
        )
    return values


def ids_of(table: pd.DataFrame, column: str, name: object) -> list[str]:
    """Return the ids in a column of this name; see `texts`.

    Parameters
    ----------
    table : pandas.DataFrame
    column : str
        Name of the column.
    name : object
        Name of the file, for error messages.

    Raises
    ------
    ValueError
        The column is missing, empty in a row, or neither text nor integers.
    """
    Manifest(table, str(name)).column(column, "id_col")
    return texts(pyarrow.Table.from_pandas(table[[column]]), column, "id_col", name)


def _column(table: pyarrow.Table, column: str, argument: str, name: object) -> pyarrow.ChunkedArray:
    names = table.column_names
    if names.count(column) != 1:
        many = "several columns" if column in names else "no column"
        raise ValueError(
            f"{name} has {many} {column!r} ({argument}); its columns are {', '.join(names)}."
        )
    return table[column]


def _paths(table: pyarrow.Table, pattern: str, name: object) -> list[str]:
    """Fill in the pattern for every row."""
    parts = _IN_BRACES.split(pattern)
    if any(brace in part for part in parts[::2] for brace in "{}"):
        raise ValueError(f"path_pattern {pattern!r} has a brace without its partner.")
    if len(parts) == 1:
        raise ValueError(
            f"path_pattern {pattern!r} names no column in braces, so all rows would have one file; "
            "for example 'cutouts/{TARGETID}.fits'."
        )
    columns = {part: texts(table, part, "path_pattern", name) for part in parts[1::2]}
    return [
        "".join(columns[part][row] if k % 2 else part for k, part in enumerate(parts))
        for row in range(len(table))
    ]


def _added(
    table: pyarrow.Table,
    target: str,
    values: pyarrow.Array | pyarrow.ChunkedArray,
    argument: str,
    given: str,
    name: object,
) -> pyarrow.Table:
    if target not in table.column_names:
        return table.append_column(target, values)
    if given == target or _spelled(table[target]) == _spelled(values):
        return table
    raise ValueError(
        f"{name} has a column {target} already, and it differs from {given!r}; leave out "
        f"{argument}, or rename the column {target}."
    )


def _spelled(values: pyarrow.Array | pyarrow.ChunkedArray) -> list[str]:
    return [str(value) for value in values.to_pylist()]


def _with_positions(table: pyarrow.Table) -> pyarrow.Table:
    """Add ``ra`` and ``dec`` from numbers ``RA`` and ``DEC``, so that neighbours share a split."""
    names = table.column_names
    if {"ra", "dec"} & {*names} or names.count("RA") != 1 or names.count("DEC") != 1:
        return table
    if not (is_number(table["RA"].type) and is_number(table["DEC"].type)):
        return table
    return table.append_column("ra", table["RA"]).append_column("dec", table["DEC"])
