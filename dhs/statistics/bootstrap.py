"""How much AUC, thresholds and recall scatter with the objects that happened to be there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dhs.statistics.thresholds import threshold_of

Float = NDArray[np.float64]


class Resampled(NamedTuple):
    """What each of R resamples gives, for T models at F numbers of false positives.

    ``auc``: (R, T). ``thresholds``, ``recalls``: (R, T, F), the threshold set anew each time. All
    float64.
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
        """AUC, thresholds and recalls where every object is there as often as its count says."""
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
    """Draw objects with replacement, as many lenses and as many non-lenses as there are.

    Every model sees the same draws, so that differences between models are paired.

    Parameters
    ----------
    lenses, negatives : sequences of T arrays, (L,) and (M,)
        Scores of the same objects by each model; none is NaN.
    allowed : (F,) int
        How many non-lenses may be detected, 0 to M - 1; each sets a threshold.
    resamples : int
    seed : int
    progress : function, optional
        Called with how many resamples are done and how many there are.

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
    """How often each of n objects is drawn in n draws."""
    return np.bincount(rng.integers(0, n, n), minlength=n)


def percentile_interval(values: Float, confidence: float = 0.95) -> tuple[Float, Float]:
    """Ends of the interval that holds so many of the resamples, along the first axis.

    Parameters
    ----------
    values : (R, ...) float64
    confidence : float
        In (0, 1); as much is left out on either side.

    Returns
    -------
    low, high : (...) float64
    """
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail], axis=0)
    return low, high
