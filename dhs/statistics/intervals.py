"""Intervals of binomial proportions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

INTERVALS = ("wilson", "clopper-pearson", "jeffreys")


def binomial_interval(
    successes: int, trials: int, method: str = "wilson", confidence: float = 0.95
) -> tuple[float, float]:
    """Return the confidence interval of a binomial proportion.

    Parameters
    ----------
    successes, trials : int
    method : {"wilson", "clopper-pearson", "jeffreys"}
        Wilson (1927); Clopper & Pearson (1934); equal tails of the posterior under Jeffreys'
        prior, with an end at 0 or 1 if no or all trials succeeded (Brown, Cai & DasGupta 2001).
    confidence : float
        In (0, 1).

    Returns
    -------
    low, high : float

    Raises
    ------
    ValueError
        A number is out of range, or the method is unknown.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(
            f"successes={successes!r} of trials={trials!r} is not a proportion; give at least one "
            "trial, and 0 to trials successes."
        )
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence!r} is not between 0 and 1.")
    if method == "jeffreys":
        ends = jeffreys_intervals(np.asarray(successes), np.asarray(trials), confidence)
        return float(ends[0]), float(ends[1])
    if method not in INTERVALS:
        allowed = ", ".join(map(repr, INTERVALS))
        raise ValueError(f"method={method!r} is not known; expected one of {allowed}.")
    name = "exact" if method == "clopper-pearson" else method
    found = stats.binomtest(successes, trials).proportion_ci(confidence, name)
    return float(found.low), float(found.high)


def jeffreys_intervals(
    successes: NDArray[np.int64], trials: NDArray[np.int64], confidence: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return Jeffreys intervals of many proportions; see `binomial_interval`.

    Parameters
    ----------
    successes, trials : (...) int64
    confidence : float
        In (0, 1).

    Returns
    -------
    low, high : (...) float64
        NaN where ``trials`` is 0.
    """
    tail = (1 - confidence) / 2
    shape = (successes + 0.5, trials - successes + 0.5)
    low = np.where(successes == 0, 0.0, stats.beta.ppf(tail, *shape))
    high = np.where(successes == trials, 1.0, stats.beta.ppf(1 - tail, *shape))
    return np.where(trials == 0, np.nan, low), np.where(trials == 0, np.nan, high)


def clopper_pearson_intervals(
    successes: NDArray[np.int64], trials: NDArray[np.int64], confidence: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return Clopper-Pearson intervals of many proportions; see `binomial_interval`.

    Parameters
    ----------
    successes, trials : (...) int64
        At least one trial each.
    confidence : float
        In (0, 1).

    Returns
    -------
    low, high : (...) float64
    """
    tail = (1 - confidence) / 2
    failures = trials - successes
    # A shape of 0 has no quantile; the end there is 0 or 1.
    low = stats.beta.ppf(tail, np.maximum(successes, 1), failures + 1)
    high = stats.beta.isf(tail, successes + 1, np.maximum(failures, 1))
    return np.where(successes == 0, 0.0, low), np.where(failures == 0, 1.0, high)
