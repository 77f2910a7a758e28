"""Scatter of a threshold: exact limits of order statistics, and the two kinds of recall."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from dhs.statistics.intervals import binomial_interval
from dhs.statistics.metrics import recall_at_fpr, recall_at_threshold
from dhs.statistics.threshold_scatter import (
    expected_rate,
    rate_remark,
    threshold_limits,
    with_threshold_scatter,
)
from dhs.statistics.thresholds import find_thresholds


def test_limits_are_order_statistics_with_their_beta_distribution() -> None:
    ordered = np.arange(1.0, 1001.0)
    low, high = threshold_limits(ordered, 0.02)
    # The score of rank j from the top is 1001 - j.
    for threshold, chance in ((low, 0.025), (high, 0.975)):
        rank = 1001 - threshold
        assert stats.beta.cdf(0.02, rank, 1001 - rank) == pytest.approx(chance, abs=1e-6)
    assert low < 1001 - 20 < high


def test_limits_contain_the_true_threshold() -> None:
    rng, true = np.random.default_rng(1), stats.norm.isf(0.01)
    hits = []
    for _ in range(1000):
        low, high = threshold_limits(np.sort(rng.normal(size=1000)), 0.01)
        hits.append(low <= true <= high)
    assert 0.93 < np.mean(hits) < 0.97


def test_limits_of_a_rate_beyond_the_data_are_the_lowest_score() -> None:
    assert threshold_limits(np.arange(5.0), 0.999)[0] == 0


def test_scatter_widens_each_side_for_itself_and_keeps_what_is_not_known() -> None:
    low, high = with_threshold_scatter(0.5, (0.4, 0.6), (0.5 + 0.24, 0.5))
    assert (float(low), float(high)) == pytest.approx((0.4, 0.5 + 0.26))
    low, high = with_threshold_scatter([0.9, 0.9], ([0.8, np.nan], [1, np.nan]), (1.0, 0.1))
    assert low[0] == pytest.approx(0.9 - np.hypot(0.1, 0.8))
    assert high[0] == 1
    assert np.isnan([low[1], high[1]]).all()


def test_the_rate_of_few_false_positives_is_remarked() -> None:
    assert expected_rate(10, 9_999) == pytest.approx(11 / 10_000)
    remark = rate_remark(10, 9_999)
    assert remark is not None
    assert "10 false positives" in remark
    assert "10 % above" in remark
    # The rate to quote comes before that of the sample.
    quoted = rate_remark(11, 47)
    assert quoted is not None
    assert "quote the rate expected of other non-lenses, 0.25, " in quoted
    assert "6.8 % above the 0.234 of these" in quoted
    assert rate_remark(50, 1000) is None
    assert rate_remark(0, 1000) is not None


def test_a_recall_says_which_interval_it_has() -> None:
    rng = np.random.default_rng(2)
    lenses, negatives = rng.normal(3, 1, 400), rng.normal(0, 1, 2000)
    at_rate = recall_at_fpr(lenses, negatives, 0.01)
    given = recall_at_threshold(lenses, negatives, at_rate.threshold)
    assert (at_rate.interval_kind, given.interval_kind) == ("unconditional", "conditional")
    assert (given.low, given.high) == binomial_interval(given.found, 400)
    assert (at_rate.conditional_low, at_rate.conditional_high) == (given.low, given.high)
    assert at_rate.low < given.low < given.high < at_rate.high
    assert at_rate.expected_fpr == 21 / 2001
    assert at_rate.remark is not None
    assert (given.fpr, given.remark) == (None, None)
    many = recall_at_fpr(lenses, rng.normal(0, 1, 6000), 0.01)
    assert many.remark is None
    with pytest.raises(ValueError, match="needs lenses"):
        recall_at_threshold([], negatives, 0)
    with pytest.raises(ValueError, match="needs non-lenses"):
        recall_at_threshold(lenses, [], 0)


def test_thresholds_of_grids_have_limits_too() -> None:
    negatives = np.random.default_rng(3).normal(-4, 2, 5000).astype(np.float32)
    fixed, found = find_thresholds([0.5], [0.01], negatives)
    assert (found.logit_low, found.logit_high) == threshold_limits(np.sort(negatives), 0.01)
    assert found.expected_fpr == 51 / 5001
    assert (fixed.logit_low, fixed.expected_fpr) == (None, None)
    assert (fixed.interval_kind, found.interval_kind) == ("conditional", "unconditional")
