"""Recall at a fixed false-positive rate, intervals and AUC, against published values and tools."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from dhs.metrics import binomial_interval, recall_at_fpr, roc_auc


@pytest.mark.parametrize(
    ("method", "low", "high"),
    [
        ("wilson", 0.656955365, 0.824547886),
        ("clopper-pearson", 0.653447504, 0.831220262),
    ],
)
def test_intervals_of_75_in_100(method: str, low: float, high: float) -> None:
    assert binomial_interval(75, 100, method) == pytest.approx((low, high), abs=1e-9)


def test_jeffreys_has_open_ends_only_inside() -> None:
    # Brown, Cai & DasGupta (2001), section 3.1.1.
    assert binomial_interval(0, 10, "jeffreys")[0] == 0
    assert binomial_interval(10, 10, "jeffreys")[1] == 1
    low, high = binomial_interval(3, 10, "jeffreys", 0.95)
    assert (low, high) == pytest.approx((0.0927, 0.6058), abs=1e-4)


@pytest.mark.parametrize("method", ["wilson", "clopper-pearson", "jeffreys"])
def test_intervals_mirror_and_nest(method: str) -> None:
    low, high = binomial_interval(30, 200, method)
    assert binomial_interval(170, 200, method) == pytest.approx((1 - high, 1 - low))
    inner = binomial_interval(30, 200, method, 0.68)
    assert low < inner[0] < 0.15 < inner[1] < high


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((5, 4), "successes=5"),
        ((0, 0), "trials=0"),
        ((1, 2, "normal"), "'normal'"),
        ((1, 2, "wilson", 1.0), "confidence=1.0"),
    ],
)
def test_a_wrong_interval_is_named(arguments: tuple[int, int], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        binomial_interval(*arguments)


@pytest.mark.parametrize("fpr", [0.01, 0.1])
def test_recall_agrees_with_the_roc_curve(fpr: float) -> None:
    rng = np.random.default_rng(3)
    # Rounded, so that there are ties.
    lenses, negatives = rng.normal(2, 1, 300).round(1), rng.normal(0, 1, 2000).round(1)
    got = recall_at_fpr(lenses, negatives, fpr)
    truth = np.r_[np.ones(300), np.zeros(2000)]
    rates, recalls, _ = roc_curve(truth, np.r_[lenses, negatives], drop_intermediate=False)
    assert got.recall == recalls[rates <= fpr].max()
    assert got.false_positives <= fpr * got.negatives
    assert got.low < got.recall < got.high


def test_twenty_thousand_negatives_define_a_rate_of_a_thousandth() -> None:
    negatives = np.arange(20_000.0)
    got = recall_at_fpr([19_979.5, 19_978.5], negatives, 1e-3)
    assert (got.threshold, got.false_positives, got.found) == (19_979.0, 20, 1)


def test_too_few_negatives_are_refused_with_the_number_needed() -> None:
    with pytest.raises(ValueError, match="10000 negatives"):
        recall_at_fpr([1.0], np.arange(9_999.0), 1e-3)


def test_nan_is_no_score() -> None:
    with pytest.raises(ValueError, match="1 NaN of 2"):
        roc_auc([0, 1], [0.0, np.nan])
    with pytest.raises(ValueError, match="lens_scores"):
        recall_at_fpr([np.nan], np.arange(2000.0), 0.01)
    with pytest.raises(ValueError, match="needs lenses"):
        recall_at_fpr([], np.arange(2000.0), 0.01)


def test_auc_is_that_of_scikit_learn_and_needs_both_classes() -> None:
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 100), rng.normal(size=100)
    assert roc_auc(labels, scores) == roc_auc_score(labels, scores)
    assert roc_auc(np.ones(3), [1, 2, 3]) is None
