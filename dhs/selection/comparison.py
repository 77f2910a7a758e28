"""The result of comparing two grids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from dhs.selection.grid_result import ALL_MAGNITUDES, MAGNITUDE, GridResult
from dhs.selection.matching import CommonThreshold
from dhs.selection.paired import METHODS, OVERALL, POOLED


@dataclass(frozen=True, eq=False)
class Comparison:
    """Result of `dhs.selection.compare.compare_grids`.

    Attributes
    ----------
    first, second : GridResult
    thresholds : list of CommonThreshold
    table : DataFrame
        Table of `dhs.selection.paired.comparison_table`, with thresholds instead of ``number``.
    injections : int
        Number of injections of each grid.
    failed_first, failed_second : int
        Injections without a score in each grid.
    left_out : int
        Injections excluded because at least one of the grids has no score for them.
    resamples, seed : int
        Number of resamples behind the intervals and p-values, and their random seed.
    """

    first: GridResult
    second: GridResult
    thresholds: list[CommonThreshold]
    table: pd.DataFrame
    injections: int
    failed_first: int
    failed_second: int
    left_out: int
    resamples: int
    seed: int

    def differences(self) -> list[str]:
        """Return the differences between the preprocessing specs, one line each."""
        return self.first.spec.differences(self.second.spec)

    def warnings(self) -> list[str]:
        """Return a sentence for every grid whose own intervals are of the old kind."""
        return [
            f"{grid.folder}: {grid.warning} This comparison resamples its injections by host."
            for grid in (self.first, self.second)
            if grid.warning
        ]

    def rows(self, level: str, threshold: CommonThreshold) -> pd.DataFrame:
        """Return the table rows of one level and one threshold."""
        table = self.table
        is_wanted = (table["threshold_type"] == threshold.first.threshold_type) & (
            table["threshold_first"] == threshold.first.threshold
        )
        return table[is_wanted & (table["level"] == level)]

    def metadata(self) -> dict[str, Any]:
        """Return a description of both grids and the result over all cells, for JSON."""
        kept = ("checkpoint", "spec", "spec_fingerprint", "annulus", "injections_fingerprint")
        grids = {
            name: {"folder": str(grid.folder)} | {key: grid.metadata[key] for key in kept}
            for name, grid in (("first", self.first), ("second", self.second))
        }
        return grids | {
            "preprocessing_differs": self.differences(),
            "draws_fingerprint": self.first.metadata["draws_fingerprint"],
            "data_origin": self.first.metadata["data_origin"],
            "injections": self.injections,
            "failed_first": self.failed_first,
            "failed_second": self.failed_second,
            "left_out": self.left_out,
            "warnings": self.warnings(),
            "resamples": self.resamples,
            "seed": self.seed,
            "thresholds": [self.overall(threshold) for threshold in self.thresholds],
            "methods": METHODS,
        }

    def overall(self, threshold: CommonThreshold) -> dict[str, Any]:
        """Return the result over all cells, and how many pooled cells differ significantly.

        Ends of intervals and p-values are None with too few hosts.
        """
        rows = self.rows(OVERALL, threshold)
        start = rows.columns.get_loc("n_injections")
        kept = rows[rows[MAGNITUDE] == ALL_MAGNITUDES].iloc[:, start:].astype(object)
        values = kept.where(kept.notna(), None).iloc[0].to_dict()
        pooled = self.rows(POOLED, threshold)
        pooled = pooled[(pooled[MAGNITUDE] != ALL_MAGNITUDES) & pooled["p_adjusted"].notna()]
        return {
            "threshold": str(threshold),
            "first": threshold.first.to_dict(),
            "second": threshold.second.to_dict(),
            **values,
            "cells": len(pooled),
            "significant_cells": int(pooled["significant"].sum()),
        }
