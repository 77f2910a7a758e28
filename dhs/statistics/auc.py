"""Interval of the area under the ROC curve that also covers near 1."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

Float = NDArray[np.float64]

FEWEST_OBJECTS = 10
"""With fewer lenses, or fewer non-lenses, there is no interval."""

ENOUGH_INVERSIONS = 20.0
"""From this number of misplaced objects on, the placements of the data give the interval alone."""

METHOD = (
    "DeLong et al. (1988) variance as an effective sample size, in a Jeffreys interval widened for "
    "skewness (Hall 1992); near 0 and 1 joined with the score interval of Newcombe (2006) with the "
    "variance of Hanley & McNeil (1982)"
)

_SKEWNESS_FACTOR = 2.0
"""The skewness of few placements is an underestimate; this factor is from simulations."""


class AucInterval(NamedTuple):
    """Area under the ROC curve with its confidence interval.

    ``value``: the area. ``low``, ``high``: its interval; NaN if there are too few objects.
    ``is_too_few``: fewer than `FEWEST_OBJECTS` lenses or non-lenses. ``uses_score_interval``: the
    interval is joined with the score interval, as near 0 and 1.
    """

    value: float
    low: float
    high: float
    is_too_few: bool
    uses_score_interval: bool


def auc_interval(lenses: ArrayLike, negatives: ArrayLike, confidence: float = 0.95) -> AucInterval:
    """Return the area under the ROC curve and its interval.

    The variance of the placements (DeLong, DeLong & Clarke-Pearson 1988, Biometrics 44, 837) gives
    an effective sample size, reduced by the t quantile, for a Jeffreys interval. Its ends move
    outwards by the third-moment term of Hall (1992, J. R. Stat. Soc. B 54, 221) where placements
    are more skewed than a binomial.

    Near 1 the few lenses with a low score, on which the area depends, may be missing from the data.
    If fewer than 20 objects of the rarer class are misplaced, as counted by (1 - area) times their
    number, the interval includes that of a score test with the variance of Hanley & McNeil
    (1982, Radiology 143, 29), solved for the area as Newcombe (2006, Stat. Med. 25, 559) does.
    It assumes exponential scores, and covers more than asked for if the tails are normal.

    Parameters
    ----------
    lenses, negatives : 1-d arrays
        Scores; a tie counts as half.
    confidence : float
        In (0, 1); both tails are equal.

    Returns
    -------
    AucInterval

    Raises
    ------
    ValueError
        A score is NaN, a class is empty, or ``confidence`` is out of range.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence!r} is not between 0 and 1.")
    positive, negative = (
        np.sort(np.asarray(v, np.float64).reshape(-1)) for v in (lenses, negatives)
    )
    if not positive.size or not negative.size:
        raise ValueError("lenses and negatives need at least one score each.")
    if np.isnan(positive[-1]) or np.isnan(negative[-1]):
        raise ValueError("lenses and negatives must not have NaN; scores must be numbers.")
    of_lenses = _placements(positive, negative)
    of_negatives = 1 - _placements(negative, positive)
    area = float(of_lenses.mean())
    fewest = min(positive.size, negative.size)
    if fewest < FEWEST_OBJECTS:
        return AucInterval(area, np.nan, np.nan, True, False)
    tail = (1 - confidence) / 2
    low, high = _placement_interval(area, of_lenses, of_negatives, tail)
    is_extreme = low == high or min(area, 1 - area) * fewest < ENOUGH_INVERSIONS
    if is_extreme:
        ends = score_interval(max(area, 1 - area), positive.size, negative.size, tail)
        ends = ends if area >= 0.5 else (1 - ends[1], 1 - ends[0])
        low, high = min(low, ends[0]), max(high, ends[1])
    return AucInterval(area, low, high, False, is_extreme)


def _placements(scores: Float, others: Float) -> Float:
    """Return the fraction of the sorted others that each score exceeds."""
    ranks = np.searchsorted(others, scores, "left") + np.searchsorted(others, scores, "right")
    return np.asarray(ranks / (2 * others.size), np.float64)


def _placement_interval(
    area: float, of_lenses: Float, of_negatives: Float, tail: float
) -> tuple[float, float]:
    parts = [values.var(ddof=1) / values.size for values in (of_lenses, of_negatives)]
    variance = sum(parts)
    if variance == 0 or area in (0.0, 1.0):
        return area, area
    sizes = of_lenses.size, of_negatives.size
    # Welch-Satterthwaite.
    freedom = variance**2 / sum(p**2 / (n - 1) for p, n in zip(parts, sizes, strict=True))
    t = float(stats.t.isf(tail, freedom))
    n_eff = area * (1 - area) / variance * (stats.norm.isf(tail) / t) ** 2
    third = sum(((v - area) ** 3).mean() / v.size**2 for v in (of_lenses, of_negatives))
    skewness = _SKEWNESS_FACTOR * third / variance**1.5
    known = (1 - 2 * area) / np.sqrt(area * (1 - area) * n_eff)
    scale = (1 + 2 * t**2) / 6 * np.sqrt(variance)
    shape = area * n_eff + 0.5, (1 - area) * n_eff + 0.5
    low = stats.beta.ppf(tail, *shape) - max(known - skewness, 0) * scale
    high = stats.beta.isf(tail, *shape) + max(skewness - known, 0) * scale
    return float(max(min(low, area), 0.0)), float(min(max(high, area), 1.0))


def score_interval(
    area: float, lenses: float, negatives: float, tail: float
) -> tuple[float, float]:
    """Return the areas at which the score test is at its critical value.

    Parameters
    ----------
    area : float
        Area under the ROC curve, in [0, 1].
    lenses, negatives : float
        Effective numbers of objects.
    tail : float
        Probability of each tail.

    Returns
    -------
    (2,) tuple of float
        Lower and upper end.
    """
    z = float(stats.norm.isf(tail))
    mean_size = (lenses + negatives) / 2

    def variance(true: float) -> float:
        pairs = (1 - true) / (2 - true) + true / (1 + true)
        return true * (1 - true) * (1 + (mean_size - 1) * pairs) / (lenses * negatives)

    def excess(true: float) -> float:
        return float(abs(true - area) - z * np.sqrt(max(variance(true), 0.0)))

    return _root(excess, 0.0, area), _root(excess, 1.0, area)


def _root(excess: Callable[[float], float], end: float, area: float) -> float:
    """Return where the excess changes its sign between an end of [0, 1] and the area."""
    # The variance vanishes at the end itself.
    start = end + (1e-12 if end == 0 else -1e-12)
    if excess(start) <= 0 or abs(area - end) < 1e-12:
        return end
    inside = min(max(area, 1e-9), 1 - 1e-9)
    return float(optimize.brentq(excess, start, inside))
