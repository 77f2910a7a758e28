"""Differences between two models on the same objects, with the scatter of both thresholds."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse, stats

from dhs.statistics.resampling import cluster_weights, resampled_counts, resampled_thresholds
from dhs.statistics.threshold_scatter import UNCONDITIONAL
from dhs.statistics.thresholds import allowed_false_positives, threshold_of

Float = NDArray[np.float64]

METHOD = (
    "paired Bayesian bootstrap (Rubin 1981) of non-lenses and hosts, thresholds set again in every "
    "resample; symmetric interval and p-value (Hall 1992); simultaneous over rows by the largest "
    "standardised difference (Westfall & Young 1993)"
)


class Differences(NamedTuple):
    """Differences with their intervals and p-values; all fields have the shape of the rows.

    ``value``: difference of the data. ``low``, ``high``, ``p_value``: of each row alone.
    ``joint_low``, ``joint_high``, ``p_adjusted``: simultaneous over all rows. A p-value is below
    1 - confidence where its interval excludes 0, and only there. It is NaN where a row has no
    trial.
    """

    value: Float
    low: Float
    high: Float
    p_value: Float
    joint_low: Float
    joint_high: Float
    p_adjusted: Float


class RecallDifference(NamedTuple):
    """Recall of the first model minus that of the second, at the same false-positive rate.

    ``first``, ``second``: the recalls. ``difference``, ``low``, ``high``, ``p_value``: their
    difference, its interval, and the p-value of equal recalls. ``interval_kind``: always
    "unconditional".
    """

    fpr: float
    first: float
    second: float
    difference: float
    low: float
    high: float
    p_value: float
    interval_kind: str


def differences(
    value: ArrayLike,
    drawn: ArrayLike,
    clusters: ArrayLike,
    confidence: float = 0.95,
    *,
    trials: ArrayLike | None = None,
) -> Differences:
    """Return intervals and p-values of differences from their resampled values.

    An interval reaches equally far to both sides: to the quantile of the distance of resampled
    values from their mean. The distance is increased for few clusters by the t quantile, and by
    one discordant pair, without which a row of few or no differences would look certain (Agresti &
    Min 2005, Stat. Med. 24, 729); a pair counts between one trial and one cluster.

    Parameters
    ----------
    value : (K,) float
        Differences of the data; NaN for a row without a trial.
    drawn : (R, K) float
        Their resampled values.
    clusters : (K,) int
        Number of clusters of every row.
    confidence : float
        In (0, 1).
    trials : (K,) int, optional
        Number of trials of every row; by default one per cluster.

    Returns
    -------
    Differences
    """
    values, resampled = np.asarray(value, np.float64), np.asarray(drawn, np.float64)
    number = np.maximum(np.asarray(clusters, np.float64), 2)
    is_known = np.isfinite(values)
    distance = np.where(is_known, resampled - resampled.mean(0), 0.0)
    t = stats.t.isf((1 - confidence) / 2, number - 1)
    few = t / stats.norm.isf((1 - confidence) / 2) * np.sqrt((number + 1) / (number - 1))
    scatter = distance.std(0)
    pairs = number if trials is None else np.maximum(np.asarray(trials, np.float64), number)
    total = np.hypot(few * scatter, 1 / np.sqrt(number * pairs))
    standard = np.abs(distance) / np.where(scatter > 0, scatter, 1.0)
    # Where no resample differs, the normal distribution stands in.
    is_constant = scatter == 0
    found = np.abs(values) / total
    reach = _reach(standard, confidence)
    reach = np.where(is_constant, stats.norm.isf((1 - confidence) / 2), reach)
    p_value = _share_beyond(standard, found)
    p_value = np.where(is_constant, 2 * stats.norm.sf(found), p_value)
    largest = standard.max(1)
    joint_reach = np.maximum(_reach(largest, confidence), reach)
    p_adjusted = np.maximum(_share_beyond(largest[:, None], found), p_value)
    return Differences(
        values,
        np.maximum(values - reach * total, -1.0),
        np.minimum(values + reach * total, 1.0),
        np.where(is_known, p_value, np.nan),
        np.maximum(values - joint_reach * total, -1.0),
        np.minimum(values + joint_reach * total, 1.0),
        np.where(is_known, p_adjusted, np.nan),
    )


def _reach(standard: Float, confidence: float) -> Float:
    """Return the distance beyond which `_share_beyond` is below 1 - confidence, and only there."""
    count = len(standard)
    allowed = math.ceil(round((1 - confidence) * (count + 1), 9) - 1) - 1
    if allowed < 0:
        return np.full(standard.shape[1:], np.inf)
    return np.asarray(np.partition(standard, count - 1 - allowed, axis=0)[count - 1 - allowed])


def _share_beyond(standard: Float, found: Float) -> Float:
    """Return the share of resamples at least as far as found, with the data as one of them."""
    beyond = [
        (column >= limit).sum()
        for column, limit in zip(
            np.broadcast_to(standard, (len(standard), len(found))).T, found, strict=True
        )
    ]
    return (np.asarray(beyond, np.float64) + 1) / (len(standard) + 1)


def compare_detections(
    scores: ArrayLike,
    clusters: NDArray[np.int64],
    cells: NDArray[np.int64],
    rows: ArrayLike,
    thresholds: ArrayLike,
    drawn_thresholds: Float,
    *,
    seed: int = 1,
    confidence: float = 0.95,
) -> list[Differences]:
    """Compare the fractions that two models detect, by rows of cells and threshold.

    Differences are first minus second. Injections of one host share its random weight. Fixed
    thresholds are the same in every resample. Hosts and non-lenses are assumed to be independent.

    Parameters
    ----------
    scores : (2, N) float
        Scores or logits of the same N objects by both models.
    clusters, cells : (N,) int64
        Position of the host and of the cell of every object, from 0.
    rows : (K, cells) bool
        Cells that each row sums over.
    thresholds : (2, F) float
        Thresholds of both models.
    drawn_thresholds : (R, 2, F) float64
        Resampled thresholds, from `dhs.statistics.resampling.resampled_thresholds`.
    seed : int
        Random seed of the weights.
    confidence : float
        In (0, 1).

    Returns
    -------
    list of Differences
        One for each of the F thresholds, simultaneous over its K rows.
    """
    chosen = sparse.csr_array(np.asarray(rows, np.float64)[:, : int(cells.max()) + 1])
    pairs = sparse.coo_array((np.ones(len(cells)), (cells, clusters))).tocsr()
    per_row = chosen @ pairs
    hosts, trials = (per_row > 0).sum(1), per_row.sum(1)
    weights = cluster_weights(int(clusters.max()) + 1, len(drawn_thresholds), seed)
    drawn = _shares(scores, clusters, cells, drawn_thresholds, weights, chosen)
    at = np.asarray(thresholds, np.float64)[None]
    data = _shares(scores, clusters, cells, at, np.ones((1, weights.shape[1])), chosen)[0]
    return [
        differences(
            data[0, k] - data[1, k],
            drawn[:, 0, k] - drawn[:, 1, k],
            hosts,
            confidence,
            trials=trials,
        )
        for k in range(at.shape[2])
    ]


def _shares(
    scores: ArrayLike,
    clusters: NDArray[np.int64],
    cells: NDArray[np.int64],
    thresholds: Float,
    weights: Float,
    rows: sparse.csr_array,
) -> Float:
    """Return detected fractions (R, 2, F, K); NaN for a row without a trial."""
    detected, trials = resampled_counts(scores, clusters, cells, thresholds, weights)
    # Sparse, because most rows are of few cells.
    found = (rows @ detected.reshape(-1, detected.shape[-1]).T).T
    tried = (rows @ trials.T).T
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(
            found.reshape(*detected.shape[:-1], -1) / tried[:, None, None], np.float64
        )


def compare_recalls(
    lens_scores: ArrayLike,
    negative_scores: ArrayLike,
    fpr: float,
    *,
    resamples: int = 1000,
    seed: int = 1,
    confidence: float = 0.95,
) -> RecallDifference:
    """Compare the recalls of two models at the same false-positive rate on the same objects.

    Both thresholds are resampled together with the objects.

    Parameters
    ----------
    lens_scores, negative_scores : (2, L) and (2, N) float
        Scores or logits by the first and by the second model.
    fpr : float
        False-positive rate, in (0, 1).
    resamples : int
        Number of resamples.
    seed : int
        Random seed.
    confidence : float
        In (0, 1).

    Returns
    -------
    RecallDifference

    Raises
    ------
    ValueError
        The rate allows fewer than 10 false positives.
    """
    lenses = np.asarray(lens_scores, np.float64)
    negatives = np.asarray(negative_scores, np.float64)
    allowed = allowed_false_positives(negatives.shape[1], fpr)
    at = np.array([[float(threshold_of(np.sort(values), allowed))] for values in negatives])
    count = lenses.shape[1]
    (found,) = compare_detections(
        lenses,
        np.arange(count),
        np.zeros(count, np.int64),
        np.ones((1, 1)),
        at,
        resampled_thresholds(list(negatives), [fpr], resamples, seed),
        seed=seed,
        confidence=confidence,
    )
    first, second = (lenses > at).mean(1)
    return RecallDifference(
        fpr,
        float(first),
        float(second),
        float(found.value[0]),
        float(found.low[0]),
        float(found.high[0]),
        float(found.p_value[0]),
        UNCONDITIONAL,
    )
