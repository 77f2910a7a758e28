"""Compare two grids with the same injections: which model finds which arcs, cell by cell."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
from numpy.typing import NDArray
from pyarrow import parquet

from dhs.arguments import integer
from dhs.jobs.claim import output_folder
from dhs.manifest.format import METADATA_KEY
from dhs.selection.comparison import Comparison
from dhs.selection.grid_result import GridResult
from dhs.selection.intervals import HOSTS, HOSTS_AND_NEGATIVES
from dhs.selection.matching import (
    CommonThreshold,
    common_thresholds,
    require_same_injections,
    same_non_lenses,
    side_by_side,
)
from dhs.selection.paired import Injections, Thresholds, comparison_table
from dhs.statistics.resampling import resampled_thresholds
from fastnorm.atomic import atomic_path
from fastnorm.pictures import remove_other_formats

COMPARISON_STEM = "comparison"


def compare_grids(
    first: Path,
    second: Path,
    progress: Callable[[int, int], None] | None = None,
    *,
    resamples: int = 1000,
    seed: int = 1,
) -> Comparison:
    """Compare the completeness of two models on the same injections.

    Injections are resampled by host, and thresholds that false-positive rates set are set again in
    every resample; see `dhs.statistics.differences`. Memory grows by about 50 bytes per injection,
    and by 8 bytes per host and resample.

    Parameters
    ----------
    first, second : Path
        Folders of finished grids. Their injections are read side by side in batches.
    progress : function, optional
        Called with the number of injections read and the total.
    resamples : int
        Number of resamples, 100 to 1,000,000.
    seed : int
        Random seed of the resamples.

    Returns
    -------
    Comparison

    Raises
    ------
    ValueError
        A folder does not hold a complete grid; the data are of different origin; the injections
        or the non-lenses differ (the message names the settings that differ); no injection has a
        score in both grids; or the grids have no common threshold.
    """
    integer("resamples", resamples, 100, 1_000_000)
    integer("seed", seed, 0, 2**63 - 1)
    one, other = GridResult(first), GridResult(second)
    require_same_injections(one, other)
    common = common_thresholds(one, other)
    thresholds = _resampled(one, other, common, resamples, seed)
    injections, left_out, failed = _read(one, other, progress)
    table = comparison_table(one.centres, one.bins, injections, thresholds, left_out, seed)
    return Comparison(
        one,
        other,
        common,
        _with_thresholds(table, common),
        len(injections.place) + int(left_out.sum()),
        *failed,
        int(left_out.sum()),
        resamples,
        seed,
    )


def write_comparison(comparison: Comparison, out: Path, picture_format: str = "png") -> list[Path]:
    """Write ``comparison.parquet``, ``.csv``, ``.png`` and, last, ``.json``.

    Parameters
    ----------
    comparison : Comparison
    out : Path
        Output folder; it is created if needed.
    picture_format : str
        ``png``, ``pdf`` or ``svg``; a picture of an earlier comparison in another one is removed.

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

    suffixes = ("parquet", "csv", picture_format, "json")
    paths = {suffix: out / f"{COMPARISON_STEM}.{suffix}" for suffix in suffixes}
    metadata = json.dumps(comparison.metadata(), indent=1, allow_nan=False)
    table = pyarrow.Table.from_pandas(comparison.table, preserve_index=False)
    table = table.replace_schema_metadata({METADATA_KEY: metadata})
    with output_folder(out, "a comparison", *(path.name for path in paths.values())):
        with atomic_path(paths["parquet"]) as temporary:
            parquet.write_table(table, temporary)
        with atomic_path(paths["csv"]) as temporary:
            comparison.table.to_csv(temporary, index=False)
        save(comparison_figure(comparison), paths[picture_format])
        remove_other_formats(paths[picture_format])
        with atomic_path(paths["json"]) as temporary:
            temporary.write_text(metadata, "utf-8")
    return list(paths.values())


def _read(
    one: GridResult, other: GridResult, progress: Callable[[int, int], None] | None
) -> tuple[Injections, NDArray[np.int64], tuple[int, int]]:
    """Return injections with two scores, the number of others by place, and those that failed."""
    places = one.cells * len(one.bins)
    left_out, failed = np.zeros(places, np.int64), np.zeros(2, np.int64)
    parts = []
    done = 0
    if progress is not None:
        progress(0, one.rows)
    for here, there in side_by_side(one, other):
        place = here["cell"].astype(np.int64) * len(one.bins) + one.bin_of(here["source_r_mag"])
        logits = np.stack([here["logit"], there["logit"]])
        is_missing = np.isnan(logits)
        failed += is_missing.sum(1)
        has_both = ~is_missing.any(0)
        left_out += np.bincount(place[~has_both], minlength=places)
        parts.append((place[has_both], here["host_row"][has_both], logits[:, has_both]))
        done += len(place)
        if progress is not None:
            progress(done, one.rows)
    if not sum(len(place) for place, _, _ in parts):
        raise ValueError(f"{one.folder} and {other.folder}: no injection has a score in both.")
    place, host, logits = (np.concatenate(arrays, axis=-1) for arrays in zip(*parts, strict=True))
    # Hosts without an injection need no weight.
    host = np.unique(host, return_inverse=True)[1]
    return Injections(place, host, logits), left_out, (int(failed[0]), int(failed[1]))


def _resampled(
    one: GridResult,
    other: GridResult,
    common: Sequence[CommonThreshold],
    resamples: int,
    seed: int,
) -> Thresholds:
    """Return the thresholds, and those that resampled non-lenses set."""
    at = np.array([[t.first.logit for t in common], [t.second.logit for t in common]])
    drawn = np.broadcast_to(at, (resamples, *at.shape)).copy()
    rates = {k: t.first.fpr_target for k, t in enumerate(common) if t.first.fpr_target is not None}
    if rates:
        negatives = same_non_lenses(one, other)
        drawn[:, :, list(rates)] = resampled_thresholds(
            negatives, list(rates.values()), resamples, seed
        )
    intervals = [HOSTS_AND_NEGATIVES if k in rates else HOSTS for k in range(len(common))]
    return Thresholds(at, drawn, intervals)


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
