"""Intervals by cluster: known limits, symmetry, and what too few clusters give."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from dhs.statistics.clusters import FEWEST_CLUSTERS, cluster_interval
from dhs.statistics.intervals import jeffreys_intervals


def test_many_independent_trials_have_the_jeffreys_interval() -> None:
    successes = np.random.default_rng(1).binomial(1, 0.3, 4000)
    found = cluster_interval(successes, np.ones(4000, int))
    expected = jeffreys_intervals(np.asarray(successes.sum()), np.asarray(4000), 0.95)
    assert np.array([found.low, found.high]) == pytest.approx(np.array(expected), abs=5e-4)
    assert found.n_eff == pytest.approx(4000, rel=1e-3)


def test_clusters_that_agree_within_count_once() -> None:
    # All 25 injections of a host are found, or none: only 100 trials are independent.
    hosts = np.random.default_rng(2).binomial(1, 0.5, 100)
    found = cluster_interval(25 * hosts, 25)
    assert found.n_eff == pytest.approx(99, rel=1e-6)
    low, high = jeffreys_intervals(np.asarray(hosts.sum()), np.asarray(100), 0.95)
    assert found.low <= low
    assert found.high >= high
    assert found.high - found.low == pytest.approx(high - low, rel=0.03)


def test_successes_and_failures_mirror_and_confidence_nests() -> None:
    rng = np.random.default_rng(3)
    trials = rng.integers(0, 12, (50, 40))
    successes = rng.binomial(trials, rng.beta(0.4, 1.2, (50, 40)))
    found, mirrored = (cluster_interval(s, trials) for s in (successes, trials - successes))
    assert mirrored.low == pytest.approx(1 - found.high)
    assert mirrored.high == pytest.approx(1 - found.low)
    inner = cluster_interval(successes, trials, 0.68)
    share = successes.sum(-1) / trials.sum(-1)
    assert ((found.low <= inner.low) & (inner.low <= share)).all()
    assert ((share <= inner.high) & (inner.high <= found.high)).all()
    assert (found.n_eff <= trials.sum(-1)).all()
    assert (found.clusters == (trials > 0).sum(-1)).all()


def test_without_a_success_hosts_are_the_trials() -> None:
    found = cluster_interval(np.zeros(20, int), 275)
    assert found.low == 0
    # The posterior of 0 of 20 under Jeffreys' prior, a little wider by the t quantile.
    assert 1 < found.high / stats.beta.ppf(0.975, 0.5, 20) < 1.15
    assert bool(found.is_sparse)


def test_too_few_clusters_have_no_interval() -> None:
    trials = np.zeros((2, 30), int)
    trials[0, : FEWEST_CLUSTERS - 1] = trials[1, :FEWEST_CLUSTERS] = 8
    found = cluster_interval(trials // 2, trials)
    assert found.is_too_few.tolist() == [True, False]
    assert np.isnan(found.low).tolist() == np.isnan(found.high).tolist() == [True, False]
    empty = cluster_interval(np.zeros(5, int), np.zeros(5, int))
    assert bool(empty.is_too_few)


@pytest.mark.parametrize(
    ("successes", "trials", "confidence", "named"),
    [([3], [2], 0.95, "between 0"), ([-1], [2], 0.95, "between 0"), ([1], [2], 1.0, "confidence")],
)
def test_wrong_numbers_are_named(
    successes: list[int], trials: list[int], confidence: float, named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        cluster_interval(successes, trials, confidence)
