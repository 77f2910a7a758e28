"""Two grids of the same injections: which model finds which arcs, cell by cell."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
from numpy.typing import NDArray
from pyarrow import parquet

from dhs.config_errors import differences
from dhs.folder_lock import only_writer, remove_leftovers
from dhs.packs.format import METADATA_KEY
from dhs.selection.grid_result import ALL_MAGNITUDES, MAGNITUDE, GridResult
from dhs.selection.matching import (
    CommonThreshold,
    common_thresholds,
    require_same_injections,
    side_by_side,
)
from dhs.selection.paired import METHODS, OVERALL, POOLED, comparison_table
from fastnorm.output import atomic_path

NAME = "comparison"


@dataclass(frozen=True, eq=False)
class Comparison:
    """What `compare` found.

    Attributes
    ----------
    first, second : GridResult
    thresholds : list of CommonThreshold
    table : DataFrame
        As of `dhs.selection.paired.comparison_table`, with the thresholds instead of ``number``.
    injections : int
        Of each grid.
    failed_first, failed_second, left_out : int
        Injections without a score, and those left out since one of the grids has none.
    """

    first: GridResult
    second: GridResult
    thresholds: list[CommonThreshold]
    table: pd.DataFrame
    injections: int
    failed_first: int
    failed_second: int
    left_out: int

    def differences(self) -> list[str]:
        """What the preprocessings differ in, if they do."""
        return differences(self.first.spec.to_dict(), self.second.spec.to_dict())

    def rows(self, level: str, threshold: CommonThreshold) -> pd.DataFrame:
        """Rows of the table of one level and one threshold."""
        table = self.table
        is_wanted = (table["threshold_type"] == threshold.first.threshold_type) & (
            table["threshold_first"] == threshold.first.threshold
        )
        return table[is_wanted & (table["level"] == level)]

    def about(self) -> dict[str, Any]:
        """What was compared, and the result over all cells, for JSON."""
        kept = ("checkpoint", "spec", "spec_fingerprint", "annulus", "injections_fingerprint")
        grids = {
            name: {"folder": str(grid.folder)} | {key: grid.about[key] for key in kept}
            for name, grid in (("first", self.first), ("second", self.second))
        }
        return grids | {
            "preprocessing_differs": self.differences(),
            "draws_fingerprint": self.first.about["draws_fingerprint"],
            "data_origin": self.first.about["data_origin"],
            "injections": self.injections,
            "failed_first": self.failed_first,
            "failed_second": self.failed_second,
            "left_out": self.left_out,
            "thresholds": [self.overall(threshold) for threshold in self.thresholds],
            "methods": METHODS,
        }

    def overall(self, threshold: CommonThreshold) -> dict[str, Any]:
        """The result over all cells, and how many cells of theta_E and magnitude differ."""
        rows = self.rows(OVERALL, threshold)
        values = rows[rows[MAGNITUDE] == ALL_MAGNITUDES].iloc[0]
        names = [name for name in rows if name.startswith(("n_", "compl", "diff", "p_mcnemar"))]
        pooled = self.rows(POOLED, threshold)
        pooled = pooled[(pooled[MAGNITUDE] != ALL_MAGNITUDES) & (pooled["n_injections"] > 0)]
        return {
            "threshold": str(threshold),
            "first": threshold.first.to_dict(),
            "second": threshold.second.to_dict(),
            **{name: values[name].item() for name in names},
            "cells": len(pooled),
            "significant_cells": int(pooled["significant"].sum()),
        }


def compare(
    first: Path, second: Path, progress: Callable[[int, int], None] | None = None
) -> Comparison:
    """Compare the completeness of two models on the same injections.

    Parameters
    ----------
    first, second : Path
        Folders of finished grids. Their injections are read side by side, in pieces.
    progress : function, optional
        Called with how many injections are done and how many there are.

    Returns
    -------
    Comparison

    Raises
    ------
    ValueError
        A folder holds no whole grid; the data are of different origin; the injections are not
        the same (what the configurations differ in is named), or none of them has two scores; or
        no threshold is common.
    """
    one, other = GridResult(first), GridResult(second)
    require_same_injections(one, other)
    thresholds = common_thresholds(one, other)
    shape = (one.cells, len(one.bins))
    counts = np.zeros((len(thresholds), *shape, 4), np.int64)
    left_out, failed = np.zeros(shape, np.int64), np.zeros(2, np.int64)
    done = 0
    if progress is not None:
        progress(0, one.rows)
    for here, there in side_by_side(one, other):
        place = here["cell"].astype(np.int64) * len(one.bins) + one.bin_of(here["source_r_mag"])
        logits = np.stack([here["logit"], there["logit"]])
        is_missing = np.isnan(logits)
        failed += is_missing.sum(1)
        has_both = ~is_missing.any(0)
        left_out += _count(place[~has_both], shape)
        for threshold, sums in zip(thresholds, counts, strict=True):
            is_missed = [row <= t.logit for row, t in zip(logits, threshold, strict=True)]
            # In the order of `Paired`.
            outcome = 2 * is_missed[0].astype(np.int64) + is_missed[1]
            sums += _count((4 * place + outcome)[has_both], (*shape, 4))
        done += len(place)
        if progress is not None:
            progress(done, one.rows)
    if not counts.any():
        raise ValueError(f"{first} and {second}: no injection has a score in both.")
    table = comparison_table(one.centres, one.bins, counts, left_out)
    table = _with_thresholds(table, thresholds)
    failures = (int(failed[0]), int(failed[1]))
    return Comparison(one, other, thresholds, table, done, *failures, int(left_out.sum()))


def write_comparison(comparison: Comparison, out: Path) -> list[Path]:
    """Write ``comparison.parquet``, ``.csv``, ``.png`` and, last, ``.json``.

    Parameters
    ----------
    comparison : Comparison
    out : Path
        Folder; it is made if need be.

    Returns
    -------
    list of Path

    Raises
    ------
    OSError
        A file cannot be written, or another process writes the folder.
    ImportError
        matplotlib is missing.
    """
    from dhs.selection.figure_compare import comparison_figure
    from dhs.selection.figure_style import save

    out.mkdir(parents=True, exist_ok=True)
    paths = {suffix: out / f"{NAME}.{suffix}" for suffix in ("parquet", "csv", "png", "json")}
    about = json.dumps(comparison.about(), indent=1, allow_nan=False)
    table = pyarrow.Table.from_pandas(comparison.table, preserve_index=False)
    table = table.replace_schema_metadata({METADATA_KEY: about})
    with only_writer(out, "a comparison") as sign:
        sign()
        remove_leftovers(out, *(path.name for path in paths.values()))
        with atomic_path(paths["parquet"]) as temporary:
            parquet.write_table(table, temporary)
        with atomic_path(paths["csv"]) as temporary:
            comparison.table.to_csv(temporary, index=False)
        save(comparison_figure(comparison), paths["png"])
        with atomic_path(paths["json"]) as temporary:
            temporary.write_text(about, "utf-8")
    return list(paths.values())


def _count(places: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.int64]:
    return np.bincount(places, minlength=math.prod(shape)).reshape(shape)


def _with_thresholds(table: pd.DataFrame, thresholds: list[CommonThreshold]) -> pd.DataFrame:
    """Put the thresholds where their numbers are."""
    of_first = pd.DataFrame([common.first.to_dict() for common in thresholds])
    columns = {
        "threshold_type": of_first["threshold_type"],
        "fpr_target": of_first["fpr_target"].astype(float),
        "threshold_first": of_first["threshold"],
        "threshold_second": pd.Series([common.second.threshold for common in thresholds]),
    }
    place = table.columns.get_loc("number")
    numbers = table.pop("number")
    for offset, (name, values) in enumerate(columns.items()):
        table.insert(place + offset, name, values.take(numbers).to_numpy())
    return table
