"""Intervals of a proportion whose trials share clusters, such as injections that share a host."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

FEWEST_CLUSTERS = 10
"""Below this number of clusters there is no interval: too few to estimate their variance."""

WARNED_CLUSTERS = 30
"""Below this number of clusters an interval deserves a warning."""

SPARSE_SUCCESSES = 16.0
"""Effective number of successes, or of failures, below which the outer end is a wide limit."""

METHOD = (
    "effective sample size from the variance between hosts, reduced by the t quantile (Korn & "
    "Graubard 1998), in a Jeffreys interval; widened for skewness (Hall 1992); below 16 effective "
    "detections or misses the outer end is the limit of a Bayesian bootstrap of hosts (Rubin 1981)"
)

_SKEWNESS_FACTOR = 2.0
"""The skewness of a few clusters is an underestimate; this factor is from simulations."""

_PSEUDO_CLUSTER = 0.5
"""Weight of the unseen cluster of nothing but successes, as in Jeffreys' prior."""


class ClusterInterval(NamedTuple):
    """Confidence interval of a proportion with clusters as the sampling unit.

    All fields are arrays with the shape of the input without its last axis. ``low``, ``high``: the
    interval; NaN if there are too few clusters. ``n_eff``: number of independent trials with the
    same standard error, at most the number of trials. ``clusters``: number of clusters with a
    trial. ``is_too_few``: fewer than `FEWEST_CLUSTERS` clusters. ``is_sparse``: fewer than 16
    effective successes or failures; the end towards 0.5 is then a limit that covers more than
    asked for.
    """

    low: Float
    high: Float
    n_eff: Float
    clusters: NDArray[np.int64]
    is_too_few: Bool
    is_sparse: Bool


def cluster_interval(
    successes_per_cluster: ArrayLike, trials_per_cluster: ArrayLike, confidence: float = 0.95
) -> ClusterInterval:
    """Return the interval of a proportion, with clusters as independent and trials not.

    The variance between clusters of the ratio estimator gives an effective sample size, which the
    t quantile of the number of clusters reduces (Korn & Graubard 1998, Survey Methodology 24,
    193). A Jeffreys interval is computed from it. Each end moves outwards by the skewness term
    of Hall (1992, J. R. Stat. Soc. B 54, 221) where clusters are more skewed than a binomial.
    Where successes are few, a limit is added: equal tails of a Bayesian bootstrap of clusters
    (Rubin 1981) with half a cluster of nothing but successes, approximated by a beta
    distribution with the same mean and variance. Failures are treated alike. Clusters are assumed
    to be drawn independently from the population.

    Parameters
    ----------
    successes_per_cluster, trials_per_cluster : (..., C) int
        Numbers for each of C clusters; a cluster without a trial does not count. They are
        broadcast against each other.
    confidence : float
        In (0, 1); both tails are equal.

    Returns
    -------
    ClusterInterval

    Raises
    ------
    ValueError
        A number of successes is not between 0 and its number of trials, or ``confidence`` is out
        of range.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence!r} is not between 0 and 1.")
    trials, successes = np.broadcast_arrays(
        np.asarray(trials_per_cluster, np.float64), np.asarray(successes_per_cluster, np.float64)
    )
    if not ((successes >= 0) & (successes <= trials)).all():
        raise ValueError(
            "successes_per_cluster must lie between 0 and trials_per_cluster in every cluster."
        )
    clusters = (trials > 0).sum(-1)
    is_too_few = clusters < FEWEST_CLUSTERS
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        low, high, n_eff, is_sparse = _interval(successes, trials, clusters, (1 - confidence) / 2)
    low, high = (np.where(is_too_few, np.nan, ends) for ends in (low, high))
    return ClusterInterval(low, high, n_eff, clusters, is_too_few, is_sparse)


def _interval(
    successes: Float, trials: Float, clusters: NDArray[np.int64], tail: float
) -> tuple[Float, Float, Float, Bool]:
    total = trials.sum(-1)
    share = successes.sum(-1) / total
    # Residuals of the ratio estimator, in units of the mean number of trials.
    residuals = (successes - share[..., None] * trials) * (clusters / total)[..., None]
    squares = (residuals**2).sum(-1)
    variance = squares / (clusters * (clusters - 1.0))
    skewness = (residuals**3).sum(-1) / clusters / (squares / clusters) ** 1.5
    skewness = np.nan_to_num(skewness) * _SKEWNESS_FACTOR
    is_constant = (share == 0) | (share == 1)
    # Without a success nothing is known about the correlation: clusters count, not trials.
    raw = np.where(is_constant, clusters, share * (1 - share) / variance)
    n_eff = np.minimum(raw, total)
    # Clusters of unequal size carry less information about the variance (Kish 1965).
    equal_clusters = total**2 / (trials**2).sum(-1)
    t = -stats.t.ppf(tail, np.maximum(equal_clusters - 1, 1))
    reduced = n_eff * (stats.norm.ppf(tail) / t) ** 2
    high = _upper(share, skewness, variance, reduced, clusters, total, t, tail)
    low = 1 - _upper(1 - share, -skewness, variance, reduced, clusters, total, t, tail)
    low, high = np.where(share == 0, 0.0, low), np.where(share == 1, 1.0, high)
    is_sparse = np.minimum(share, 1 - share) * reduced < SPARSE_SUCCESSES
    return np.minimum(low, share), np.maximum(high, share), n_eff, is_sparse


def _upper(
    share: Float,
    skewness: Float,
    variance: Float,
    n_eff: Float,
    clusters: NDArray[np.int64],
    total: Float,
    t: Float,
    tail: float,
) -> Float:
    """Return the upper end; the lower end is that of the failures."""
    end = stats.beta.ppf(1 - tail, share * n_eff + 0.5, (1 - share) * n_eff + 0.5)
    # The Jeffreys interval already has the skewness of a binomial of the same effective size.
    known = (1 - 2 * share) * np.sqrt(clusters / (share * (1 - share) * n_eff))
    excess = np.where(variance > 0, np.maximum(skewness - known, 0), 0)
    end = end + excess * (1 + 2 * t**2) / 6 * np.sqrt(variance / clusters)
    limit = _bootstrap_limit(share, variance, clusters, total, t, tail)
    end = np.where(share * n_eff < SPARSE_SUCCESSES, np.maximum(end, limit), end)
    return np.asarray(np.minimum(end, 1.0), np.float64)


def _bootstrap_limit(
    share: Float, variance: Float, clusters: NDArray[np.int64], total: Float, t: Float, tail: float
) -> Float:
    """Return the upper limit of a Bayesian bootstrap with part of a cluster of successes."""
    unseen = _PSEUDO_CLUSTER
    mean = (clusters * share + unseen) / (clusters + unseen)
    second = (clusters * (variance * (clusters - 1) + share**2) + unseen) / (clusters + unseen)
    scatter = (second - mean**2) / (clusters + unseen) * clusters / (clusters - 1)
    scatter = scatter * (t / stats.norm.ppf(1 - tail)) ** 2
    scatter = np.maximum(scatter, mean * (1 - mean) / (total + 1))
    size = mean * (1 - mean) / scatter
    return np.asarray(stats.beta.ppf(1 - tail, mean * size, (1 - mean) * size), np.float64)
