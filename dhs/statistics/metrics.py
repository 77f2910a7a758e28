"""Metrics of scores: AUC, and recall at a false-positive rate or at a threshold."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dhs.arguments import label_array
from dhs.statistics.intervals import binomial_interval
from dhs.statistics.threshold_scatter import (
    CONDITIONAL,
    UNCONDITIONAL,
    expected_rate,
    rate_remark,
    threshold_limits,
    with_threshold_scatter,
)
from dhs.statistics.thresholds import allowed_false_positives, threshold_of


class Recall(NamedTuple):
    """Recall above a threshold, which a false-positive rate or the caller sets.

    ``fpr``: requested rate; None if the threshold was given. ``threshold``: scores above it are
    detections. ``found``: number of detected lenses, out of ``lenses``. ``recall``: their
    fraction, with interval ``low`` to ``high``. ``false_positives``: number of detected
    non-lenses, out of ``negatives``.

    ``interval_kind``: "unconditional" if the interval includes the scatter of the threshold, else
    "conditional". ``conditional_low``, ``conditional_high``: the interval at this threshold.
    ``threshold_low``, ``threshold_high``: limits of the threshold of the rate in the population.
    ``expected_fpr``: expected rate at this threshold, (k + 1) / (n + 1). ``remark``: what to print
    about it if there are fewer than 50 false positives, else None.
    """

    fpr: float | None
    threshold: float
    found: int
    lenses: int
    recall: float
    low: float
    high: float
    false_positives: int
    negatives: int
    interval_kind: str
    conditional_low: float
    conditional_high: float
    threshold_low: float
    threshold_high: float
    expected_fpr: float
    remark: str | None


def roc_auc(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Compute the area under the ROC curve with scikit-learn; None if there is only one class.

    Raises
    ------
    TypeError, ValueError
        A label is neither 0 nor 1, a score is NaN, or there is not one label per score.
    """
    from sklearn.metrics import roc_auc_score

    truth, values = label_array("labels", labels), _finite("scores", scores)
    if truth.shape != values.shape:
        raise ValueError(
            f"labels and scores have {truth.size} and {values.size} entries; give one label per "
            "score."
        )
    if len(np.unique(truth)) < 2:
        return None
    return float(roc_auc_score(truth, values))


def recall_at_fpr(
    lens_scores: ArrayLike,
    negative_scores: ArrayLike,
    fpr: float,
    *,
    interval: str = "wilson",
    confidence: float = 0.95,
) -> Recall:
    """Compute the recall at the threshold that at most a fraction ``fpr`` of non-lenses exceed.

    The interval is of the recall at this rate in the population. It joins the binomial interval
    with the scatter of the threshold; see `dhs.statistics.threshold_scatter`.

    Parameters
    ----------
    lens_scores, negative_scores : 1-d arrays
        Scores; a higher score means more likely a lens.
    fpr : float
        False-positive rate, in (0, 1).
    interval, confidence
        Method and confidence of `dhs.statistics.intervals.binomial_interval`.

    Returns
    -------
    Recall
        Its ``interval_kind`` is "unconditional".

    Raises
    ------
    ValueError
        The rate allows fewer than 10 false positives (the message gives the number of negatives
        needed), a score is NaN, or there is no lens.
    """
    lenses = _finite("lens_scores", lens_scores)
    negatives = _finite("negative_scores", negative_scores)
    allowed = allowed_false_positives(negatives.size, fpr)
    ordered = np.sort(negatives)
    fixed = recall_at_threshold(
        lenses,
        negatives,
        float(threshold_of(ordered, allowed)),
        interval=interval,
        confidence=confidence,
    )
    limits = threshold_limits(ordered, fpr, confidence)
    low, high = with_threshold_scatter(
        fixed.recall,
        (fixed.low, fixed.high),
        (float((lenses > limits[0]).mean()), float((lenses > limits[1]).mean())),
    )
    return fixed._replace(
        fpr=fpr,
        low=float(low),
        high=float(high),
        interval_kind=UNCONDITIONAL,
        threshold_low=limits[0],
        threshold_high=limits[1],
        expected_fpr=expected_rate(fixed.false_positives, negatives.size),
        remark=rate_remark(fixed.false_positives, negatives.size),
    )


def recall_at_threshold(
    lens_scores: ArrayLike,
    negative_scores: ArrayLike,
    threshold: float,
    *,
    interval: str = "wilson",
    confidence: float = 0.95,
) -> Recall:
    """Compute the recall above a given score; the threshold is exact, so the interval is binomial.

    Parameters
    ----------
    lens_scores, negative_scores : 1-d arrays
        Scores; a higher score means more likely a lens.
    threshold : float
        Scores above it are detections.
    interval, confidence
        Method and confidence of `dhs.statistics.intervals.binomial_interval`.

    Returns
    -------
    Recall
        Its ``interval_kind`` is "conditional", and ``fpr`` is None.

    Raises
    ------
    ValueError
        A score is NaN, or there is no lens or no non-lens.
    """
    lenses = _finite("lens_scores", lens_scores)
    negatives = _finite("negative_scores", negative_scores)
    if not lenses.size:
        raise ValueError("lens_scores is empty; a recall needs lenses.")
    if not negatives.size:
        raise ValueError("negative_scores is empty; a false-positive rate needs non-lenses.")
    found, above = int((lenses > threshold).sum()), int((negatives > threshold).sum())
    low, high = binomial_interval(found, lenses.size, interval, confidence)
    return Recall(
        None,
        threshold,
        found,
        lenses.size,
        found / lenses.size,
        low,
        high,
        above,
        negatives.size,
        CONDITIONAL,
        low,
        high,
        threshold,
        threshold,
        above / negatives.size,
        None,
    )


def _finite(name: str, values: ArrayLike) -> NDArray[np.float64]:
    array: NDArray[Any] = np.asarray(values, np.float64).reshape(-1)
    count = int(np.isnan(array).sum())
    if count:
        raise ValueError(f"{name} has {count} NaN of {array.size} scores; scores must be numbers.")
    return array
