"""The table beside a stack of ``fastnorm normalize``: names, positions, and the annulus."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnorm.io.cutout import INSTALL_EXTRA, Cutout, CutoutError, degrees
from fastnorm.io.numpy_files import count_npy
from fastnorm.json_text import parse_json

METADATA_KEY = b"fastnorm"


@dataclass(frozen=True, eq=False)
class StackTable:
    """Objects of a stack that `fastnorm.io.write.open_table` listed.

    Attributes
    ----------
    annulus : (float, float)
        Radii that the stack was normalised with.
    columns : dict of str to pyarrow.ChunkedArray
        Columns ``id``, ``ra`` and ``dec`` of the table.
    places : (N,) int64 array
        Row of the table, for every row of the stack.
    """

    annulus: tuple[float, float]
    columns: dict[str, Any]
    places: NDArray[np.int64]

    def named(self, cutout: Cutout) -> Cutout:
        """Return a row of the stack with its id and position."""
        if cutout.row is None:
            return cutout
        identity, ra, dec = (
            self.columns[name][int(self.places[cutout.row])].as_py() for name in ("id", "ra", "dec")
        )
        return replace(cutout, id=str(identity), ra=degrees(ra), dec=degrees(dec))


def read_stack_table(stack: Path) -> StackTable | None:
    """Read the table beside a stack.

    Parameters
    ----------
    stack : Path
        A ``.npy`` file; its table has the same name and the suffix ``.parquet``.

    Returns
    -------
    StackTable or None
        None if no table of ``fastnorm normalize`` is there.

    Raises
    ------
    CutoutError
        The table cannot be read, or is of another number of cutouts.
    ImportError
        pyarrow is not installed.
    """
    path = stack.with_suffix(".parquet")
    if not path.is_file():
        return None
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise ImportError(f"{path} needs pyarrow to be read: {INSTALL_EXTRA}") from error
    try:
        with parquet.ParquetFile(path) as file:
            stored = (file.schema_arrow.metadata or {}).get(METADATA_KEY)
            if stored is None:
                return None
            metadata: dict[str, Any] = parse_json(stored)
            radii = (float(metadata["annulus_r_in"]), float(metadata["annulus_r_out"]))
            table = file.read(["row", "id", "ra", "dec"])
        rows, places = np.unique(table["row"].to_numpy(), return_index=True)
        if not np.array_equal(rows, np.arange(len(rows))):
            raise ValueError("its rows are not 0, 1, ...")
    except (ArrowException, OSError, ValueError, TypeError, LookupError) as error:
        raise CutoutError(stack, f"its table {path.name} cannot be read: {error}") from error
    count = count_npy(stack)
    if len(rows) != count:
        reason = f"its table {path.name} is of {len(rows)} cutouts, but it has {count}"
        raise CutoutError(stack, reason)
    return StackTable(radii, {name: table[name] for name in ("id", "ra", "dec")}, places)
