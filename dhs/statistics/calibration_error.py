"""Expected calibration error without its bias, and an interval of it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

METHOD = (
    "debiased ECE: the mean error of each bin minus what noise alone adds, 0 on average if scores "
    "are calibrated (after Roelofs et al. 2022); a negative value is 0, but for "
    "ece_debiased_signed; interval: parametric bootstrap of the bins; its lower "
    "end is 0 unless calibration is rejected"
)

_DECAY = 3.0
"""The noise of a bin that is subtracted fades with exp(-3 (error / sigma)**2 / 2)."""


class DebiasedError(NamedTuple):
    """Calibration error without bias: ``value``, which may be negative, ``low`` and ``high``."""

    value: float
    low: float
    high: float


def debiased_error(
    objects: Float,
    mean_score: Float,
    lens_share: Float,
    score_variance: Float,
    *,
    confidence: float = 0.95,
    resamples: int = 400,
    seed: int = 1,
) -> DebiasedError:
    """Return the expected calibration error without its bias, with an interval.

    The plain error grows with noise, because it averages absolute values (Roelofs et al. 2022,
    AISTATS 151, 4036). The noise of every bin is subtracted, less where the error is many sigma,
    and scaled so that the mean is 0 under perfect calibration. The lower end of the interval is
    from a parametric bootstrap with errors shrunk towards 0 (James & Stein 1961), and 0 unless the
    value exceeds what calibrated scores give. The upper end is the largest of three bootstraps:
    with shrunk errors, with those of the data, and with errors of one sigma in every bin, for which
    the bias is worst.

    Parameters
    ----------
    objects, mean_score, lens_share : (B,) float64
        Number of objects, mean score and fraction of lenses of every bin with an object.
    score_variance : (B,) float64
        Mean of score * (1 - score) in every bin.
    confidence : float
        In (0, 1).
    resamples : int
        Number of resamples.
    seed : int
        Random seed.

    Returns
    -------
    DebiasedError
    """
    rng = np.random.default_rng(seed)
    mean_score = np.clip(mean_score, 0, 1)  # a mean of ones may exceed 1 by rounding
    error = lens_share - mean_score
    variance = np.maximum(score_variance, 1e-12)
    sigma = np.sqrt(variance / objects)
    calibrated = rng.binomial(objects.astype(np.int64), mean_score, (resamples, objects.size))
    null = calibrated / objects - mean_score
    noise = _noise(objects, null, sigma).mean()
    scale = _mean_error(objects, null).mean() / noise if noise > 0 else 0.0

    def debiased(counts: Float, errors: Float, sigmas: Float) -> Float:
        return _mean_error(counts, errors) - scale * _noise(counts, errors, sigmas)

    value = float(debiased(objects, error, sigma))
    total = int(objects.sum())
    counts = rng.multinomial(total, objects / total, resamples)
    some = np.maximum(counts, 1).astype(np.float64)
    tails = (1 + confidence) / 2, (1 - confidence) / 2
    chi = float(((error / sigma) ** 2).sum())
    kept = np.sqrt(max(0.0, 1 - objects.size / chi)) if chi > 0 else 0.0
    worst = np.where(error < 0, -1, 1) * np.maximum(sigma, kept * np.abs(error))
    ends = []
    for assumed in (kept * error, error, worst):
        share = np.clip(mean_score + assumed, 0, 1)
        found = np.where(counts > 0, rng.binomial(counts, share) / some - mean_score, 0)
        drawn = debiased(counts.astype(np.float64), found, np.sqrt(variance / some))
        ends.append(value - np.quantile(drawn - _mean_error(objects, share - mean_score), tails))
    is_rejected = value > np.quantile(debiased(objects, null, sigma), tails[0])
    low = max(float(ends[0][0]), 0.0) if is_rejected else 0.0
    high = min(max(float(max(end[1] for end in ends)), 0.0), 1.0)
    return DebiasedError(value, min(low, max(value, 0.0)), max(high, value))


def _mean_error(objects: Float, errors: Float) -> Float:
    return np.asarray((objects * np.abs(errors)).sum(-1) / objects.sum(-1), np.float64)


def _noise(objects: Float, errors: Float, sigma: Float) -> Float:
    """Return the mean noise of the bins, faded where the error is many sigma."""
    faded = sigma * np.exp(-_DECAY * (errors / sigma) ** 2 / 2)
    return np.asarray((objects * faded).sum(-1) / objects.sum(-1), np.float64)
