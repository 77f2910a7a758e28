"""Calibration of scores: the reliability curve and the expected calibration error."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dhs.statistics.intervals import binomial_interval

BINS = 15
DEFINITION = (
    "ECE: sum over 15 bins of equal width of (objects in the bin / all objects) * |share of "
    "lenses - mean score|, of the probability of a lens (Naeini et al. 2015); Guo et al. (2017) "
    "take the confidence of the likelier class instead. It holds for this share of lenses only."
)


class ReliabilityBin(NamedTuple):
    """A bin of scores with at least one object.

    ``low``, ``high``: edges of the bin. ``objects``, ``lenses``: numbers of objects and of lenses
    among them. ``mean_score``, ``lens_share``: mean score and fraction of lenses; they agree if
    scores are probabilities. ``share_low``, ``share_high``: 95 % interval of the fraction.
    """

    low: float
    high: float
    objects: int
    lenses: int
    mean_score: float
    lens_share: float
    share_low: float
    share_high: float


class Calibration(NamedTuple):
    """The expected calibration error, and the bins over which it averages."""

    ece: float
    curve: list[ReliabilityBin]


def calibration(
    labels: ArrayLike, scores: ArrayLike, *, bins: int = BINS, interval: str = "wilson"
) -> Calibration:
    """Compare scores with the fraction of lenses among objects of similar score.

    Parameters
    ----------
    labels : (N,) bool, or 0 and 1
    scores : (N,) float
        Probabilities of being a lens, 0 to 1.
    bins : int
        Number of bins of equal width from 0 to 1, at least 1. A score on an edge belongs to the
        lower bin. Empty bins are excluded.
    interval : str
        ``method`` of `dhs.statistics.intervals.binomial_interval`.

    Returns
    -------
    Calibration

    Raises
    ------
    ValueError
        There is no object, or a score is NaN or outside [0, 1].
    """
    is_lens, values = np.asarray(labels, bool).reshape(-1), np.asarray(scores, float).reshape(-1)
    if not values.size or values.shape != is_lens.shape:
        raise ValueError(
            f"labels and scores have {is_lens.size} and {values.size} entries; give one label per "
            "score, and at least one."
        )
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("scores has values that are not probabilities; give values from 0 to 1.")
    edges = np.linspace(0, 1, bins + 1)
    number = np.clip(np.searchsorted(edges, values, "left") - 1, 0, bins - 1)
    objects = np.bincount(number, minlength=bins)
    lenses = np.bincount(number, is_lens, minlength=bins).astype(int)
    sums = np.bincount(number, values, minlength=bins)
    curve = [
        _bin(edges[k : k + 2], int(objects[k]), int(lenses[k]), float(sums[k]), interval)
        for k in np.flatnonzero(objects)
    ]
    errors = [item.objects * abs(item.lens_share - item.mean_score) for item in curve]
    return Calibration(sum(errors) / values.size, curve)


def _bin(
    edges: NDArray[np.float64], objects: int, lenses: int, score_sum: float, interval: str
) -> ReliabilityBin:
    low, high = binomial_interval(lenses, objects, interval)
    return ReliabilityBin(
        float(edges[0]),
        float(edges[1]),
        objects,
        lenses,
        score_sum / objects,
        lenses / objects,
        low,
        high,
    )
