"""Scatter of a threshold that non-lenses set, and what it adds to the interval of a fraction."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from dhs.statistics.digits import rate_text

Float = NDArray[np.float64]

CONDITIONAL = "conditional"
"""The interval takes the threshold as given, as it is for a fixed score."""

UNCONDITIONAL = "unconditional"
"""The interval includes the scatter of the threshold due to the choice of non-lenses."""

SCATTER_METHOD = (
    "unconditional: limits of the threshold from the beta distribution of an order statistic's "
    "rate, joined in quadrature with the binomial limits (Zou & Donner 2008)"
)

FEW_FALSE_POSITIVES = 50
"""Below this number of false positives the bias of the rate is printed."""


def threshold_limits(
    ordered: NDArray[np.floating], fpr: float, confidence: float = 0.95
) -> tuple[float, float]:
    """Return limits of the threshold that has a false-positive rate in the population.

    The rate above the j-th highest of n scores is Beta(j, n + 1 - j), whatever their distribution
    (David & Nagaraja 2003, section 2). The ranks at which it passes ``fpr`` are real numbers;
    the score is interpolated between neighbours.

    Parameters
    ----------
    ordered : (n,) float
        Scores or logits of the non-lenses, ascending.
    fpr : float
        False-positive rate, in (0, 1).
    confidence : float
        In (0, 1); both tails are equal.

    Returns
    -------
    low, high : float
    """
    n = len(ordered)
    tail = (1 - confidence) / 2

    def rank(chance: float) -> float:
        """Return the rank j at which the rate is below ``fpr`` with this chance."""

        def excess(j: float) -> float:
            return float(special.betainc(j, n + 1 - j, fpr)) - chance

        if excess(n) > 0:
            return float(n)
        return float(optimize.brentq(excess, 1e-9, n))

    places = np.arange(n)
    low, high = (np.interp(n - rank(chance), places, ordered) for chance in (tail, 1 - tail))
    return float(low), float(high)


def with_threshold_scatter(
    share: ArrayLike,
    interval: tuple[ArrayLike, ArrayLike],
    at_limits: tuple[ArrayLike, ArrayLike],
) -> tuple[Float, Float]:
    """Widen the interval of a fraction of detections by the scatter of the threshold.

    Distances of both limits from the estimate are added in quadrature, each side for itself (Zou
    & Donner 2008, Stat. Med. 27, 1693). The non-lenses that set the threshold and the objects
    of the fraction must be independent.

    Parameters
    ----------
    share : (...) float
        Fraction of objects above the threshold.
    interval : pair of (...) float
        Its interval at this threshold.
    at_limits : pair of (...) float
        Fraction above the lower and above the upper limit of the threshold, from
        `threshold_limits`.

    Returns
    -------
    low, high : (...) float64
        NaN where the interval is NaN.
    """
    middle, low, high = (np.asarray(v, np.float64) for v in (share, *interval))
    most, least = (np.asarray(v, np.float64) for v in at_limits)
    below = np.hypot(middle - low, np.maximum(middle - least, 0))
    above = np.hypot(high - middle, np.maximum(most - middle, 0))
    return np.maximum(middle - below, 0.0), np.minimum(middle + above, 1.0)


def expected_rate(false_positives: int, negatives: int) -> float:
    """Return the expected false-positive rate at a threshold set by k of n non-lenses.

    It is (k + 1) / (n + 1): the threshold is the highest score that is no false positive.
    """
    return (false_positives + 1) / (negatives + 1)


def rate_remark(false_positives: int, negatives: int) -> str | None:
    """Say which rate to quote at a threshold set by few false positives; None for many."""
    if false_positives >= FEW_FALSE_POSITIVES:
        return None
    expected = expected_rate(false_positives, negatives)
    excess = 100 * (expected * negatives / max(false_positives, 1) - 1)
    return (
        f"the threshold is set by {false_positives} false positives among {negatives:,} non-lenses "
        f"(fewer than {FEW_FALSE_POSITIVES}): quote the rate expected of other non-lenses, "
        f"{rate_text(expected, 3)}, which is {excess:.2g} % above the "
        f"{rate_text(false_positives / negatives, 3)} of these, in which the threshold was chosen"
    )
