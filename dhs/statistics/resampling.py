"""Bayesian bootstrap of thresholds and of detections by cluster, shared by all models.

Every object gets an exponential weight (Rubin 1981, Ann. Stat. 9, 130) in place of the number of
times that it is drawn. An extreme order statistic then has a continuous distribution: the rate
above the j-th highest of n scores is Beta(j, n + 1 - j), as in repeated samples. Models share the
weights of the objects, so their differences are paired.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

Float = NDArray[np.float64]

_LEAST_SMOOTHED = 80
"""The tail of the non-lenses is smoothed up to twice a threshold's rank, or 4 times, up to this."""

METHOD = (
    "Bayesian bootstrap (Rubin 1981): non-lenses and hosts get random weights, shared by all "
    "models and cells; every resample sets its thresholds again"
)


def cluster_weights(clusters: int, resamples: int, seed: int) -> Float:
    """Draw exponential weights of clusters.

    Parameters
    ----------
    clusters : int
        Number of clusters C.
    resamples : int
        Number of resamples R.
    seed : int
        Random seed.

    Returns
    -------
    (R, C) float64
    """
    return np.random.default_rng([seed, 1]).exponential(size=(resamples, clusters))


def resampled_thresholds(
    negatives: Sequence[ArrayLike], rates: Sequence[float], resamples: int, seed: int
) -> Float:
    """Draw the thresholds that non-lenses set at false-positive rates.

    Parameters
    ----------
    negatives : sequence of M arrays, (N,)
        Scores or logits of the same non-lenses by each of M models.
    rates : sequence of F float
        False-positive rates, in (0, 1).
    resamples : int
        Number of resamples R.
    seed : int
        Random seed.

    Returns
    -------
    (R, M, F) float64
        A threshold lies between two scores, in proportion to the weight.
    """
    scores = [np.asarray(values, np.float64) for values in negatives]
    count = len(scores[0])
    ranks = [max(math.floor(round(rate * count, 6)), 1) for rate in rates]
    reach = min(count, max(map(_reach, ranks)) + 1)
    # Weights are needed only for objects above a threshold, by any model.
    orders = [_highest(values, reach) for values in scores]
    deepest = min(max(ranks) + 1, count)
    used = np.unique([order[:deepest] for order in orders])
    rng = np.random.default_rng([seed, 0])
    weights = rng.exponential(size=(resamples, used.size))
    # One more weight than objects: the rate above the highest score is not 0.
    total = weights.sum(1) + rng.gamma(count + 1 - used.size, size=resamples)
    drawn = np.empty((resamples, len(scores), len(rates)))
    for number, (values, order) in enumerate(zip(scores, orders, strict=True)):
        places = np.searchsorted(used, order[:deepest])
        for k, (rate, rank) in enumerate(zip(rates, ranks, strict=True)):
            actual = weights[:, places[: rank + 1]].sum(1) / total
            drawn[:, number, k] = _quantile(values[order], rank, np.log(rate / actual))
    return drawn


def _reach(rank: int) -> int:
    """Return the lowest rank that the slope at a rank is estimated from."""
    return max(2 * rank, min(4 * rank, _LEAST_SMOOTHED))


def _highest(values: Float, number: int) -> NDArray[np.int64]:
    """Return the positions of the highest values, in falling order."""
    highest = np.argpartition(values, len(values) - number)[len(values) - number :]
    return highest[np.argsort(-values[highest], kind="stable")]


def _quantile(falling: Float, rank: int, steps: Float) -> Float:
    """Return smooth quantiles at the threshold's rank times exp(``steps``).

    Normalised spacings of exponential order statistics are independent with a constant mean
    (Renyi 1953). A mean that is linear in the logarithm of the rank allows for other tails.
    """
    last = min(_reach(rank), len(falling) - 1)
    order = np.arange(1, last + 1)
    spacings = order * (falling[:last] - falling[1 : last + 1])
    places = np.log(order / rank)
    slope, level = np.polyfit(places, spacings, 1) if last > 2 else (0.0, spacings.mean())
    level = level if level > 0 else spacings.mean()
    slope = float(np.clip(slope, -level / 2, level / 2))
    start = falling[min(rank, len(falling) - 1)]
    return np.asarray(start - level * steps - slope * steps**2 / 2, np.float64)


def resampled_counts(
    scores: ArrayLike,
    clusters: NDArray[np.int64],
    cells: NDArray[np.int64],
    thresholds: Float,
    weights: Float,
) -> tuple[Float, Float]:
    """Sum the weights of detections and of trials by cell, at resampled thresholds.

    Sums over cells are those of pooled rows; divide only afterwards.

    Parameters
    ----------
    scores : (M, N) float
        Scores of N objects by each of M models.
    clusters, cells : (N,) int64
        Position of the cluster, 0 to C - 1, and of the cell, from 0, of every object.
    thresholds : (R, M, F) float64
        Thresholds from `resampled_thresholds`; scores above are detections.
    weights : (R, C) float64
        Weights from `cluster_weights`.

    Returns
    -------
    detected : (R, M, F, cells) float64
    trials : (R, cells) float64
    """
    values = np.asarray(scores, np.float64)
    count = int(cells.max()) + 1
    resamples, models, rates = thresholds.shape
    trials = _sums(np.ones(len(cells), bool), clusters, cells, weights, count)
    detected = np.empty((resamples, models, rates, count))
    for model in range(models):
        for rate in range(rates):
            drawn = thresholds[:, model, rate]
            # Only objects between the extreme thresholds are detected in some resamples.
            is_always = values[model] > drawn.max()
            found = _sums(is_always, clusters, cells, weights, count)
            between = np.flatnonzero(~is_always & (values[model] > drawn.min()))
            hosts, places, near = clusters[between], cells[between], values[model, between]
            for number in range(resamples if between.size else 0):
                is_above = near > drawn[number]
                weight = weights[number, hosts[is_above]]
                found[number] += np.bincount(places[is_above], weight, minlength=count)
            detected[:, model, rate] = found
    return detected, trials


def _sums(
    is_chosen: NDArray[np.bool_],
    clusters: NDArray[np.int64],
    cells: NDArray[np.int64],
    weights: Float,
    count: int,
) -> Float:
    """Sum the weights of the chosen objects by cell: a product of sparse counts and weights."""
    pairs = (cells[is_chosen], clusters[is_chosen])
    objects = sparse.coo_array((np.ones(is_chosen.sum()), pairs), (count, weights.shape[1]))
    return np.ascontiguousarray((objects.tocsr() @ weights.T).T)
