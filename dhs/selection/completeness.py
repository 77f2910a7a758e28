"""Compute completeness by cell, threshold and magnitude in one pass over the injections."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyarrow import parquet

from dhs.selection.config import GridConfig
from dhs.statistics.intervals import jeffreys_intervals
from dhs.statistics.thresholds import Threshold

COLUMNS = ("cell", "source_r_mag", "lensed_r_mag", "logit", "score", "arc_snr_r", "failure")
FEWEST_PER_BIN = 10
"""Fewest injections of a sufficient magnitude bin; a cell needs ``injections_per_cell``."""


def selection_function(
    injections: Path, config: GridConfig, thresholds: list[Threshold]
) -> pd.DataFrame:
    """Compute completeness with Jeffreys intervals, streaming over the injections.

    Parameters
    ----------
    injections : Path
        ``injections.parquet``.
    config : GridConfig
    thresholds : list of Threshold

    Returns
    -------
    pandas.DataFrame
        One row per cell, threshold and magnitude bin, in this order; the columns are the same as
        in the existing scripts. ``n_failed`` counts failed injections, which are not included in
        ``n_injections``.
    """
    counts = _Counts(config, thresholds)
    for batch in parquet.ParquetFile(injections).iter_batches(columns=list(COLUMNS)):
        counts.add(batch.to_pandas())
    return counts.table()


def bin_names(config: GridConfig) -> list[str]:
    """Return ``all``, then the bins of source magnitude, then those of lensed magnitude."""
    of_source = [f"{low:g}-{high:g}" for low, high in pairwise(config.source_mag_bins)]
    lensed = [f"lensed_{low:g}-{high:g}" for low, high in pairwise(config.lensed_mag_bins)]
    return ["all", *of_source, *lensed]


class _Counts:
    """Sums over injections by cell and bin; memory use does not grow with the injections."""

    def __init__(self, config: GridConfig, thresholds: list[Threshold]) -> None:
        self._config, self._thresholds = config, thresholds
        self._bins = bin_names(config)
        shape = (len(config.cells()), len(self._bins))
        self._injected, self._failed = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        self._score, self._snr = np.zeros(shape), np.zeros(shape)
        self._with_snr = np.zeros(shape, np.int64)
        self._detected = np.zeros((len(thresholds), *shape), np.int64)

    def add(self, rows: pd.DataFrame) -> None:
        is_injected = (rows["failure"] == "").to_numpy()
        cell, snr = rows["cell"].to_numpy(), rows["arc_snr_r"].to_numpy()
        for k, is_in in enumerate(self._members(rows)):
            self._sum(self._failed, k, cell[is_in & ~is_injected])
            chosen = is_in & is_injected
            self._sum(self._injected, k, cell[chosen])
            self._sum(self._score, k, cell[chosen], rows["score"].to_numpy()[chosen])
            measured = chosen & np.isfinite(snr)
            self._sum(self._snr, k, cell[measured], snr[measured])
            self._sum(self._with_snr, k, cell[measured])
            for threshold, detected in zip(self._thresholds, self._detected, strict=True):
                is_above = rows["logit"].to_numpy() > threshold.logit
                self._sum(detected, k, cell[chosen & is_above])

    def _members(self, rows: pd.DataFrame) -> list[NDArray[np.bool_]]:
        """Return for every bin which rows are in it."""
        members = [np.ones(len(rows), bool)]
        for name, edges in (
            ("source_r_mag", self._config.source_mag_bins),
            ("lensed_r_mag", self._config.lensed_mag_bins),
        ):
            magnitude = rows[name].to_numpy()
            for low, high in pairwise(edges):
                # The last bin includes its upper edge, since sources are drawn up to it.
                is_below = magnitude <= high if high == edges[-1] else magnitude < high
                members.append((magnitude >= low) & is_below)
        return members

    def _sum(
        self,
        sums: NDArray[Any],
        place: int,
        cells: NDArray[np.int32],
        values: NDArray[np.float64] | None = None,
    ) -> None:
        found = np.bincount(cells, values, minlength=len(sums))
        sums[:, place] += found.astype(sums.dtype)

    def table(self) -> pd.DataFrame:
        places = np.array(self._config.cells())
        parts = []
        for k, bin_name in enumerate(self._bins):
            injected = self._injected[:, k]
            wanted = self._config.injections_per_cell if bin_name == "all" else FEWEST_PER_BIN
            for number, threshold in enumerate(self._thresholds):
                detected = self._detected[number, :, k]
                columns: dict[str, Any] = {
                    "theta_e": places[:, 0],
                    "psf_fwhm": places[:, 1],
                    "depth_5sig": places[:, 2],
                    "threshold": threshold.threshold,
                    "threshold_type": threshold.threshold_type,
                    "fpr_target": np.nan if threshold.fpr_target is None else threshold.fpr_target,
                    "source_mag_bin": bin_name,
                    "n_injections": injected,
                    "n_detected": detected,
                    "n_failed": self._failed[:, k],
                    "completeness": _share(detected, injected),
                }
                for name, level in (("ci68", 0.68), ("ci95", 0.95)):
                    columns[f"{name}_lo"], columns[f"{name}_hi"] = jeffreys_intervals(
                        detected, injected, level
                    )
                columns["mean_score"] = _share(self._score[:, k], injected)
                columns["mean_arc_snr"] = _share(self._snr[:, k], self._with_snr[:, k])
                columns["sufficient"] = injected >= wanted
                order = {"cell": np.arange(len(places)), "number": number, "bin": k}
                parts.append(pd.DataFrame(columns | order))
        whole = pd.concat(parts).sort_values(["cell", "number", "bin"], ignore_index=True)
        return whole.drop(columns=["cell", "number", "bin"])


def _share(part: NDArray[Any], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):
        share: NDArray[np.float64] = part / whole
    return share
