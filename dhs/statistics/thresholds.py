"""Detection thresholds: fixed scores, or set by a false-positive rate on the non-lenses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from dhs.statistics.digits import rate_text
from dhs.statistics.intervals import binomial_interval
from dhs.statistics.threshold_scatter import (
    CONDITIONAL,
    UNCONDITIONAL,
    expected_rate,
    threshold_limits,
)


@dataclass(frozen=True)
class Threshold:
    """A detection threshold; scores above it are detections.

    Attributes
    ----------
    threshold, logit : float
        The threshold as a score and as a logit; detections are decided by the logit.
    threshold_type : str
        ``fixed``, or a rate such as ``FPR=1.0e-03``.
    fpr_target : float or None
        False-positive rate that sets the threshold.
    negatives, false_positives : int or None
        Number of non-lenses that set the threshold, and number of those above it.
    fpr_low, fpr_high : float or None
        95 % Clopper-Pearson interval of the false-positive rate.
    logit_low, logit_high : float or None
        95 % limits of the logit that has the target rate in the population.
    expected_fpr : float or None
        Expected false-positive rate at this threshold, (k + 1) / (n + 1).
    """

    threshold: float
    logit: float
    threshold_type: str = "fixed"
    fpr_target: float | None = None
    negatives: int | None = None
    false_positives: int | None = None
    fpr_low: float | None = None
    fpr_high: float | None = None
    logit_low: float | None = None
    logit_high: float | None = None
    expected_fpr: float | None = None

    @property
    def interval_kind(self) -> str:
        """Whether intervals at this threshold include its scatter, which a fixed one lacks."""
        return CONDITIONAL if self.logit_low is None else UNCONDITIONAL

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def require_enough(fpr_targets: Sequence[float], negatives: int, name: str) -> None:
    """Refuse false-positive rates for which there are too few non-lenses.

    Parameters
    ----------
    fpr_targets : sequence of float
        False-positive rates, in (0, 1).
    negatives : int
        Number of non-lenses.
    name : str
        Name of the data, for the message.

    Raises
    ------
    ValueError
        There are too few non-lenses for a rate; the message gives the number needed.
    """
    for rate in fpr_targets:
        try:
            allowed_false_positives(negatives, rate)
        except ValueError as error:
            raise ValueError(f"fpr_targets, on the non-lenses of {name}: {error}") from error


def find_thresholds(
    fixed: Sequence[float], fpr_targets: Sequence[float], negatives: NDArray[np.float32]
) -> list[Threshold]:
    """Return all thresholds: the fixed ones by rising score, then the others by falling rate.

    Parameters
    ----------
    fixed : sequence of float
        Fixed scores, in (0, 1).
    fpr_targets : sequence of float
        False-positive rates; there must be enough ``negatives`` for each.
    negatives : (N,) float32
        Logits of the non-lenses.

    Returns
    -------
    list of Threshold
    """
    found = [Threshold(score, math.log(score / (1 - score))) for score in sorted(fixed)]
    ordered = np.sort(negatives)
    for rate in sorted(fpr_targets, reverse=True):
        allowed = allowed_false_positives(len(ordered), rate)
        logit = float(threshold_of(ordered, allowed))
        above = int((ordered > logit).sum())
        low, high = binomial_interval(above, len(ordered), "clopper-pearson")
        score = float(sigmoid(logit))
        kind = f"FPR={rate:.1e}"
        limits = threshold_limits(ordered, rate)
        expected = expected_rate(above, len(ordered))
        found.append(
            Threshold(score, logit, kind, rate, len(ordered), above, low, high, *limits, expected)
        )
    return found


FEWEST_FALSE_POSITIVES = 10


def allowed_false_positives(negatives: int, fpr: float) -> int:
    """Return the number of false positives that a false-positive rate allows.

    Raises
    ------
    ValueError
        The rate is not in (0, 1), or allows fewer than 10; the message gives the number of
        non-lenses needed and the smallest rate that is possible.
    """
    if not 0 < fpr < 1:
        raise ValueError(f"fpr={fpr!r} is not between 0 and 1.")
    # Round first: 0.001 * 20,000 must be 20.
    allowed = math.floor(round(fpr * negatives, 6))
    if allowed < FEWEST_FALSE_POSITIVES:
        needed = math.ceil(round(FEWEST_FALSE_POSITIVES / fpr, 6))
        raise ValueError(
            f"fpr={rate_text(fpr)} leaves {allowed} of {negatives} non-lenses as false positives; "
            f"at least {FEWEST_FALSE_POSITIVES} are needed to set a threshold, which takes "
            f"{needed} non-lenses. Give more non-lenses{_or_a_larger_rate(negatives)}."
        )
    return allowed


def smallest_rate(negatives: int) -> float | None:
    """Return the smallest false-positive rate of two digits that non-lenses allow.

    None if there are so few that no rate is possible.
    """
    if negatives <= FEWEST_FALSE_POSITIVES:
        return None
    exact = Decimal(FEWEST_FALSE_POSITIVES) / negatives
    rounded = exact.quantize(Decimal(1).scaleb(exact.adjusted() - 1), ROUND_CEILING)
    return float(rounded)


def _or_a_larger_rate(negatives: int) -> str:
    rate = smallest_rate(negatives)
    return "" if rate is None else f", or a rate of at least {rate_text(rate)}"


def sigmoid(logits: ArrayLike) -> NDArray[np.float64]:
    """Return the scores of logits in float64."""
    return np.asarray(expit(np.asarray(logits, np.float64)), np.float64)


def supports_fpr(negatives: int, fpr: float) -> bool:
    """Return whether the number of non-lenses suffices for a threshold at a false-positive rate."""
    return round(fpr * negatives, 6) >= FEWEST_FALSE_POSITIVES


def threshold_of(
    ordered: NDArray[Any], allowed: ArrayLike, cumulative: NDArray[np.int64] | None = None
) -> NDArray[Any]:
    """Return the threshold that at most ``allowed`` of the non-lenses exceed.

    Parameters
    ----------
    ordered : (N,) float
        Scores or logits of the non-lenses, ascending.
    allowed : int or (F,) int
        Numbers of false positives; `allowed_false_positives` computes one from a rate.
    cumulative : (N + 1,) int, optional
        0, then the running sum of how often a bootstrap resample drew each of them. By default
        each counts once.

    Returns
    -------
    () or (F,) float
        The lowest score where ``allowed`` is N or more.
    """
    if cumulative is None:
        place = len(ordered) - 1 - np.asarray(allowed)
    else:
        place = np.searchsorted(cumulative, cumulative[-1] - np.asarray(allowed), "left") - 1
    threshold: NDArray[Any] = ordered[np.maximum(place, 0)]
    return threshold
