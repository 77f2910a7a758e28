"""Resampled thresholds, counts and differences: known distributions and planted differences."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from dhs.statistics.differences import compare_detections, compare_recalls, differences
from dhs.statistics.resampling import cluster_weights, resampled_counts, resampled_thresholds
from dhs.statistics.threshold_scatter import threshold_limits


def test_resampled_thresholds_scatter_as_order_statistics() -> None:
    negatives = np.random.default_rng(1).normal(size=20_000)
    drawn = resampled_thresholds([negatives], [0.001, 0.01], 4000, 3)
    assert drawn.shape == (4000, 1, 2)
    for k, rate in enumerate((0.001, 0.01)):
        low, high = np.quantile(drawn[:, 0, k], [0.025, 0.975])
        expected = threshold_limits(np.sort(negatives), rate)
        assert (low, high) == pytest.approx(expected, abs=0.08)


def test_models_share_the_weights_of_objects() -> None:
    negatives = np.random.default_rng(2).normal(size=3000)
    drawn = resampled_thresholds([negatives, negatives, -negatives], [0.01], 300, 4)[..., 0]
    assert np.array_equal(drawn[:, 0], drawn[:, 1])
    assert abs(np.corrcoef(drawn[:, 0], drawn[:, 2])[0, 1]) < 0.2
    assert np.array_equal(
        drawn, resampled_thresholds([negatives, negatives, -negatives], [0.01], 300, 4)[..., 0]
    )


def test_tied_scores_have_a_threshold() -> None:
    drawn = resampled_thresholds([np.zeros(2000)], [0.01], 50, 1)
    assert (drawn == 0).all()


def test_counts_are_sums_of_weights() -> None:
    rng = np.random.default_rng(5)
    scores, clusters, cells = (
        rng.normal(size=(2, 500)),
        rng.integers(0, 20, 500),
        rng.integers(0, 6, 500),
    )
    cells[cells == 3] = 5
    thresholds, weights = rng.normal(size=(4, 2, 2)), cluster_weights(20, 4, 7)
    detected, trials = resampled_counts(scores, clusters, cells, thresholds, weights)
    assert detected.shape == (4, 2, 2, 6)
    for r in range(4):
        weight = weights[r, clusters]
        assert trials[r] == pytest.approx(np.bincount(cells, weight, minlength=6))
        for m in range(2):
            for f in range(2):
                above = weight * (scores[m] > thresholds[r, m, f])
                assert detected[r, m, f] == pytest.approx(np.bincount(cells, above, minlength=6))
    assert (trials[:, 3] == 0).all()


def test_a_normal_difference_has_the_normal_interval_and_p() -> None:
    drawn = np.random.default_rng(6).normal(5, 0.01, (20_000, 1))
    got = differences([0.025], drawn, [100_000])
    assert (got.low[0], got.high[0]) == pytest.approx((0.025 - 0.0196, 0.025 + 0.0196), abs=5e-4)
    assert got.p_value[0] == pytest.approx(2 * stats.norm.sf(2.5), abs=2e-3)
    assert (got.joint_low[0], got.p_adjusted[0]) == (got.low[0], got.p_value[0])


def test_many_rows_are_judged_together() -> None:
    drawn = np.random.default_rng(7).normal(0, 0.01, (4000, 50))
    got = differences(np.full(50, 0.025), drawn, np.full(50, 100_000))
    # Sidak: the rows are independent.
    expected = 1 - (1 - 2 * stats.norm.sf(2.5)) ** 50
    assert got.p_adjusted == pytest.approx(expected, abs=0.06)
    assert (got.joint_low < got.low).all()
    assert ((got.p_value < 0.05) == (got.low > 0)).all()


def test_few_hosts_and_no_difference_are_not_certain() -> None:
    got = differences([0.0, 0.1, np.nan], np.zeros((200, 3)), [12, 12, 0])
    assert got.low[0] < -0.1 < 0.1 < got.high[0]
    assert got.p_value[0] == 1
    assert got.p_value[1] > 0.05
    assert np.isnan([got.p_value[2], got.low[2], got.p_adjusted[2]]).all()


def test_a_planted_difference_is_found_in_its_cell() -> None:
    rng = np.random.default_rng(8)
    cells, clusters = np.repeat(np.arange(5), 400), np.tile(np.arange(200), 10)
    scores = rng.normal(2, 1, 2000) + rng.normal(0, 0.2, (2, 2000))
    scores[0, cells == 2] += 1.5
    negatives = list(rng.normal(0, 1, 4000) + rng.normal(0, 0.1, (2, 4000)))
    drawn = resampled_thresholds(negatives, [0.02], 400, 1)
    at = np.array([[np.quantile(values, 0.98)] for values in negatives])
    rows = np.r_[np.eye(5), np.ones((1, 5))]
    (got,) = compare_detections(scores, clusters, cells, rows, at, drawn)
    assert np.flatnonzero(got.p_adjusted[:5] < 0.05).tolist() == [2]
    share = (scores > at).reshape(2, 5, 400).mean(2)
    assert got.value[:5] == pytest.approx(share[0] - share[1])
    assert got.value[5] == pytest.approx(got.value[:5].mean())
    (other,) = compare_detections(scores[::-1], clusters, cells, rows, at[::-1], drawn[:, ::-1])
    assert other.value == pytest.approx(-got.value)
    assert other.p_adjusted == pytest.approx(got.p_adjusted, abs=0.02)


def test_recalls_of_a_better_model_differ_and_of_the_same_do_not() -> None:
    rng = np.random.default_rng(9)
    lenses, negatives = rng.normal(3, 1, 800), rng.normal(0, 1, 4000)
    worse = np.stack([lenses, lenses - rng.exponential(1, 800)])
    both = np.stack([negatives, negatives])
    got = compare_recalls(worse, both, 0.01, resamples=300)
    assert got.p_value < 0.01
    assert 0 < got.low < got.difference < got.high
    assert got.difference == pytest.approx(got.first - got.second)
    same = compare_recalls(np.stack([lenses, lenses]), both, 0.01, resamples=300)
    assert (same.difference, same.p_value) == (0, 1)
    with pytest.raises(ValueError, match="10000 non-lenses"):
        compare_recalls(worse, both, 0.001)
