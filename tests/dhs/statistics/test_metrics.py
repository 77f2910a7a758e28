"""Recall at a fixed rate, AUC, calibration and bootstrap agree with independent tools."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score, roc_curve

from dhs.statistics.bootstrap import percentile_interval, resample
from dhs.statistics.calibration import calibration
from dhs.statistics.intervals import binomial_interval
from dhs.statistics.metrics import recall_at_fpr, roc_auc


@pytest.mark.parametrize("fpr", [0.01, 0.1])
def test_recall_agrees_with_the_roc_curve(fpr: float) -> None:
    rng = np.random.default_rng(3)
    # Round the scores to create ties.
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
    with pytest.raises(ValueError, match="10000 non-lenses"):
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


@pytest.mark.parametrize(
    ("labels", "error", "said"),
    [
        ([0.2, 1.0], ValueError, r"labels\[0\]=0\.2 is not a label; give 1 .*labels, then scores"),
        ([0, 2], ValueError, r"labels\[1\]=2 is"),
        ([-1, 1], ValueError, r"labels\[0\]=-1 is"),
        ([1.0, np.nan], ValueError, r"labels\[1\]=nan is"),
        (["0", "1"], TypeError, "labels has dtype <U1"),
        (np.array([0, None]), TypeError, "labels has dtype object"),
        (np.ma.masked_array([0, 1], [False, True]), TypeError, "masked"),
    ],
)
def test_labels_are_0_or_1(labels: Any, error: type[Exception], said: str) -> None:
    for function in (calibration, roc_auc):
        with pytest.raises(error, match=said):
            function(labels, [0.0, 1.0])


def test_labels_may_be_of_any_type_of_number() -> None:
    scores = [0.1, 0.9, 0.8]
    expected = calibration([False, True, False], scores), roc_auc([False, True, False], scores)
    for dtype in (bool, np.int8, np.uint64, np.float32, ">f8"):
        labels = np.array([0, 1, 0], dtype)
        assert (calibration(labels, scores), roc_auc(labels, scores)) == expected


def test_one_label_per_score() -> None:
    for function in (calibration, roc_auc):
        with pytest.raises(ValueError, match="3 and 2 entries"):
            function([0, 1, 0], [0.0, 1.0])


def test_ece_by_hand() -> None:
    # Two bins: scores 0.1, 0.3, 0.5 with one lens, and scores 0.9, 1.0 with one lens.
    got = calibration([0, 0, 1, 1, 0], [0.1, 0.3, 0.5, 0.9, 1.0], bins=2)
    low, high = got.curve
    assert (low.objects, low.lenses, high.objects, high.lenses) == (3, 1, 2, 1)
    assert (low.mean_score, high.mean_score) == pytest.approx((0.3, 0.95))
    assert got.ece == pytest.approx(3 / 5 * (1 / 3 - 0.3) + 2 / 5 * (0.95 - 0.5))
    assert (low.share_low, low.share_high) == binomial_interval(1, 3)


def test_bins_without_an_object_are_left_out() -> None:
    got = calibration([0, 1], [0.0, 1.0])
    assert [(item.low, item.high) for item in got.curve] == [(0, 1 / 15), (14 / 15, 1)]
    assert got.ece == 0


def test_calibrated_scores_have_little_ece_and_overconfident_ones_much() -> None:
    rng = np.random.default_rng(5)
    truth = rng.random(40_000)
    labels = rng.random(40_000) < truth
    assert calibration(labels, truth).ece < 0.01
    overconfident = truth**3 / (truth**3 + (1 - truth) ** 3)
    assert calibration(labels, overconfident).ece > 0.1


def test_the_debiased_error_is_free_of_noise() -> None:
    rng, plain, debiased = np.random.default_rng(8), [], []
    for _ in range(100):
        truth = rng.random(200)
        got = calibration(rng.random(200) < truth, truth)
        plain.append(got.ece)
        debiased.append(got.ece_debiased)
    assert np.mean(plain) > 0.06
    assert abs(np.mean(debiased)) < 0.01


def test_the_interval_of_the_error_is_of_the_errors_kind() -> None:
    rng = np.random.default_rng(9)
    truth = rng.random(4000)
    labels = rng.random(4000) < truth
    calibrated, other = calibration(labels, truth), calibration(labels, truth / 2)
    assert calibrated.ece_low == 0
    # The mean score is 0.25, and half of the objects are lenses.
    assert other.ece_low < 0.25 < other.ece_high < 0.3
    assert other.ece_debiased == pytest.approx(other.ece, abs=1e-3)
    assert calibration(labels, truth) == calibrated
    certain = calibration([0, 1, 1], [0.0, 1.0, 1.0])
    assert (certain.ece_debiased, certain.ece_low) == (0, 0)


def test_the_band_holds_all_bins_at_once() -> None:
    scores = np.random.default_rng(10).random(600)
    got = calibration(np.random.default_rng(11).random(600) < scores, scores, bins=10)
    joint = 0.95 ** (1 / 10)
    for item in got.curve:
        expected = binomial_interval(item.lenses, item.objects, "clopper-pearson", joint)
        assert (item.band_low, item.band_high) == pytest.approx(expected, abs=1e-9)
        assert item.band_low <= item.share_low < item.share_high <= item.band_high


@pytest.mark.parametrize("scores", [[0.5, 1.5], [0.5, np.nan], [0.5]])
def test_what_is_no_probability_is_not_calibrated(scores: list[float]) -> None:
    with pytest.raises(ValueError, match="scores"):
        calibration([0, 1], scores)


def test_a_resample_is_what_drawing_the_objects_gives() -> None:
    rng = np.random.default_rng(6)
    # Round the scores to create ties.
    lenses, negatives = rng.normal(1, 1, (2, 40)).round(1), rng.normal(0, 1, (2, 300)).round(1)
    got = resample(list(lenses), list(negatives), [30, 15], resamples=5, seed=9)
    draws = np.random.default_rng(9)
    for k in range(5):
        lens, negative = draws.integers(0, 40, 40), draws.integers(0, 300, 300)
        for j in range(2):
            ours, theirs = lenses[j, lens], negatives[j, negative]
            area = roc_auc(np.arange(340) < 40, np.r_[ours, theirs])
            assert got.auc[k, j] == pytest.approx(area, rel=1e-12)
            for i, fpr in enumerate((0.1, 0.05)):
                recall = recall_at_fpr(ours, theirs, fpr)
                assert got.thresholds[k, j, i] == recall.threshold
                assert got.recalls[k, j, i] == pytest.approx(recall.recall)


def test_bootstrap_intervals_cover() -> None:
    rng, shift, covered = np.random.default_rng(7), 1.5, []
    area, recall = norm.cdf(shift / np.sqrt(2)), norm.sf(norm.isf(0.1) - shift)
    for seed in range(60):
        lenses, negatives = rng.normal(shift, 1, 100), rng.normal(0, 1, 400)
        drawn = resample([lenses], [negatives], [40], resamples=100, seed=seed)
        pairs = ((drawn.auc[:, 0], area), (drawn.recalls[:, 0, 0], recall))
        ends = [(*percentile_interval(values), truth) for values, truth in pairs]
        covered.append([low <= truth <= high for low, high, truth in ends])
    # The nominal coverage is 95 %.
    assert ((np.mean(covered, axis=0) > 0.86) & (np.mean(covered, axis=0) < 1)).all()
