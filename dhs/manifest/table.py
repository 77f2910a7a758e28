"""Manifests: tables of cutouts in Parquet or CSV, and their metadata."""

from __future__ import annotations

import csv as csv_module
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow
from pyarrow import csv, parquet

from dhs.arguments import existing
from dhs.manifest.csv_text import plain_csv
from dhs.manifest.format import MANIFEST, METADATA_KEY
from fastnorm.paths import local_path
from fastnorm.text import one_line

MOST_FOOTER_BYTES = 2**26
"""Largest footer of a Parquet file; its metadata grow with columns and row groups."""
_TEXT_COLUMNS = ("cutout_path", "mask_path", "galaxy_id", "split")


def read_manifest(path: str | Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read a manifest without checking its rows.

    Parameters
    ----------
    path : str or Path
        A ``.parquet`` or ``.csv`` file, or the folder of a pack. In a CSV, paths, ids and splits
        are text; the types of other columns are inferred.

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
    table = read_table(path)
    return table.to_pandas(), metadata_of(table, path)


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
    if not (path / MANIFEST).is_file():
        raise FileNotFoundError(
            f"{path} has no {MANIFEST}; give a pack, or a .parquet or .csv file."
        )
    return path / MANIFEST


def read_table(path: Path, content: bytes | None = None) -> pyarrow.Table:
    """Read a manifest as an Arrow table, from ``content`` if the file was already read."""
    if content is None:
        existing(path)
    if path.suffix == ".parquet":
        check_footer(path)
    source = path.read_bytes() if content is None else content
    stream = pyarrow.BufferReader(source)
    try:
        if path.suffix == ".parquet":
            return _sound(parquet.read_table(stream))
        if path.suffix == ".csv":
            as_text = dict.fromkeys(_TEXT_COLUMNS, pyarrow.string())
            options = csv.ConvertOptions(column_types=as_text)
            text = plain_csv(path, source)
            marks = csv.ParseOptions(delimiter=text.separator)
            stream = pyarrow.BufferReader(text.content)
            return _sound(csv.read_csv(stream, parse_options=marks, convert_options=options))
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError, csv_module.Error) as error:
        reason = one_line(str(error))
        raise ValueError(f"{path} is damaged or not a {path.suffix} file ({reason}).") from error
    raise ValueError(f"{path} has an unknown suffix; expected .parquet or .csv.")


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
    with path.open("rb") as stream:
        stream.seek(-min(8, path.stat().st_size), os.SEEK_END)
        length = int.from_bytes(stream.read(4), "little")
    if length > MOST_FOOTER_BYTES:
        raise ValueError(
            f"{path} is damaged or not a {path.suffix} file (it claims metadata of {length:,} "
            f"bytes; at most {MOST_FOOTER_BYTES:,} are read)."
        )


def _sound(table: pyarrow.Table) -> pyarrow.Table:
    """Reject invalid UTF-8 in names and values, which Arrow checks only on request."""
    table.validate(full=True)
    _ = table.column_names
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
        found = json.loads((schema.metadata or {}).get(METADATA_KEY, b"{}"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: the metadata 'dhs' are not valid JSON ({error}).") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: the metadata 'dhs' are not a JSON object.")
    return found
