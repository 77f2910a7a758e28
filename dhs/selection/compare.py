"""Compare two grids with the same injections: which model finds which arcs, cell by cell."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
from numpy.typing import NDArray
from pyarrow import parquet

from dhs.jobs.claim import output_folder
from dhs.manifest.format import METADATA_KEY
from dhs.selection.comparison import Comparison
from dhs.selection.grid_result import GridResult
from dhs.selection.matching import (
    CommonThreshold,
    common_thresholds,
    require_same_injections,
    side_by_side,
)
from dhs.selection.paired import comparison_table
from fastnorm.atomic import atomic_path

COMPARISON_STEM = "comparison"


def compare_grids(
    first: Path, second: Path, progress: Callable[[int, int], None] | None = None
) -> Comparison:
    """Compare the completeness of two models on the same injections.

    Parameters
    ----------
    first, second : Path
        Folders of finished grids. Their injections are read side by side in batches.
    progress : function, optional
        Called with the number of injections done and the total.

    Returns
    -------
    Comparison

    Raises
    ------
    ValueError
        A folder does not hold a complete grid; the data are of different origin; the injections
        differ (the message names the settings that differ); no injection has a score in both
        grids; or the grids have no common threshold.
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
        Output folder; it is created if needed.

    Returns
    -------
    list of Path

    Raises
    ------
    OSError
        A file cannot be written, or another process is writing to the folder.
    ImportError
        matplotlib is missing.
    """
    from dhs.figures import save
    from dhs.selection.figure_compare import comparison_figure

    paths = {
        suffix: out / f"{COMPARISON_STEM}.{suffix}" for suffix in ("parquet", "csv", "png", "json")
    }
    metadata = json.dumps(comparison.metadata(), indent=1, allow_nan=False)
    table = pyarrow.Table.from_pandas(comparison.table, preserve_index=False)
    table = table.replace_schema_metadata({METADATA_KEY: metadata})
    with output_folder(out, "a comparison", *(path.name for path in paths.values())):
        with atomic_path(paths["parquet"]) as temporary:
            parquet.write_table(table, temporary)
        with atomic_path(paths["csv"]) as temporary:
            comparison.table.to_csv(temporary, index=False)
        save(comparison_figure(comparison), paths["png"])
        with atomic_path(paths["json"]) as temporary:
            temporary.write_text(metadata, "utf-8")
    return list(paths.values())


def _count(places: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.int64]:
    return np.bincount(places, minlength=math.prod(shape)).reshape(shape)


def _with_thresholds(table: pd.DataFrame, thresholds: list[CommonThreshold]) -> pd.DataFrame:
    """Replace the column of threshold numbers by columns of the thresholds."""
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
