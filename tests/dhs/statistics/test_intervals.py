"""Binomial intervals agree with published values and with the posterior."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import betainc

from dhs.statistics.intervals import (
    binomial_interval,
    clopper_pearson_intervals,
    jeffreys_intervals,
)


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


def test_jeffreys_intervals_are_quantiles_of_the_posterior() -> None:
    found, total = np.array([0, 3, 40, 40, 0]), np.array([40, 40, 40, 41, 0])
    low, high = jeffreys_intervals(found, total, 0.95)
    assert (low[0], high[2]) == (0.0, 1.0)
    assert np.isnan([low[4], high[4]]).all()
    for k in (1, 3):
        shape = (found[k] + 0.5, total[k] - found[k] + 0.5)
        assert betainc(*shape, low[k]) == pytest.approx(0.025)
        assert betainc(*shape, high[k]) == pytest.approx(0.975)


def test_clopper_pearson_intervals_are_those_of_each() -> None:
    found, total = np.array([0, 3, 40, 39, 1]), np.array([40, 40, 40, 41, 1])
    got = clopper_pearson_intervals(found, total, 0.99)
    each = [
        binomial_interval(int(s), int(n), "clopper-pearson", 0.99)
        for s, n in zip(found, total, strict=True)
    ]
    assert np.transpose(got) == pytest.approx(np.array(each), abs=1e-9)
