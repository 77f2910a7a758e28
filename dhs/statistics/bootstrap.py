"""Bootstrap of AUC, thresholds and recall: their scatter due to the choice of objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dhs.statistics.thresholds import threshold_of

Float = NDArray[np.float64]


class Resampled(NamedTuple):
    """Results of R resamples for T models at F numbers of false positives.

    ``auc``: (R, T). ``thresholds``, ``recalls``: (R, T, F); each resample sets its own thresholds.
    All are float64.
    """

    auc: Float
    thresholds: Float
    recalls: Float


class _Model:
    """The scores of one model in ascending order, and where each lens falls among non-lenses."""

    def __init__(self, lenses: Float, negatives: Float) -> None:
        self.lens_order, self.negative_order = np.argsort(lenses), np.argsort(negatives)
        self.lenses, self.negatives = lenses[self.lens_order], negatives[self.negative_order]
        self.below = np.searchsorted(self.negatives, self.lenses, "left")
        self.not_above = np.searchsorted(self.negatives, self.lenses, "right")

    def measure(
        self, lens_counts: NDArray[np.int64], negative_counts: NDArray[np.int64], allowed: Float
    ) -> tuple[float, Float, Float]:
        """Compute AUC, thresholds and recalls with each object repeated ``counts`` times."""
        counts = lens_counts[self.lens_order]
        lenses = np.r_[0, counts.cumsum()]
        negatives = np.r_[0, negative_counts[self.negative_order].cumsum()]
        # A tie of a lens and a non-lens counts as half a win.
        wins = counts @ (negatives[self.below] + negatives[self.not_above]) / 2
        thresholds = threshold_of(self.negatives, allowed, negatives)
        missed = lenses[np.searchsorted(self.lenses, thresholds, "right")]
        return wins / (lenses[-1] * negatives[-1]), thresholds, 1 - missed / lenses[-1]


def resample(
    lenses: Sequence[ArrayLike],
    negatives: Sequence[ArrayLike],
    allowed: ArrayLike,
    *,
    resamples: int = 1000,
    seed: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Resampled:
    """Resample lenses and non-lenses with replacement, keeping their numbers.

    Every model gets the same draws, so differences between models are paired.

    Parameters
    ----------
    lenses, negatives : sequences of T arrays, (L,) and (M,)
        Scores of the same objects by each of T models; none is NaN.
    allowed : (F,) int
        Allowed numbers of false positives, 0 to M - 1; each sets a threshold.
    resamples : int
        Number of resamples R.
    seed : int
        Random seed.
    progress : function, optional
        Called with the number of resamples done and the total.

    Returns
    -------
    Resampled
    """
    models = [
        _Model(np.asarray(lens, np.float64), np.asarray(negative, np.float64))
        for lens, negative in zip(lenses, negatives, strict=True)
    ]
    ranks = np.asarray(allowed, np.float64)
    n_lenses, n_negatives = len(models[0].lenses), len(models[0].negatives)
    auc = np.empty((resamples, len(models)))
    thresholds, recalls = np.empty((2, *auc.shape, len(ranks)))
    rng = np.random.default_rng(seed)
    for k in range(resamples):
        lens_counts, negative_counts = _draw(rng, n_lenses), _draw(rng, n_negatives)
        for j, model in enumerate(models):
            auc[k, j], thresholds[k, j], recalls[k, j] = model.measure(
                lens_counts, negative_counts, ranks
            )
        if progress is not None:
            progress(k + 1, resamples)
    return Resampled(auc, thresholds, recalls)


def _draw(rng: np.random.Generator, n: int) -> NDArray[np.int64]:
    """Count how often each of n objects occurs in n random draws."""
    return np.bincount(rng.integers(0, n, n), minlength=n)


def percentile_interval(values: Float, confidence: float = 0.95) -> tuple[Float, Float]:
    """Return the percentile interval of resampled values along the first axis.

    Parameters
    ----------
    values : (R, ...) float64
    confidence : float
        Fraction of the resamples in the interval, in (0, 1); both tails are equal.

    Returns
    -------
    low, high : (...) float64
    """
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail], axis=0)
    return low, high
