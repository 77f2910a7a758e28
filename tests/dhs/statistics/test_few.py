"""Few lenses are said to be few, with an interval that simulations confirm."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy import stats

from dhs.statistics.few import few_for_auc


@pytest.mark.parametrize(
    ("lenses", "negatives", "is_few"),
    [
        (1, 1, True),
        (12, 1000, True),
        (1000, 12, True),
        (30, 30, True),
        (60, 60, False),
        (40, 1000, False),
        (1000, 40, False),
    ],
)
def test_few_objects(lenses: int, negatives: int, is_few: bool) -> None:
    said = few_for_auc(lenses, negatives)
    assert (said is not None) == is_few


@pytest.mark.parametrize(("lenses", "negatives"), [(12, 300), (30, 30)])
def test_the_interval_is_as_wide_as_the_scatter(lenses: int, negatives: int) -> None:
    """Draw normal scores with an AUC of 0.9, and count pairs: nothing of ours but the interval."""
    said = few_for_auc(lenses, negatives)
    assert said is not None
    low, high = (float(end) for end in re.findall(r"0\.\d\d", said))
    rng = np.random.default_rng(2)
    shift = np.sqrt(2) * stats.norm.ppf(0.9)
    areas = [
        stats.mannwhitneyu(rng.normal(shift, 1, lenses), rng.normal(0, 1, negatives)).statistic
        / (lenses * negatives)
        for _ in range(2000)
    ]
    # Hanley and McNeil's variance assumes exponential scores, which scatter more.
    assert 1 <= (high - low) / (4 * np.std(areas)) < 1.6
