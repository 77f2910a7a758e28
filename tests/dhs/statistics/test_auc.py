"""The interval of the AUC: known variances, perfect separation, and too few objects."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from dhs.statistics.auc import FEWEST_OBJECTS, auc_interval
from dhs.statistics.metrics import roc_auc


def test_the_area_is_that_of_scikit_learn_with_ties() -> None:
    rng = np.random.default_rng(1)
    lenses, negatives = rng.normal(1, 1, 80).round(1), rng.normal(0, 1, 300).round(1)
    got = auc_interval(lenses, negatives)
    assert got.value == pytest.approx(roc_auc(np.arange(380) < 80, np.r_[lenses, negatives]))
    assert got.low < got.value < got.high
    inner = auc_interval(lenses, negatives, 0.68)
    assert got.low < inner.low < inner.high < got.high


def test_for_many_objects_the_interval_is_that_of_delong() -> None:
    rng = np.random.default_rng(2)
    lenses, negatives = rng.normal(1, 1, 4000), rng.normal(0, 1, 6000)
    got = auc_interval(lenses, negatives)
    wins = (lenses[:, None] > negatives).astype(float)
    parts = wins.mean(1).var(ddof=1) / 4000 + wins.mean(0).var(ddof=1) / 6000
    reach = stats.norm.isf(0.025) * np.sqrt(parts)
    assert not got.uses_score_interval
    assert (got.low, got.high) == pytest.approx((got.value - reach, got.value + reach), abs=2e-4)


def test_perfect_separation_has_an_interval_that_shrinks_with_lenses() -> None:
    lows = [auc_interval(np.arange(n) + 1e6, np.arange(4000.0)).low for n in (20, 60, 1226)]
    assert lows == sorted(lows)
    assert lows[0] > 0.9
    assert lows[2] < 1
    assert auc_interval(np.arange(60) + 1e6, np.arange(4000.0)).high == 1
    worst = auc_interval(np.arange(60.0), np.arange(4000.0) + 1e6)
    assert worst.low == 0
    assert worst.high == pytest.approx(1 - lows[1])


def test_scores_that_say_nothing_have_an_interval() -> None:
    got = auc_interval(np.zeros(60), np.zeros(900))
    assert got.low < 0.45 < 0.55 < got.high


def test_too_few_objects_have_no_interval() -> None:
    for lenses, negatives in ((FEWEST_OBJECTS - 1, 100), (100, FEWEST_OBJECTS - 1)):
        got = auc_interval(np.arange(lenses), np.arange(negatives))
        assert got.is_too_few
        assert np.isnan(got.low)
        assert np.isnan(got.high)
        assert 0 <= got.value <= 1
    assert not auc_interval(np.arange(FEWEST_OBJECTS), np.arange(100)).is_too_few


@pytest.mark.parametrize(
    ("lenses", "negatives", "confidence", "named"),
    [
        ([], [1.0], 0.95, "at least one"),
        ([1.0], [np.nan], 0.95, "NaN"),
        ([1.0], [1.0], 0.0, "confidence"),
    ],
)
def test_wrong_input_is_named(
    lenses: list[float], negatives: list[float], confidence: float, named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        auc_interval(lenses, negatives, confidence)
