"""Scores above which is a detection: fixed, or of a false-positive rate on the non-lenses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dhs.statistics.metrics import allowed_false_positives, binomial_interval


@dataclass(frozen=True)
class Threshold:
    """A score above it is a detection.

    Attributes
    ----------
    threshold, logit : float
        As a score and as its logit, by which it is decided.
    threshold_type : str
        ``fixed``, or as ``FPR=1.0e-03``.
    fpr_target : float or None
    negatives, false_positives : int or None
        How many non-lenses set it, and how many of them lie above.
    fpr_low, fpr_high : float or None
        95 % Clopper-Pearson interval of the false-positive rate.
    """

    threshold: float
    logit: float
    threshold_type: str = "fixed"
    fpr_target: float | None = None
    negatives: int | None = None
    false_positives: int | None = None
    fpr_low: float | None = None
    fpr_high: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def require_enough(fpr_targets: Sequence[float], negatives: int, name: str) -> None:
    """Refuse rates for which there are too few non-lenses, before any work.

    Raises
    ------
    ValueError
        How many are needed is said.
    """
    for rate in fpr_targets:
        try:
            allowed_false_positives(negatives, rate)
        except ValueError as error:
            raise ValueError(f"fpr_targets, on the non-lenses of {name}: {error}") from error


def find_thresholds(
    fixed: Sequence[float], fpr_targets: Sequence[float], negatives: NDArray[np.float32]
) -> list[Threshold]:
    """Every threshold, the fixed ones first, each kind rising.

    Parameters
    ----------
    fixed : sequence of float
        Scores, in (0, 1).
    fpr_targets : sequence of float
        Of which there are enough ``negatives``.
    negatives : (N,) float32
        Logits of the non-lenses.
    """
    found = [Threshold(score, math.log(score / (1 - score))) for score in sorted(fixed)]
    ordered = np.sort(negatives)
    for rate in sorted(fpr_targets, reverse=True):
        allowed = allowed_false_positives(len(ordered), rate)
        logit = float(ordered[len(ordered) - 1 - allowed])
        above = int((ordered > logit).sum())
        low, high = binomial_interval(above, len(ordered), "clopper-pearson")
        score = 1 / (1 + math.exp(-logit))
        kind = f"FPR={rate:.1e}"
        found.append(Threshold(score, logit, kind, rate, len(ordered), above, low, high))
    return found
