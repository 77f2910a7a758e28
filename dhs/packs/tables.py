"""Manifests: tables of cutouts, Parquet or CSV, and what they say of themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow
from pyarrow import csv, parquet

from dhs.packs.format import METADATA_KEY

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
    source = path.read_bytes() if content is None else content
    stream = pyarrow.BufferReader(source)
    try:
        if path.suffix == ".parquet":
            return parquet.read_table(stream)
        if path.suffix == ".csv":
            as_text = dict.fromkeys(_TEXT_COLUMNS, pyarrow.string())
            return csv.read_csv(stream, convert_options=csv.ConvertOptions(column_types=as_text))
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{path} is damaged, or not what its suffix says ({error}).") from error
    raise ValueError(f"{path} is of an unknown kind; allowed are .parquet and .csv.")


def metadata_of(table: pyarrow.Table, path: Path) -> dict[str, Any]:
    """What the schema says under the key ``dhs``, of a table that was read from ``path``."""
    try:
        found = json.loads((table.schema.metadata or {}).get(METADATA_KEY, b"{}"))
    except ValueError as error:
        raise ValueError(f"{path}: its metadata 'dhs' are no JSON ({error}).") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: its metadata 'dhs' are no JSON object.")
    return found
