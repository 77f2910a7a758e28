"""Manifests: tables of cutouts, Parquet or CSV, and what they say of themselves."""

from __future__ import annotations

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

from dhs.manifest.format import METADATA_KEY
from fastnorm.text import one_line

MOST_FOOTER_BYTES = 2**26
"""Of the metadata of a Parquet file, which grow with columns and row groups."""
_TEXT_COLUMNS = ("cutout_path", "mask_path", "galaxy_id", "split")


def read_manifest(path: str | Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read a manifest, without any check of what it lists.

    Parameters
    ----------
    path : str or Path
        ``.parquet`` or ``.csv``. In a CSV, paths, ids and splits are text; the types of other
        columns are inferred.

    Returns
    -------
    table : pandas.DataFrame
    metadata : dict
        What a Parquet file says under the key ``dhs`` of its schema; else empty.

    Raises
    ------
    OSError
        It cannot be read.
    ValueError
        It is of another kind, or damaged.
    """
    table = read_table(Path(path))
    return table.to_pandas(), metadata_of(table, Path(path))


def read_table(path: Path, content: bytes | None = None) -> pyarrow.Table:
    """As `read_manifest`, as an Arrow table; from ``content`` where the file was read already."""
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
            return _sound(csv.read_csv(stream, convert_options=options))
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = one_line(str(error))
        raise ValueError(f"{path} is damaged, or not what its suffix says ({reason}).") from error
    raise ValueError(f"{path} is of an unknown kind; allowed are .parquet and .csv.")


def content_sha256(table: pyarrow.Table) -> str:
    """The sha256 of the names and values of a table, however they lie in a file."""
    return hashlib.sha256(repr(table.to_pydict()).encode()).hexdigest()


@contextmanager
def made_again_if_damaged(path: Path) -> Iterator[None]:
    """Read a file that the same command makes again, if it is damaged and deleted.

    Raises
    ------
    ValueError
        It is damaged, and named; what the disk says (errors with a number) stays as it is.
    """
    try:
        yield
    except (pyarrow.ArrowException, LookupError, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(f"{path} is damaged ({error}); delete it, and run again.") from error


def check_footer(path: Path) -> None:
    """Refuse a Parquet file that claims more metadata than any table has, before it is read.

    Raises
    ------
    OSError
        It cannot be read.
    ValueError
        It claims more than `MOST_FOOTER_BYTES`.
    """
    with path.open("rb") as stream:
        stream.seek(-min(8, path.stat().st_size), os.SEEK_END)
        length = int.from_bytes(stream.read(4), "little")
    if length > MOST_FOOTER_BYTES:
        raise ValueError(
            f"{path} is damaged, or not what its suffix says (it claims metadata of {length:,} "
            f"bytes; at most {MOST_FOOTER_BYTES:,} are read)."
        )


def _sound(table: pyarrow.Table) -> pyarrow.Table:
    """Refuse bytes that are no text, in names and values: Arrow looks at them only when asked."""
    table.validate(full=True)
    _ = table.column_names
    return table


def is_text(kind: pyarrow.DataType, or_integers: bool = False) -> bool:
    types = pyarrow.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    tests = [types.is_string, types.is_large_string, types.is_string_view, types.is_null]
    return any(test(kind) for test in tests) or (or_integers and types.is_integer(kind))


def is_number(kind: pyarrow.DataType) -> bool:
    types = pyarrow.types
    tests = [types.is_integer, types.is_floating, types.is_boolean, types.is_decimal, types.is_null]
    return any(test(kind) for test in tests)


def metadata_of(table: pyarrow.Table | pyarrow.Schema, path: Path) -> dict[str, Any]:
    """What the schema says under the key ``dhs``, of a table that was read from ``path``."""
    schema = table if isinstance(table, pyarrow.Schema) else table.schema
    try:
        found = json.loads((schema.metadata or {}).get(METADATA_KEY, b"{}"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: its metadata 'dhs' are no JSON ({error}).") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: its metadata 'dhs' are no JSON object.")
    return found
