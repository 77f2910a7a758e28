"""Two models on the same injections: the difference of their completeness, and its significance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import product
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from dhs.selection.grid_result import ALL_MAGNITUDES, AXES, MAGNITUDE
from dhs.statistics.metrics import mcnemar_exact

CELL, POOLED, OVERALL = "cell", "pooled", "overall"
SIGNIFICANT = 0.05
METHODS = {
    "difference": "completeness of the second minus completeness of the first",
    "interval": "95 %, Newcombe (1998), Stat. Med. 17, 2635, method 10",
    "p_mcnemar": "exact two-sided test of McNemar (1947)",
    "p_adjusted": "Benjamini & Hochberg (1995), over the rows of one threshold and one level; "
    "those of all magnitudes together apart",
    "significant": f"p_adjusted below {SIGNIFICANT}",
    "thresholds": "taken as given by interval and test; their scatter, where false positives set "
    "them, is not included",
    "levels": f"{CELL}: one cell of the grid; {POOLED}: all PSFs and depths; {OVERALL}: all cells",
}


class Paired(NamedTuple):
    """How many injections both models find, the first alone, the second alone, and neither."""

    both: int
    only_first: int
    only_second: int
    neither: int

    @property
    def total(self) -> int:
        return sum(self)


# Remembered: many cells have the same few counts.
_p_value = lru_cache(maxsize=4096)(mcnemar_exact)
_Z = NormalDist().inv_cdf(0.975)


def difference_interval(counts: Paired) -> tuple[float, float]:
    """95 % interval of the second model's share of detections minus the first one's.

    Newcombe (1998), Stat. Med. 17, 2635, method 10: Wilson's intervals of both shares, squared and
    added with their correlation, which is corrected for continuity. It is no inversion of
    McNemar's test: near 0.05 the two may disagree.

    Parameters
    ----------
    counts : Paired
        At least one injection.

    Returns
    -------
    low, high : float
        In [-1, 1].
    """
    both, only_first, only_second, neither = counts
    total = counts.total
    second, first = both + only_second, both + only_first
    p, q = second / total, first / total
    (p_low, p_high), (q_low, q_high) = _wilson(second, total), _wilson(first, total)
    agreement = float(both * neither - only_first * only_second)
    if agreement > 0:
        agreement = max(agreement - total / 2, 0)
    # In floats: the product of four counts of 1e8 is beyond int64.
    margins = math.sqrt(float(second) * (total - second)) * math.sqrt(
        float(first) * (total - first)
    )
    phi = agreement / margins if margins else 0.0

    def length(one: float, other: float) -> float:
        return math.sqrt(max(one**2 - 2 * phi * one * other + other**2, 0.0))

    low = p - q - length(p - p_low, q_high - q)
    high = p - q + length(p_high - p, q - q_low)
    return max(low, -1.0), min(high, 1.0)


def _wilson(found: int, total: int) -> tuple[float, float]:
    """Wilson's 95 % interval in closed form, a thousand times as fast as scipy's, for each cell."""
    middle = (found + _Z**2 / 2) / (total + _Z**2)
    half = _Z * math.sqrt(found * (total - found) / total + _Z**2 / 4) / (total + _Z**2)
    return middle - half, middle + half


def adjusted(p_values: ArrayLike) -> NDArray[np.float64]:
    """P-values adjusted for their number, after Benjamini & Hochberg (1995); NaN stays NaN."""
    values = np.array(p_values, np.float64)
    known = ~np.isnan(values)
    if known.any():
        values[known] = stats.false_discovery_control(values[known], method="bh")
    return values


def p_text(p: float) -> str:
    """Say a p-value: ``= 0.03``, or that it is too small for a float."""
    return f"= {p:.2g}" if p > 0 else "< 1e-300"


def signed(difference: float) -> str:
    """Say a difference, always with its sign."""
    return f"{difference:+.3f}".replace("-", "\N{MINUS SIGN}")


def comparison_table(
    centres: Mapping[str, NDArray[np.float64]],
    bins: Sequence[str],
    counts: NDArray[np.int64],
    left_out: NDArray[np.int64],
) -> pd.DataFrame:
    """Compare two models in every cell, over PSF and depth, and over all cells.

    Parameters
    ----------
    centres : mapping
        Centres of cells by axis: R, P and D of them.
    bins : sequence of B str
    counts : (T, R * P * D, B, 4) int64
        By threshold, in the order of `Paired`.
    left_out : (R * P * D, B) int64
        Injections that are in no count, as one of the grids has no score of them.

    Returns
    -------
    DataFrame
        Column ``number`` is the position of the threshold, ``level`` is "cell", "pooled" or
        "overall", and what a row is summed over is NaN. Without an injection, so is the rest.
    """
    cells = [len(centres[axis]) for axis in AXES]
    pairs = _with_all(counts.reshape(len(counts), *cells, len(bins), 4), -2)
    unknown = _with_all(left_out.reshape(*cells, len(bins)), -1)
    radii = centres[AXES[0]].tolist()
    levels = {
        CELL: ((), list(product(*(centres[axis].tolist() for axis in AXES)))),
        POOLED: ((-2, -3), [(radius, math.nan, math.nan) for radius in radii]),
        OVERALL: ((-2, -3, -4), [(math.nan, math.nan, math.nan)]),
    }
    names = [ALL_MAGNITUDES, *bins]
    tables = []
    for level, (summed, places) in levels.items():
        index = pd.MultiIndex.from_tuples(
            [
                (level, number, *place, name)
                for number in range(len(counts))
                for place in places
                for name in names
            ],
            names=["level", "number", *AXES, MAGNITUDE],
        )
        # Axes are counted from the end: bins are the last of one, the last but one of the other.
        sums = pairs.sum(tuple(axis - 1 for axis in summed)).reshape(-1, 4)
        lost = np.tile(unknown.sum(summed).reshape(-1), len(counts))
        rows = [_compared(Paired(*row)) for row in sums.tolist()]
        result = pd.DataFrame(rows, index=index)
        result.insert(1, "n_left_out", lost)
        tables.append(result.reset_index())
    table = pd.concat(tables, ignore_index=True).astype(dict.fromkeys(AXES, np.float64))
    is_all = table[MAGNITUDE] == ALL_MAGNITUDES
    groups = table.groupby(["level", "number", is_all], sort=False)["p_mcnemar"]
    table["p_adjusted"] = groups.transform(adjusted)
    table["significant"] = table["p_adjusted"] < SIGNIFICANT
    return table


def _with_all(counts: NDArray[np.int64], axis: int) -> NDArray[np.int64]:
    """Put the sum of all bins before them."""
    return np.concatenate([counts.sum(axis, keepdims=True), counts], axis)


def _compared(counts: Paired) -> dict[str, Any]:
    total = counts.total
    first, second = counts.both + counts.only_first, counts.both + counts.only_second
    low, high = difference_interval(counts) if total else (math.nan, math.nan)
    return {
        "n_injections": total,
        **{f"n_{name}": count for name, count in counts._asdict().items()},
        "completeness_first": first / total if total else math.nan,
        "completeness_second": second / total if total else math.nan,
        "difference": (second - first) / total if total else math.nan,
        "difference_ci95_lo": low,
        "difference_ci95_hi": high,
        "p_mcnemar": _p_value(counts.only_first, counts.only_second) if total else math.nan,
    }
