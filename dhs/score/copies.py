"""Copies of a table of scores for other programs: CSV, FITS and VOTable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from pyarrow import csv, parquet

from dhs.manifest.table import metadata_of
from fastnorm.atomic import atomic_path
from fastnorm.io import INSTALL_EXTRA
from fastnorm.text import ascii_only

TABLE = ".parquet"
COPIES = (".csv", ".fits", ".vot")


def write_copy(table: Path, out: Path) -> None:
    """Copy a table, the highest score first, in a format chosen by the suffix.

    The column ``rank`` is 1 for the highest score; the earlier of two equal rows comes first.

    The record of the table is JSON: in a FITS file under the key ``DHS`` of the header, in a
    VOTable in the INFO ``dhs``. A CSV has none.

    Parameters
    ----------
    table : Path
        Table of scores, ``.parquet``.
    out : Path
        File to write, with a suffix of `COPIES`; it appears when it is complete.
    """
    rows = ranked(parquet.read_table(table))
    record = json.dumps(metadata_of(rows, table), sort_keys=True)
    with atomic_path(out) as temporary:
        if out.suffix == ".csv":
            csv.write_csv(rows, temporary)
        elif out.suffix == ".fits":
            astropy_table(rows, {"DHS": record}, is_ascii=True).write(temporary, format="fits")
        else:
            _write_votable(rows, record, temporary)


def ranked(rows: pyarrow.Table) -> pyarrow.Table:
    """Sort rows by logit, as scores near 1 look equal, and add the column ``rank`` before them."""
    order = np.argsort(-rows["logit"].to_numpy(), kind="stable")
    ranks = pyarrow.array(np.arange(1, len(order) + 1))
    return rows.take(pyarrow.array(order)).add_column(0, "rank", ranks)


def astropy_table(rows: pyarrow.Table, meta: dict[str, str], *, is_ascii: bool) -> Any:
    """Convert a table; a null becomes a masked value, or NaN in a column of floats.

    Parameters
    ----------
    rows : pyarrow.Table
    meta : dict
        Becomes ``meta`` of the result.
    is_ascii : bool
        Escape letters that are not ASCII, which FITS does not allow.

    Returns
    -------
    astropy.table.Table
    """
    try:
        from astropy.table import MaskedColumn, Table
    except ImportError as error:
        raise ImportError(f"FITS and VOTable need astropy: {INSTALL_EXTRA}") from error

    found = Table(meta=meta)
    for name in rows.column_names:
        column = rows[name]
        if pyarrow.types.is_string(column.type):
            texts = column.to_pylist()
            found[name] = np.array([ascii_only(text) if is_ascii else text for text in texts], str)
        elif pyarrow.types.is_integer(column.type):
            # Neither format has signed bytes.
            kind = np.int16 if column.type == pyarrow.int8() else np.int64
            values = column.fill_null(0).to_numpy().astype(kind)
            found[name] = MaskedColumn(values, mask=column.is_null().to_numpy())
            found[name].fill_value = np.iinfo(kind).min
        else:
            found[name] = column.to_numpy()
        if name in ("ra", "dec"):
            found[name].unit = "deg"
    return found


def _write_votable(rows: pyarrow.Table, record: str, out: Path) -> None:
    from astropy.io.votable import from_table
    from astropy.io.votable.tree import Info

    file = from_table(astropy_table(rows, {}, is_ascii=False))
    file.infos.append(Info(name="dhs", value=record))
    file.to_xml(str(out))
