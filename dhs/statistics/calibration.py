"""Calibration of scores: the reliability curve and the expected calibration error."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dhs.arguments import label_array
from dhs.statistics.calibration_error import debiased_error
from dhs.statistics.intervals import binomial_interval, clopper_pearson_intervals

BINS = 15
CONFIDENCE = 0.95
BAND = (
    "simultaneous 95 % band: Clopper-Pearson intervals at the level of Sidak (1967), the default "
    "for judging a curve; bars are of each bin alone"
)
DEFINITION = (
    "ECE: sum over 15 bins of equal width of (objects in the bin / all objects) * |share of "
    "lenses - mean score|, of the probability of a lens (Naeini et al. 2015); Guo et al. (2017) "
    "take the confidence of the likelier class instead. It holds for this share of lenses only."
)


class ReliabilityBin(NamedTuple):
    """A bin of scores with at least one object.

    ``low``, ``high``: edges of the bin. ``objects``, ``lenses``: numbers of objects and of lenses
    among them. ``mean_score``, ``lens_share``: mean score and fraction of lenses; they agree if
    scores are probabilities. ``share_low``, ``share_high``: 95 % interval of the fraction in this
    bin alone. ``band_low``, ``band_high``: 95 % band over all bins at once.
    """

    low: float
    high: float
    objects: int
    lenses: int
    mean_score: float
    lens_share: float
    share_low: float
    share_high: float
    band_low: float
    band_high: float


class Calibration(NamedTuple):
    """The expected calibration error, and the bins over which it averages.

    ``ece``: the plain error, which noise makes too large. ``curve``: bins with an object.
    ``ece_debiased``, ``ece_low``, ``ece_high``: the error without this bias, and its 95 %
    interval; see `dhs.statistics.calibration_error`.
    """

    ece: float
    curve: list[ReliabilityBin]
    ece_debiased: float
    ece_low: float
    ece_high: float


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
    TypeError, ValueError
        There is no object, a label is neither 0 nor 1, or a score is NaN or outside [0, 1].
    """
    is_lens, values = label_array("labels", labels), np.asarray(scores, float).reshape(-1)
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
    variances = np.bincount(number, values * (1 - values), minlength=bins)
    filled = np.flatnonzero(objects)
    # Sidak (1967): all bins are inside at once, since bins are independent.
    joint = CONFIDENCE ** (1 / filled.size)
    bands = np.transpose(clopper_pearson_intervals(lenses[filled], objects[filled], joint))
    curve = [
        _bin(edges[k : k + 2], int(objects[k]), int(lenses[k]), float(sums[k]), interval, band)
        for k, band in zip(filled, bands, strict=True)
    ]
    errors = [item.objects * abs(item.lens_share - item.mean_score) for item in curve]
    counts = objects[filled].astype(np.float64)
    debiased = debiased_error(
        counts, sums[filled] / counts, lenses[filled] / counts, variances[filled] / counts
    )
    return Calibration(sum(errors) / values.size, curve, *debiased)


def _bin(
    edges: NDArray[np.float64],
    objects: int,
    lenses: int,
    score_sum: float,
    interval: str,
    band: NDArray[np.float64],
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
        float(band[0]),
        float(band[1]),
    )
