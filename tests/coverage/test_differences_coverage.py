"""Tests of equal models reject as often as they say, with the thresholds resampled."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from dhs.statistics.differences import compare_detections, compare_recalls
from dhs.statistics.resampling import resampled_thresholds
from tests.coverage.coverage_rows import LEVEL, RUNS, hold

pytestmark = pytest.mark.coverage

NEGATIVES = 3000
RESAMPLES = 300


def correlated(
    rng: np.random.Generator, centre: float, correlation: float, number: int
) -> NDArray[np.float64]:
    """Draw scores of the same objects by two equal models."""
    common, own = rng.normal(size=number), rng.normal(size=(2, number))
    scores = centre + np.sqrt(correlation) * common + np.sqrt(1 - correlation) * own
    return np.asarray(scores, np.float64)


@pytest.mark.parametrize("correlation", [0.5, 0.95])
@pytest.mark.parametrize(
    ("lenses", "allowed", "recall"), [(1226, 200, 0.9), (600, 20, 0.8), (1000, 10, 0.66)]
)
def test_equal_recalls(lenses: int, allowed: int, recall: float, correlation: float) -> None:
    rng, fpr = np.random.default_rng(8), allowed / NEGATIVES
    centre = float(stats.norm.isf(fpr) - stats.norm.isf(recall))
    rejected, covered = [], []
    for seed in range(RUNS):
        got = compare_recalls(
            correlated(rng, centre, correlation, lenses),
            correlated(rng, 0, correlation, NEGATIVES),
            fpr,
            resamples=RESAMPLES,
            seed=seed,
        )
        rejected.append(got.p_value < 0.05)
        covered.append(got.low <= 0 <= got.high)
    name = f"equal recalls {recall:g} of {lenses}, {allowed} false positives"
    hold(f"{name}, correlation {correlation:g}: p < 0.05", rejected, LEVEL)
    # The p-value and the interval say the same.
    assert np.mean(np.equal(rejected, covered)) < 0.02


@pytest.mark.parametrize("allowed", [200, 20, 10])
def test_equal_models_on_a_grid(allowed: int) -> None:
    rng, fpr, hosts, cells = np.random.default_rng(123), allowed / NEGATIVES, 60, 8
    number = hosts * cells * 2
    cell, host = np.arange(number) % cells, np.arange(number) // cells % hosts
    rows = np.r_[np.eye(cells), np.ones((1, cells))]
    any_cell, overall = [], []
    for seed in range(RUNS):
        negatives = correlated(rng, 0, 0.8, NEGATIVES)
        shared = 0.7 * correlated(rng, 0, 0.8, hosts)[:, host]
        centre = stats.norm.isf(fpr) - 0.5 + 0.1 * cell
        scores = centre + shared + 0.7 * correlated(rng, 0, 0.8, number)
        drawn = resampled_thresholds(list(negatives), [fpr], RESAMPLES, seed)
        at = np.sort(negatives, 1)[:, [NEGATIVES - 1 - allowed]]
        (got,) = compare_detections(scores, host, cell, rows, at, drawn, seed=seed)
        any_cell.append((got.p_adjusted[:cells] < 0.05).any())
        overall.append(got.p_value[cells] < 0.05)
    name = f"equal models on a grid, {allowed} false positives"
    hold(f"{name}: p < 0.05 over all cells", overall, LEVEL)
    hold(f"{name}: runs with a significant cell", any_cell, (0.005, 0.07))
