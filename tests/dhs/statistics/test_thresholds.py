"""Thresholds: one rule for the rank, and logits too large to exponentiate as a float."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dhs.statistics.metrics import recall_at_fpr
from dhs.statistics.thresholds import (
    allowed_false_positives,
    find_thresholds,
    sigmoid,
    smallest_rate,
    supports_fpr,
    threshold_of,
)


@pytest.mark.parametrize("allowed", [0, 1, 10, 999, 1000, 2000])
@pytest.mark.parametrize("decimals", [0, 6])
def test_threshold_is_the_lowest_value_that_few_enough_exceed(allowed: int, decimals: int) -> None:
    scores = np.random.default_rng(1).normal(0, 3, 1000).round(decimals)
    candidates = [value for value in np.unique(scores) if (scores > value).sum() <= allowed]
    assert threshold_of(np.sort(scores), allowed) == min(candidates)


def test_threshold_of_a_resample_is_that_of_the_repeated_values() -> None:
    rng = np.random.default_rng(2)
    ordered = np.sort(rng.normal(0, 1, 50).round(1))
    counts = np.bincount(rng.integers(0, 50, 50), minlength=50)
    allowed = np.arange(50)
    repeated = np.repeat(ordered, counts)
    drawn = threshold_of(ordered, allowed, np.r_[0, counts.cumsum()])
    assert np.array_equal(drawn, threshold_of(repeated, allowed))


def test_recall_and_grid_set_the_same_threshold() -> None:
    negatives = np.random.default_rng(3).normal(-4, 2, 5000).astype(np.float32)
    (found,) = find_thresholds([], [0.01], negatives)
    recall = recall_at_fpr([0.0], negatives, 0.01)
    assert (found.logit, found.false_positives) == (recall.threshold, recall.false_positives)
    assert found.false_positives == allowed_false_positives(5000, 0.01) == 50


@pytest.mark.parametrize("logit", [-1e4, -745.2, -709.9, 0.0, 800.0])
def test_threshold_at_an_extreme_logit_has_a_score(logit: float) -> None:
    negatives = np.full(100, logit, np.float32)
    (found,) = find_thresholds([], [0.5], negatives)
    expected = 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0
    assert found.logit == np.float32(logit)
    assert found.threshold == pytest.approx(expected, abs=1e-300)


def test_sigmoid_is_that_of_the_math_module() -> None:
    logits = np.random.default_rng(4).normal(0, 30, 1000)
    assert sigmoid(logits).tolist() == [1 / (1 + math.exp(-value)) for value in logits]


@pytest.mark.parametrize(("negatives", "fpr"), [(20_000, 1e-3), (9_999, 1e-3), (1_000, 0.01)])
def test_a_supported_rate_is_one_that_allows_enough_false_positives(
    negatives: int, fpr: float
) -> None:
    if supports_fpr(negatives, fpr):
        assert allowed_false_positives(negatives, fpr) >= 10
    else:
        with pytest.raises(ValueError, match="non-lenses"):
            allowed_false_positives(negatives, fpr)


def test_the_smallest_rate_is_allowed_and_a_smaller_one_of_two_digits_is_not() -> None:
    for negatives in [*range(11, 200), 453, 1100, 9_999, 20_000, 123_457]:
        rate = smallest_rate(negatives)
        assert rate is not None
        assert allowed_false_positives(negatives, rate) >= 10
        unit = 10.0 ** (math.floor(math.log10(rate)) - 1)
        smaller = float(f"{rate - unit:.12g}") if rate > 10.5 * unit else 0.99 * rate
        with pytest.raises(ValueError, match="at least"):
            allowed_false_positives(negatives, smaller)
    assert [smallest_rate(count) for count in (47, 1000, 10)] == [0.22, 0.01, None]


def test_the_smallest_rate_is_named_where_a_smaller_one_is_asked_for() -> None:
    with pytest.raises(
        ValueError, match=r"1000 non-lenses\. Give .*, or a rate of at least 0\.22\."
    ):
        allowed_false_positives(47, 0.01)
    with pytest.raises(ValueError, match=r"Give more non-lenses\.$"):
        allowed_false_positives(10, 0.9)
