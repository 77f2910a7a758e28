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
from dhs.selection.host_sums import Completeness, HostSums, Negatives
from dhs.selection.intervals import CONFIDENCES
from dhs.statistics.thresholds import Threshold

COLUMNS = (
    *("cell", "host_row", "source_r_mag", "lensed_r_mag"),
    *("logit", "score", "arc_snr_r", "failure"),
)
FEWEST_PER_BIN = 10
"""Fewest injections of a sufficient magnitude bin; a cell needs ``injections_per_cell``."""


def selection_function(
    injections: Path,
    config: GridConfig,
    thresholds: list[Threshold],
    negatives: Negatives | None = None,
) -> pd.DataFrame:
    """Compute completeness with intervals by host, streaming over the injections.

    Parameters
    ----------
    injections : Path
        ``injections.parquet``.
    config : GridConfig
    thresholds : list of Threshold
    negatives : Negatives, optional
        Non-lenses that set the thresholds; their scatter is part of the intervals at thresholds
        of a false-positive rate. Without them, every threshold counts as given.

    Returns
    -------
    pandas.DataFrame
        One row per cell, threshold and magnitude bin, in this order; the columns include those of
        the existing scripts. ``n_failed`` counts failed injections, which are not included in
        ``n_injections``. ``n_hosts``, ``few_hosts``: number of hosts, and whether it is below 30;
        intervals are NaN below 10. ``n_eff``: number of independent injections with the same
        scatter at this threshold. ``interval``: what the intervals include, see
        `dhs.selection.intervals.METHODS`. ``completeness_net``: completeness among injections
        whose host alone is not above the threshold, and its ``_ci95_lo`` and ``_ci95_hi``.
    """
    counts = _Counts(config, thresholds, negatives)
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

    def __init__(
        self, config: GridConfig, thresholds: list[Threshold], negatives: Negatives | None
    ) -> None:
        self._config, self._thresholds = config, thresholds
        self._bins = bin_names(config)
        shape = (len(config.cells()), len(self._bins))
        self._hosts = HostSums(thresholds, negatives, shape[0] * shape[1], CONFIDENCES)
        self._failed = np.zeros(shape, np.int64)
        self._score, self._snr = np.zeros(shape), np.zeros(shape)
        self._with_snr = np.zeros(shape, np.int64)

    def add(self, rows: pd.DataFrame) -> None:
        is_injected = (rows["failure"] == "").to_numpy()
        cell, snr = rows["cell"].to_numpy(np.int64), rows["arc_snr_r"].to_numpy()
        host, logit = rows["host_row"].to_numpy(np.int64), rows["logit"].to_numpy()
        for k, is_in in enumerate(self._members(rows)):
            self._sum(self._failed, k, cell[is_in & ~is_injected])
            chosen = is_in & is_injected
            self._hosts.add(cell[chosen] * len(self._bins) + k, host[chosen], logit[chosen])
            self._sum(self._score, k, cell[chosen], rows["score"].to_numpy()[chosen])
            measured = chosen & np.isfinite(snr)
            self._sum(self._snr, k, cell[measured], snr[measured])
            self._sum(self._with_snr, k, cell[measured])

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
        cells: NDArray[np.int64],
        values: NDArray[np.float64] | None = None,
    ) -> None:
        found = np.bincount(cells, values, minlength=len(sums))
        sums[:, place] += found.astype(sums.dtype)

    def table(self) -> pd.DataFrame:
        parts = [
            self._of_threshold(number, threshold)
            for number, threshold in enumerate(self._thresholds)
        ]
        whole = pd.concat(parts).sort_values(["cell", "number", "bin"], ignore_index=True)
        return whole.drop(columns=["cell", "number", "bin"])

    def _of_threshold(self, number: int, threshold: Threshold) -> pd.DataFrame:
        """Return the rows of one threshold, by cell and bin."""
        cells, bins = self._failed.shape
        cell, place = np.divmod(np.arange(cells * bins), bins)
        narrow, wide = (
            self._hosts.completeness(number, confidence=confidence) for confidence in CONFIDENCES
        )
        centres = np.array(self._config.cells())[cell]
        columns: dict[str, Any] = {
            "theta_e": centres[:, 0],
            "psf_fwhm": centres[:, 1],
            "depth_5sig": centres[:, 2],
            "threshold": threshold.threshold,
            "threshold_type": threshold.threshold_type,
            "fpr_target": np.nan if threshold.fpr_target is None else threshold.fpr_target,
            "source_mag_bin": np.array(self._bins)[place],
            "n_injections": wide.tried,
            "n_detected": wide.found,
            "n_failed": self._failed.ravel(),
            "completeness": wide.share,
        }
        columns |= _ends("ci68", narrow) | _ends("ci95", wide)
        fewest = np.where(place == 0, self._config.injections_per_cell, FEWEST_PER_BIN)
        columns |= {
            "mean_score": _share(self._score.ravel(), wide.tried),
            "mean_arc_snr": _share(self._snr.ravel(), self._with_snr.ravel()),
            "sufficient": wide.tried >= fewest,
            "n_hosts": wide.hosts,
            "n_eff": wide.n_eff,
            "few_hosts": wide.is_few,
            "interval": wide.interval,
            "completeness_net": wide.net,
            "completeness_net_ci95_lo": wide.net_low,
            "completeness_net_ci95_hi": wide.net_high,
        }
        return pd.DataFrame(columns | {"cell": cell, "number": number, "bin": place})


def _ends(name: str, found: Completeness) -> dict[str, NDArray[np.float64]]:
    return {f"{name}_lo": found.low, f"{name}_hi": found.high}


def _share(part: NDArray[Any], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):
        share: NDArray[np.float64] = part / whole
    return share
