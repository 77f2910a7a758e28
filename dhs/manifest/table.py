"""Manifests: tables of cutouts in Parquet or CSV, and their metadata."""

from __future__ import annotations

import csv as csv_module
import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow
from pyarrow import csv, parquet

from dhs.arguments import existing
from dhs.manifest.csv_text import CsvText, plain_csv
from dhs.manifest.format import MANIFEST, METADATA_KEY
from dhs.manifest.parquet_file import longest_text, read_parquet
from dhs.manifest.sizes import CSV_COPIES, NUMBER_BYTES, Allowance, require_columns
from fastnorm.json_text import parse_json
from fastnorm.paths import local_path, open_file, require_file
from fastnorm.text import one_line

MOST_FOOTER_BYTES = 2**26
"""Largest footer of a Parquet file; its metadata grow with columns and row groups."""
_TEXT_COLUMNS = ("cutout_path", "mask_path", "galaxy_id", "split")
_TEXT_OF_SCORES = ("path",)
UCS4_BYTES = 4
"""Bytes of a character in an array of NumPy."""


def read_manifest(
    path: str | Path, text_columns: Sequence[str] = ()
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read a manifest without checking its rows.

    Parameters
    ----------
    path : str or Path
        A ``.parquet`` or ``.csv`` file, or the folder of a pack. In a CSV, paths, ids and splits
        are text; the types of other columns are inferred.
    text_columns : sequence of str
        Further columns of a CSV that are text.

    Returns
    -------
    table : pandas.DataFrame
        The rows.
    metadata : dict
        The JSON under the key ``dhs`` in the schema of a Parquet file. Otherwise empty.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        The file has a different type or is damaged.
    """
    path = manifest_path(path)
    table = read_table(path, text_columns=text_columns)
    try:
        frame = table.to_pandas()
    except (pyarrow.ArrowException, ArithmeticError, TypeError, ValueError) as error:
        reason = one_line(str(error))
        raise ValueError(f"{path} has a value that cannot be read ({reason}).") from error
    return frame, metadata_of(table, path)


def manifest_path(path: str | Path) -> Path:
    """Return the path of a manifest: the file itself, or the one in the folder of a pack.

    Raises
    ------
    FileNotFoundError
        The folder has no manifest.
    ValueError
        The path is an address.
    """
    path = local_path(path)
    if not path.is_dir():
        return path
    require_file(path / MANIFEST)
    if not (path / MANIFEST).is_file():
        raise FileNotFoundError(
            f"{path} has no {MANIFEST}; give a pack, or a .parquet or .csv file."
        )
    return path / MANIFEST


def read_table(
    path: Path, content: bytes | None = None, text_columns: Sequence[str] = ()
) -> pyarrow.Table:
    """Read a manifest as an Arrow table.

    Parameters
    ----------
    path : Path
    content : bytes, optional
        Content of the file, if it was already read.
    text_columns : sequence of str
        Columns of a CSV that are text, besides paths, ids and splits.

    Returns
    -------
    pyarrow.Table

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        The file has a different type or is damaged.
    """
    if content is None:
        content = read_content(path)
    try:
        if path.suffix == ".parquet":
            return _sound(path, read_parquet(path, content), text_columns)
        if path.suffix == ".csv":
            as_text = dict.fromkeys([*_TEXT_COLUMNS, *text_columns], pyarrow.string())
            options = csv.ConvertOptions(column_types=as_text)
            text = plain_csv(path, content)
            _check_cells(path, text)
            marks = csv.ParseOptions(delimiter=text.separator)
            stream = pyarrow.BufferReader(text.content)
            read = csv.read_csv(stream, parse_options=marks, convert_options=options)
            return _sound(path, read, text_columns)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError, csv_module.Error) as error:
        reason = one_line(str(error))
        raise ValueError(f"{path} is damaged or not a {path.suffix} file ({reason}).") from error
    raise ValueError(f"{path} has an unknown suffix; expected .parquet or .csv.")


def read_content(path: Path) -> bytes:
    """Read a file, which must exist and leave most of the free memory.

    Raises
    ------
    OSError
        The file cannot be read, or is not a file on a disk.
    ValueError
        The file is too large.
    """
    if existing(path).suffix == ".parquet":
        check_footer(path)
    with open_file(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        copies = CSV_COPIES if path.suffix == ".csv" else 1
        Allowance(path).require(f"its {size:,} bytes", copies * size)
        return stream.read(size)


def _check_cells(path: Path, text: CsvText) -> None:
    """Refuse a CSV file with more values than memory holds, before decoding it."""
    rows = text.content.count(b"\n")
    # A name in quotes can contain the separator and line breaks.
    stream = io.TextIOWrapper(io.BytesIO(text.content), "utf-8", "replace", newline="")
    columns = len(next(csv_module.reader(stream, delimiter=text.separator), []))
    require_columns(path, columns)
    size = CSV_COPIES * len(text.content) + NUMBER_BYTES * rows * columns
    Allowance(path).require(f"its {rows:,} rows of {columns:,} columns", size)


def column_names(path: Path) -> list[str]:
    """Return the names of the columns of a ``.parquet`` or ``.csv`` file; see `read_table`."""
    if path.suffix == ".parquet" and path.is_file():
        check_footer(path)
        with suppress(pyarrow.ArrowException, OSError):
            names: list[str] = parquet.read_schema(path).names
            return names
    # The whole table, whose reader names what is wrong.
    return list(read_table(path).column_names)


def content_sha256(table: pyarrow.Table) -> str:
    """Return the SHA-256 of the names and values of a table, regardless of its file layout."""
    return hashlib.sha256(repr(table.to_pydict()).encode()).hexdigest()


@contextmanager
def made_again_if_damaged(path: Path) -> Iterator[None]:
    """Report a damaged file that the same command recreates after its deletion.

    Raises
    ------
    ValueError
        The file is damaged. Errors of the operating system (those with a number) pass through.
    """
    try:
        yield
    except (pyarrow.ArrowException, LookupError, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(f"{path} is damaged ({error}); delete it and run again.") from error


def check_footer(path: Path) -> None:
    """Reject a Parquet file that claims more metadata than any table has, before reading it.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        The file claims more than `MOST_FOOTER_BYTES`.
    """
    with open_file(path) as stream:
        stream.seek(-min(8, os.fstat(stream.fileno()).st_size), os.SEEK_END)
        length = int.from_bytes(stream.read(4), "little")
    if length > MOST_FOOTER_BYTES:
        raise ValueError(
            f"{path} is damaged or not a {path.suffix} file (it claims metadata of {length:,} "
            f"bytes; at most {MOST_FOOTER_BYTES:,} are read)."
        )


def _sound(path: Path, table: pyarrow.Table, text_columns: Sequence[str]) -> pyarrow.Table:
    """Reject what Arrow checks only on request, and texts that NumPy would pad to the longest."""
    table.validate(full=True)
    for name in {*_TEXT_COLUMNS, *_TEXT_OF_SCORES, *text_columns} & {*table.column_names}:
        if is_text(table[name].type) and (longest := longest_text(table[name])):
            what = f"{name} with {len(table):,} rows, the longest of {longest:,} bytes,"
            Allowance(path).require(what, UCS4_BYTES * longest * len(table))
    return table


def is_text(kind: pyarrow.DataType, or_integers: bool = False) -> bool:
    """Tell whether a type is text or null, or optionally an integer."""
    types = pyarrow.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    tests = [types.is_string, types.is_large_string, types.is_string_view, types.is_null]
    return any(test(kind) for test in tests) or (or_integers and types.is_integer(kind))


def is_number(kind: pyarrow.DataType) -> bool:
    """Tell whether a type is a number, a boolean or null."""
    types = pyarrow.types
    tests = [types.is_integer, types.is_floating, types.is_boolean, types.is_decimal, types.is_null]
    return any(test(kind) for test in tests)


def metadata_of(table: pyarrow.Table | pyarrow.Schema, path: Path) -> dict[str, Any]:
    """Return the JSON under the key ``dhs`` in the schema of a table read from ``path``."""
    schema = table if isinstance(table, pyarrow.Schema) else table.schema
    try:
        found = parse_json((schema.metadata or {}).get(METADATA_KEY, b"{}"))
    except ValueError as error:
        raise ValueError(f"{path}: the metadata 'dhs' are not valid JSON ({error}).") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: the metadata 'dhs' are not a JSON object.")
    return found
