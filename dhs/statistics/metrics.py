"""Metrics of scores: AUC, recall at a fixed false-positive rate, McNemar's test."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from dhs.statistics.intervals import binomial_interval
from dhs.statistics.thresholds import allowed_false_positives, threshold_of


class Recall(NamedTuple):
    """Recall at a fixed false-positive rate.

    ``fpr``: requested rate. ``threshold``: scores above it are detections. ``found``: number of
    detected lenses, out of ``lenses``. ``recall``: their fraction, with interval ``low`` to
    ``high``. ``false_positives``: number of detected non-lenses, out of ``negatives``.
    """

    fpr: float
    threshold: float
    found: int
    lenses: int
    recall: float
    low: float
    high: float
    false_positives: int
    negatives: int


def roc_auc(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Compute the area under the ROC curve with scikit-learn; None if there is only one class.

    Raises
    ------
    ValueError
        A score is NaN.
    """
    from sklearn.metrics import roc_auc_score

    truth, values = np.asarray(labels), _finite("scores", scores)
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

    Parameters
    ----------
    lens_scores, negative_scores : 1-d arrays
        Scores; a higher score means more likely a lens.
    fpr : float
        False-positive rate, in (0, 1).
    interval, confidence
        Method and confidence of `dhs.statistics.intervals.binomial_interval`. The interval of the
        recall takes the threshold as given.

    Returns
    -------
    Recall

    Raises
    ------
    ValueError
        The rate allows fewer than 10 false positives (the message gives the number of negatives
        needed), a score is NaN, or there is no lens.
    """
    lenses = _finite("lens_scores", lens_scores)
    negatives = _finite("negative_scores", negative_scores)
    if not lenses.size:
        raise ValueError("lens_scores is empty; a recall needs lenses.")
    allowed = allowed_false_positives(negatives.size, fpr)
    threshold = threshold_of(np.sort(negatives), allowed)
    found = int((lenses > threshold).sum())
    low, high = binomial_interval(found, lenses.size, interval, confidence)
    return Recall(
        fpr,
        float(threshold),
        found,
        lenses.size,
        found / lenses.size,
        low,
        high,
        int((negatives > threshold).sum()),
        negatives.size,
    )


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Compute the exact two-sided p-value of McNemar's test (1947) of equal recall.

    Parameters
    ----------
    only_first, only_second : int
        Numbers of objects that only the first or only the second model finds. Objects that both
        or neither find carry no information.

    Returns
    -------
    float
        Probability of a division at least as unequal under a fair coin; 1 if the models agree on
        every object.

    Raises
    ------
    ValueError
        A number is negative.
    """
    if only_first < 0 or only_second < 0:
        raise ValueError(
            f"only_first={only_first!r} and only_second={only_second!r} are counts of objects and "
            "must not be negative."
        )
    discordant = only_first + only_second
    return float(stats.binomtest(only_first, discordant).pvalue) if discordant else 1.0


def _finite(name: str, values: ArrayLike) -> NDArray[np.float64]:
    array: NDArray[Any] = np.asarray(values, np.float64).reshape(-1)
    count = int(np.isnan(array).sum())
    if count:
        raise ValueError(f"{name} has {count} NaN of {array.size} scores; scores must be numbers.")
    return array
