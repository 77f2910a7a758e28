"""Difference in completeness of two models on the same injections, and its significance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from dhs.selection.grid_result import ALL_MAGNITUDES, AXES, MAGNITUDE
from dhs.selection.intervals import HOSTS, HOSTS_AND_NEGATIVES, TOO_FEW
from dhs.statistics.clusters import FEWEST_CLUSTERS, WARNED_CLUSTERS
from dhs.statistics.differences import METHOD, differences
from dhs.statistics.resampling import cluster_weights, resampled_counts

Count = NDArray[np.int64]
Float = NDArray[np.float64]

CELL, POOLED, OVERALL = "cell", "pooled", "overall"
_SUMMED = {CELL: (), POOLED: AXES[1:], OVERALL: AXES}
"""Axes that the rows of each level sum over."""

SIGNIFICANT = 0.05
OUTCOMES = ("both", "only_first", "only_second", "neither")
"""Which of the two models finds an injection."""

_TESTED = {
    "low": "difference_ci95_lo",
    "high": "difference_ci95_hi",
    "joint_low": "difference_joint_lo",
    "joint_high": "difference_joint_hi",
    "p_value": "p_value",
    "p_adjusted": "p_adjusted",
}
"""Fields of `dhs.statistics.differences.Differences`, and their columns."""

METHODS = {
    "difference": "completeness of the second minus completeness of the first",
    "method": METHOD,
    "difference_ci95, p_value": "of one row alone: for a claim that was chosen beforehand",
    "difference_joint, p_adjusted": "95 %, simultaneous over the rows of one threshold and one "
    "level; those of all magnitudes together apart",
    "significant": f"p_adjusted below {SIGNIFICANT}",
    "interval": f"{HOSTS}: the threshold is a given score, and hosts are resampled; "
    f"{HOSTS_AND_NEGATIVES}: a false-positive rate sets both thresholds again in every resample",
    "hosts": f"no interval and no p-value with fewer than {FEWEST_CLUSTERS} hosts; few_hosts marks "
    f"fewer than {WARNED_CLUSTERS}. The weight of a host as a non-lens is independent of its "
    "weight as a host of injections",
    "levels": f"{CELL}: one cell of the grid; {POOLED}: all PSFs and depths; {OVERALL}: all cells",
}


class Injections(NamedTuple):
    """The N injections that both grids have scored.

    ``place`` (N,) int64: cell times number of magnitude bins, plus bin. ``host`` (N,) int64: from
    0. ``logits`` (2, N) float: of the first and of the second model.
    """

    place: Count
    host: Count
    logits: Float


class Thresholds(NamedTuple):
    """T thresholds of both models.

    ``logits`` (2, T) float64. ``drawn`` (R, 2, T) float64: resampled; constant for a given score.
    ``intervals``: for each, `dhs.selection.intervals.HOSTS` or ``HOSTS_AND_NEGATIVES``.
    """

    logits: Float
    drawn: Float
    intervals: Sequence[str]


def p_text(p: float | None) -> str:
    """Format a p-value: ``= 0.03``, or ``too few`` without one."""
    if p is None:
        return f"= {TOO_FEW}"
    return f"= {p:.2g}" if p > 0 else "< 1e-300"


def signed(difference: float) -> str:
    """Format a difference with an explicit sign."""
    return f"{difference:+.3f}".replace("-", "\N{MINUS SIGN}")


def difference_text(row: Mapping[str, Any]) -> str:
    """Format the difference of a row with its interval."""
    ends = [row[f"difference_ci95_{end}"] for end in ("lo", "hi")]
    says = f"{TOO_FEW} hosts" if None in ends else f"{signed(ends[0])} to {signed(ends[1])}"
    return f"{signed(row['difference'])} ({says})"


def comparison_table(
    centres: Mapping[str, Float],
    bins: Sequence[str],
    injections: Injections,
    thresholds: Thresholds,
    left_out: Count,
    seed: int = 1,
) -> pd.DataFrame:
    """Compare two models in every cell, summed over PSF and depth, and over all cells.

    Parameters
    ----------
    centres : mapping of str to float64 array
        Cell centres by axis: R Einstein radii (arcsec), P PSF widths (arcsec), D depths (mag).
    bins : sequence of str
        Names of the B bins of source magnitude.
    injections : Injections
    thresholds : Thresholds
    left_out : (R * P * D * B,) int64
        Injections of each place that are not counted, because a grid has no score for them.
    seed : int
        Random seed of the weights of hosts.

    Returns
    -------
    DataFrame
        Column ``number`` is the position of the threshold; ``level`` is "cell", "pooled" or
        "overall". Axes that a row sums over are NaN, as are the results of a row without
        injections. Intervals and p-values are NaN with fewer than 10 hosts.
    """
    counts = _counts(injections, thresholds.logits, len(left_out))
    drawn = _drawn(injections, thresholds, seed)
    tables = []
    for level, summed in _SUMMED.items():
        index, rows = _rows(level, summed, centres, bins)
        is_all = (index[MAGNITUDE] == ALL_MAGNITUDES).to_numpy()
        hosts = _hosts(rows, injections)
        for number, interval in enumerate(thresholds.intervals):
            table = pd.concat([index, _counted(rows @ counts[number], rows @ left_out)], axis=1)
            table.insert(1, "number", number)
            gains = _Drawn(drawn.gains[:, number], drawn.trials)
            tested = _tested(table, rows, is_all, hosts, gains)
            tables.append(table.assign(**tested, n_hosts=hosts, interval=interval))
    table = pd.concat(tables, ignore_index=True).astype(dict.fromkeys(AXES, np.float64))
    place = table.columns.get_loc("n_hosts")
    table.insert(place, "significant", table["p_adjusted"] < SIGNIFICANT)
    table.insert(place + 2, "few_hosts", table["n_hosts"] < WARNED_CLUSTERS)
    return table


def _counts(injections: Injections, thresholds: Float, places: int) -> Count:
    """Count the outcomes at every threshold and place: (T, places, 4) int64."""
    counts = []
    for of_first, of_second in thresholds.T:
        is_missed = injections.logits <= np.array([[of_first], [of_second]])
        # In the order of `OUTCOMES`.
        outcome = 2 * is_missed[0].astype(np.int64) + is_missed[1]
        found = np.bincount(4 * injections.place + outcome, minlength=4 * places)
        counts.append(found.reshape(places, 4))
    return np.stack(counts)


def _rows(
    level: str, summed: Sequence[str], centres: Mapping[str, Float], bins: Sequence[str]
) -> tuple[pd.DataFrame, Count]:
    """Return the names of the K rows of a level, and the (K, places) 0 or 1 of their places."""
    shape = (*(len(centres[axis]) for axis in AXES), len(bins))
    position = dict(zip((*AXES, MAGNITUDE), np.indices(shape).reshape(4, -1), strict=True))
    wanted = [[-1] if axis in summed else range(len(centres[axis])) for axis in AXES]
    names, rows = [], []
    for *places, magnitude in product(*wanted, range(-1, len(bins))):
        chosen = dict(zip((*AXES, MAGNITUDE), (*places, magnitude), strict=True))
        is_in = [position[axis] == place for axis, place in chosen.items() if place >= 0]
        rows.append(np.logical_and.reduce([np.ones(math.prod(shape), bool), *is_in]))
        values = [math.nan if chosen[a] < 0 else float(centres[a][chosen[a]]) for a in AXES]
        names.append((level, *values, [ALL_MAGNITUDES, *bins][magnitude + 1]))
    return pd.DataFrame(names, columns=["level", *AXES, MAGNITUDE]), np.array(rows, np.int64)


def _hosts(rows: Count, injections: Injections) -> Count:
    """Count the hosts of every row."""
    shape = (rows.shape[1], int(injections.host.max()) + 1)
    ones = np.ones(len(injections.host))
    pairs = sparse.coo_array((ones, (injections.place, injections.host)), shape).tocsr()
    return np.asarray(((sparse.csr_array(rows) @ pairs) > 0).sum(1), np.int64)


def _counted(outcomes: Count, left_out: Count) -> pd.DataFrame:
    """Return counts, completeness and difference of rows; NaN without injections."""
    table = pd.DataFrame(outcomes, columns=[f"n_{name}" for name in OUTCOMES])
    total = table.sum(axis=1)
    table.insert(0, "n_injections", total)
    table.insert(1, "n_left_out", left_out)
    known = total.where(total > 0)
    table["completeness_first"] = (table["n_both"] + table["n_only_first"]) / known
    table["completeness_second"] = (table["n_both"] + table["n_only_second"]) / known
    table["difference"] = (table["n_only_second"] - table["n_only_first"]) / known
    return table


class _Drawn(NamedTuple):
    """Weights in R resamples, by place.

    ``gains`` (R, T, places): detections by the second model less those by the first. ``trials``
    (R, places).
    """

    gains: Float
    trials: Float


def _drawn(injections: Injections, thresholds: Thresholds, seed: int) -> _Drawn:
    """Resample hosts once for all rows and thresholds."""
    place, host, logits = injections
    weights = cluster_weights(int(host.max()) + 1, len(thresholds.drawn), seed)
    detected, trials = resampled_counts(logits, host, place, thresholds.drawn, weights)
    return _Drawn(detected[:, 1] - detected[:, 0], trials)


def _tested(
    counted: pd.DataFrame,
    rows: Count,
    is_all: NDArray[np.bool_],
    hosts: Count,
    drawn: _Drawn,
) -> dict[str, Float]:
    """Return intervals and p-values of the rows of one level, at one threshold."""
    columns = {column: np.full(len(rows), np.nan) for column in _TESTED.values()}
    for family in (is_all, ~is_all):
        # Rows of few hosts are left out, because they would widen all the others.
        chosen = np.flatnonzero(family & (hosts >= FEWEST_CLUSTERS))
        if not chosen.size:
            continue
        some = sparse.csr_array(rows[chosen, : drawn.trials.shape[1]])
        resampled = (some @ drawn.gains.T) / (some @ drawn.trials.T)
        value, trials = (counted[c].to_numpy()[chosen] for c in ("difference", "n_injections"))
        found = differences(value, resampled.T, hosts[chosen], trials=trials)
        for field, column in _TESTED.items():
            columns[column][chosen] = getattr(found, field)
    return columns
