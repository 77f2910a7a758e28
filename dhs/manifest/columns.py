"""Checked columns of a manifest for a training: ids, labels, weights and splits."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dhs.manifest.splits import SPLITS, assign_splits, find_leaks
from fastnorm.io.read import stem_of

ID = "galaxy_id"
CUTOUT_PATH, MASK_PATH = "cutout_path", "mask_path"
_MADE = "made_columns"
"""Attribute of a table: its columns that are not in the file."""


class Manifest:
    """A table with one row per cutout.

    Parameters
    ----------
    table : pandas.DataFrame
        The rows.
    name : str
        Name of the file, for error messages.
    """

    def __init__(self, table: pd.DataFrame, name: str) -> None:
        self.table, self.name = table, name

    def column(self, name: str, key: str) -> pd.Series:
        """Return a column without missing values.

        Parameters
        ----------
        name : str
            Name of the column.
        key : str
            Configuration key that sets the name, for error messages.

        Raises
        ------
        ValueError
            The column does not exist (the message suggests the closest name), or a value is
            missing.
        """
        if name not in self.table:
            made = self.table.attrs.get(_MADE, ())
            columns = [str(column) for column in self.table.columns if column not in made]
            nearest = difflib.get_close_matches(name, columns, 1)
            hint = f"did you mean {nearest[0]}?" if nearest else f"it has {', '.join(columns)}."
            raise ValueError(f"{self.name} has no column {name!r} ({key}); {hint}")
        values = self.table[name]
        empty = np.flatnonzero(values.isna())
        if empty.size:
            raise ValueError(
                f"{self.name}: {name} is missing in {empty.size} rows, first in row {empty[0]}."
            )
        return values

    def files(self, name: str, key: str) -> list[str]:
        """Return a column of file names; see `column`.

        Raises
        ------
        ValueError
            The column or a name is missing, or a name is empty.
        """
        names = [str(value) for value in self.column(name, key)]
        if "" in names:
            raise ValueError(
                f"{self.name}: {name} is empty in {names.count('')} rows, first in row "
                f"{names.index('')}."
            )
        return names

    def ids(self) -> NDArray[np.str_]:
        """Return the id of every cutout.

        Raises
        ------
        ValueError
            An id is missing or occurs twice.
        """
        ids = self.column(ID, "the id")
        twice = ids[ids.duplicated()]
        if len(twice):
            raise ValueError(
                f"{self.name}: {len(twice)} rows have the id of another row, the first "
                f"{twice.iloc[0]!r}; every {ID} must be unique."
            )
        return np.asarray(ids, str)

    def labels(self, name: str) -> NDArray[np.float32]:
        """Return the labels as float32.

        Raises
        ------
        ValueError
            A label is neither 0 nor 1.
        """
        given = self.column(name, "label_col")
        labels = pd.to_numeric(given, errors="coerce").to_numpy(np.float64)
        wrong = np.flatnonzero(~np.isin(labels, (0, 1)))
        if wrong.size:
            raise ValueError(
                f"{self.name}: {wrong.size} values of {name} are neither 0 nor 1, the first "
                f"{given.iloc[wrong[0]]} in row {wrong[0]}."
            )
        return np.asarray(labels, np.float32)

    def weights(self, name: str) -> NDArray[np.float32]:
        """Return the sample weights as float32.

        Raises
        ------
        ValueError
            A weight is negative, not finite, or not a number.
        """
        given = self.column(name, "sample_weight_col")
        weights = pd.to_numeric(given, errors="coerce").to_numpy(np.float32)
        wrong = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
        if wrong.size:
            raise ValueError(
                f"{self.name}: {wrong.size} values of {name} are not finite and at least 0, the "
                f"first {given.iloc[wrong[0]]} in row {wrong[0]}."
            )
        return np.asarray(weights)

    def splits(self, split_col: str, train_fraction: float, seed: int) -> NDArray[np.str_]:
        """Return the split of every cutout, from a column or from the position on the sky.

        Parameters
        ----------
        split_col : str
            Name of the column with the splits. Without this column, the splits are those of
            `dhs.manifest.splits.assign_splits`.
        train_fraction : float
            Fraction of the sky for training, in (0, 1), if the column does not exist.
        seed : int
            Random seed, if the column does not exist.

        Returns
        -------
        (N,) array of str
            ``"train"``, ``"val"`` or ``"test"``.

        Raises
        ------
        ValueError
            A split is not known, or an id or a HEALPix pixel is in two splits.
        """
        ids = self.ids()
        ra, dec = (
            self.table[name].to_numpy(float) if name in self.table else None
            for name in ("ra", "dec")
        )
        if split_col not in self.table:
            return assign_splits(ids, ra, dec, train_fraction=train_fraction, seed=seed)
        given = self.column(split_col, "split.split_col")
        wrong = np.flatnonzero(~given.isin(SPLITS))
        if wrong.size:
            raise ValueError(
                f"{self.name}: {wrong.size} values of {split_col} are not one of "
                f"{', '.join(SPLITS)}, the first {given.iloc[wrong[0]]} in row {wrong[0]}."
            )
        splits = np.asarray(given, str)
        leaks = find_leaks(ids, ra, dec, splits)
        if leaks:
            raise ValueError(
                f"{self.name}: {len(leaks)} leaks between splits, the first: {leaks[0]}. Create "
                "new splits with dhs pack."
            )
        return splits


def with_ids(table: pd.DataFrame, name: str, column: str = CUTOUT_PATH) -> pd.DataFrame:
    """Return a manifest with ids, taken from ``galaxy_id`` or else from the file names.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of the manifest.
    name : str
        Name of the manifest, for error messages.
    column : str
        Column of the files. Without this column, the table is returned unchanged.

    Returns
    -------
    pandas.DataFrame

    Raises
    ------
    ValueError
        A file name is missing.
    """
    if ID in table or column not in table:
        return table
    paths = Manifest(table, name).column(column, column)
    return with_made(table, ID, [id_of(str(path)) for path in paths])


def with_made(table: pd.DataFrame, name: str, values: Sequence[str]) -> pd.DataFrame:
    """Return a table with a column that no message names, unless the file has one of this name.

    Parameters
    ----------
    table : pandas.DataFrame
    name : str
        Name of the column.
    values : sequence of str
        One value for each row.
    """
    made = table.assign(**{name: values})
    if name not in table:
        made.attrs[_MADE] = (*table.attrs.get(_MADE, ()), name)
    return made


def id_of(path: str) -> str:
    """Return the id of a cutout without one: the name of its file without the suffix."""
    return stem_of(Path(path))


def rows_fingerprint(*columns: Iterable[object]) -> str:
    """Return the SHA-256 of rows of cutouts, as a training records it.

    Parameters
    ----------
    *columns : iterable
        Ids, labels and SHA-256 of the pixels of all rows, then those of masks and the weights, if
        there are any.
    """
    digest = hashlib.sha256()
    for row in zip(*columns, strict=True):
        digest.update("\t".join(map(str, row)).encode() + b"\n")
    return digest.hexdigest()


def splits_fingerprint(ids: NDArray[np.str_], splits: NDArray[np.str_]) -> str:
    """Return the SHA-256 of the splits of all ids, in any order."""
    text = json.dumps(sorted(zip(ids.tolist(), splits.tolist(), strict=True)))
    return hashlib.sha256(text.encode()).hexdigest()
