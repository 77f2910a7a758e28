"""Printed numbers: digits that tell them apart, rates, and scores of thresholds."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_CEILING, Decimal

from scipy.special import expit, logit

CLOSE = 1e-4
"""Largest distance in logits between a threshold and its printed score."""
_MOST_DIGITS = 17


def digits_to_tell_apart(values: Iterable[float], least: int, most: int) -> int:
    """Return how many digits after the point make different values look different.

    Parameters
    ----------
    values : iterable of float
        Values that are printed in one column.
    least, most : int
        Limits of the result. Values that are closer than ``most`` digits show look equal.
    """
    different = set(values)
    for digits in range(least, most):
        if len({f"{value:.{digits}f}" for value in different}) == len(different):
            return digits
    return most


def rate_text(value: float, digits: int = 6) -> str:
    """Format a rate or a probability: 0.25, 0.01 and 0.001, and 1e-4 below 0.001.

    Parameters
    ----------
    value : float
        At least 0.
    digits : int
        Number of significant digits.
    """
    rounded = float(f"{value:.{digits}g}")
    if rounded >= 1e-3 or rounded == 0:
        return f"{rounded:g}"
    mantissa, exponent = f"{rounded:.{digits - 1}e}".split("e")
    shown = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return f"{shown}e{int(exponent)}"


def score_text(threshold: float) -> str:
    """Format the score of a threshold that is given as a logit, so that it can be used again.

    The score is rounded up: what was at the threshold, and no detection, remains none.

    Parameters
    ----------
    threshold : float
        Logit; detections are above it.
    """
    score = Decimal(float(expit(threshold)))
    for digits in range(1, _MOST_DIGITS):
        unit = Decimal(1).scaleb(score.adjusted() + 1 - digits)
        if score >= Decimal("0.5"):  # digits of the distance from 1
            unit = Decimal(1).scaleb(-digits)
        rounded = score.quantize(unit, ROUND_CEILING)
        if rounded < 1 and 0 <= float(logit(float(rounded))) - threshold <= CLOSE:
            return str(rounded).lower()
    return repr(float(score))
