"""Address, position and label of a cutout, which its table of scores repeats."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow
from numpy.typing import NDArray

from fastnorm.text import printable

KINDS = {
    "number": pyarrow.int64(),
    "ra": pyarrow.float64(),
    "dec": pyarrow.float64(),
    "label": pyarrow.int8(),
}
_ALLOWED = {
    "ra": (-180.0, 360.0, "degrees from -180 to 360"),
    "dec": (-90.0, 90.0, "degrees from -90 to 90"),
    "label": (0.0, 1.0, "0 or 1"),
}


class Known(NamedTuple):
    """A row of the columns `KINDS`; NaN is not known.

    ``number`` is the row in the pack's manifest or in the stack, from 0; ``ra`` and ``dec`` are
    in degrees; ``label`` is 1 for a lens, 0 for a non-lens.
    """

    number: float = math.nan
    ra: float = math.nan
    dec: float = math.nan
    label: float = math.nan

    def at(self, ra: float | None, dec: float | None) -> Known:
        """Take the position of a file, unless this one is known."""
        if ra is None or dec is None or not math.isnan(self.ra + self.dec):
            return self
        return self._replace(ra=ra, dec=dec)


def known_of(table: pd.DataFrame, name: str, notes: list[str]) -> NDArray[np.float64]:
    """Read the columns of a manifest; values that are not allowed are not known.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of the manifest.
    name : str
        Name of the manifest.
    notes : list of str
        Receives one line for each column with values that are not allowed.

    Returns
    -------
    (N, 4) float64 array
        Columns of `KINDS`; ``number`` is NaN.
    """
    found = np.full((len(table), len(KINDS)), np.nan)
    for k, column in enumerate(KINDS):
        if column not in _ALLOWED or column not in table:
            continue
        given = table[column]
        try:
            numbers = pd.to_numeric(given, errors="coerce").to_numpy(float, na_value=np.nan)
        except TypeError:
            numbers = np.full(len(table), np.nan)
        low, high, allowed = _ALLOWED[column]
        is_good = (numbers >= low) & (numbers <= high)
        if column == "label":
            is_good &= numbers % 1 == 0
        found[is_good, k] = numbers[is_good]
        is_empty = given.isna().to_numpy() | (given.astype(str).str.strip() == "").to_numpy()
        wrong = np.flatnonzero(~is_good & ~is_empty)
        if wrong.size:
            value = printable(str(given.iloc[wrong[0]]))
            many = "value" if wrong.size == 1 else "values"
            verb = "is" if wrong.size == 1 else "are"
            notes.append(
                f"{name}: {wrong.size} {many} of {column} {verb} not {allowed}, the first "
                f"{value!r} in row {wrong[0]}; they count as not known."
            )
    return found


def to_arrow(known: NDArray[np.float64]) -> dict[str, pyarrow.Array]:
    """Convert (N, 4) values to columns in which null is not known."""
    return {
        name: pyarrow.array(values, pyarrow.float64(), from_pandas=True).cast(kind)
        for (name, kind), values in zip(KINDS.items(), known.T, strict=True)
    }


def from_arrow(column: pyarrow.ChunkedArray) -> NDArray[np.float64]:
    """Convert a column of numbers; NaN is not known."""
    values: NDArray[np.float64] = column.cast(pyarrow.float64()).to_numpy()
    return values
