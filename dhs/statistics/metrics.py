"""How good scores are: AUC, recall at a fixed false-positive rate, intervals, McNemar's test."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from dhs.statistics.intervals import binomial_interval
from dhs.statistics.thresholds import allowed_false_positives, threshold_of


class Recall(NamedTuple):
    """Recall at a fixed false-positive rate.

    ``fpr``: asked for. ``threshold``: a score above it is a detection. ``found`` of ``lenses``:
    how many are. ``recall``: their share. ``low``, ``high``: its interval. ``false_positives`` of
    ``negatives``: how many non-lenses are detected.
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
    """Area under the ROC curve, by scikit-learn; None where there is one class only.

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
    """Share of the lenses that score above all but a share ``fpr`` of the non-lenses.

    Parameters
    ----------
    lens_scores, negative_scores : 1-d arrays
        Larger means more likely a lens.
    fpr : float
        In (0, 1).
    interval, confidence
        As of `binomial_interval`; of the lenses alone, the threshold taken as given.

    Returns
    -------
    Recall

    Raises
    ------
    ValueError
        There are too few negatives to expect 10 false positives; the message says how many are
        needed. Or a score is NaN, or there is no lens.
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
    """Exact two-sided p-value of McNemar's test (1947) of whether two models find as many.

    Parameters
    ----------
    only_first, only_second : int
        How many of the same objects one model finds and the other does not. Those that both find,
        or neither, say nothing.

    Returns
    -------
    float
        Of so unequal a division, if a fair coin made it; 1 where the models agree on every object.

    Raises
    ------
    ValueError
        A number is negative.
    """
    if only_first < 0 or only_second < 0:
        raise ValueError(
            f"only_first={only_first!r} and only_second={only_second!r} count objects; neither "
            "may be negative."
        )
    discordant = only_first + only_second
    return float(stats.binomtest(only_first, discordant).pvalue) if discordant else 1.0


def _finite(name: str, values: ArrayLike) -> NDArray[np.float64]:
    array: NDArray[Any] = np.asarray(values, np.float64).reshape(-1)
    count = int(np.isnan(array).sum())
    if count:
        raise ValueError(f"{name} holds {count} NaN of {array.size}; a score is a number.")
    return array
