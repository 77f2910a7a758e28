"""Intervals of `dhs.statistics` contain a simulated truth as often as they say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import optimize, stats
from scipy.special import expit, logit

from dhs.statistics.auc import auc_interval
from dhs.statistics.calibration import calibration
from dhs.statistics.clusters import cluster_interval
from dhs.statistics.metrics import recall_at_fpr, recall_at_threshold
from tests.coverage.coverage_rows import AT_LEAST, COVERAGE, RUNS, hold

pytestmark = pytest.mark.coverage

Float = NDArray[np.float64]
# Cells are cheap: enough runs to tell 0.93 from 0.95.
CELLS = 5 * RUNS
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(100)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def logit_normal(share: float, correlation: float) -> tuple[float, float]:
    """Return mean and scatter of the logit with this mean share and correlation."""

    def centre(scatter: float) -> float:
        def excess(mean: float) -> float:
            return float(WEIGHTS @ expit(mean + scatter * NODES)) - share

        return float(optimize.brentq(excess, -200, 200))

    def excess(scatter: float) -> float:
        shares = expit(centre(scatter) + scatter * NODES)
        return float(WEIGHTS @ (shares - share) ** 2) / (share * (1 - share)) - correlation

    scatter = float(optimize.brentq(excess, 1e-3, 60))
    return centre(scatter), scatter


def host_shares(kind: str, share: float, correlation: float, hosts: int, seed: int) -> Float:
    rng = np.random.default_rng(seed)
    if kind == "beta":
        size = 1 / correlation - 1
        return rng.beta(share * size, (1 - share) * size, (CELLS, hosts))
    mean, scatter = logit_normal(share, correlation)
    return np.asarray(expit(mean + scatter * rng.normal(size=(CELLS, hosts))), np.float64)


@pytest.mark.parametrize("kind", ["beta", "logit-normal"])
@pytest.mark.parametrize("correlation", [0.05, 0.5])
@pytest.mark.parametrize(("hosts", "injections"), [(20, 25), (20, 275), (30, 5), (100, 5)])
def test_completeness_by_host(kind: str, correlation: float, hosts: int, injections: int) -> None:
    rng = np.random.default_rng(2)
    for share in (0.03, 0.2, 0.5, 0.99):
        found = rng.binomial(injections, host_shares(kind, share, correlation, hosts, 1))
        got = cluster_interval(found, injections)
        assert not got.is_too_few.any()
        # The outer end of a sparse cell is a wide limit.
        allowed = AT_LEAST if got.is_sparse.mean() > 0.05 else (0.93, 0.98)
        name = f"{hosts} hosts x {injections}, {kind} {correlation:g}, share {share:g}"
        hold(name, (got.low <= share) & (share <= got.high), allowed)


@pytest.mark.parametrize("hosts", [500])
def test_completeness_of_many_hosts(hosts: int) -> None:
    rng = np.random.default_rng(4)
    for share in (0.1, 0.5):
        found = rng.binomial(25, host_shares("beta", share, 0.3, hosts, 3)[: 2 * RUNS])
        got = cluster_interval(found, 25)
        name = f"{hosts} hosts x 25, beta 0.3, share {share:g}"
        hold(name, (got.low <= share) & (share <= got.high))


# Lenses, negatives, false positives, true recall, and scatter of the lenses.
RECALLS = [
    (1226, 20_000, 20, 0.9, 1.0),
    (300, 10_000, 10, 0.8, 1.0),
    (300, 10_000, 10, 0.8, 0.5),
    (2000, 10_000, 10, 0.66, 1.0),
    (2000, 10_000, 10, 0.66, 0.5),
    (1226, 20_000, 200, 0.9, 1.0),
]


@pytest.mark.parametrize(("lenses", "negatives", "allowed", "truth", "scatter"), RECALLS)
def test_recall_at_a_rate(
    lenses: int, negatives: int, allowed: int, truth: float, scatter: float
) -> None:
    rng, fpr = np.random.default_rng(5), allowed / negatives
    threshold = float(stats.norm.isf(fpr))
    centre = threshold - scatter * float(stats.norm.isf(truth))
    hits, fixed = [], []
    for _ in range(RUNS):
        scores, others = rng.normal(centre, scatter, lenses), rng.normal(size=negatives)
        got = recall_at_fpr(scores, others, fpr)
        hits.append(got.low <= truth <= got.high)
        given = recall_at_threshold(scores, others, threshold)
        fixed.append(given.low <= truth <= given.high)
    name = f"recall {truth:g} of {lenses} lenses (scatter {scatter:g})"
    hold(f"{name}, {allowed} false positives", hits)
    hold(f"{name}, at a given threshold", fixed)


def pair(name: str, area: float) -> tuple[Any, Any]:
    """Return distributions of non-lenses and lenses with this area."""
    families: dict[str, tuple[Any, Callable[[float], Any]]] = {
        "binormal": (stats.norm(), lambda shift: stats.norm(shift)),
        "heavy-tailed": (stats.t(3), lambda shift: stats.t(3, loc=shift)),
        "skewed": (stats.gamma(1.5), lambda shift: stats.gumbel_l(loc=shift, scale=1.5)),
    }
    negatives, lenses = families[name]
    places = (np.arange(100_000) + 0.5) / 100_000

    def excess(shift: float) -> float:
        return float(negatives.cdf(lenses(shift).ppf(places)).mean()) - area

    return negatives, lenses(float(optimize.brentq(excess, -2, 60)))


AREAS = [
    (60, 4000, 0.998, AT_LEAST),
    (60, 60, 0.9, (0.93, 0.985)),
    (1226, 6000, 0.97, COVERAGE),
    (300, 6000, 0.98, AT_LEAST),
]


@pytest.mark.parametrize("kind", ["binormal", "heavy-tailed", "skewed"])
@pytest.mark.parametrize(("lenses", "negatives", "area", "allowed"), AREAS)
def test_auc(
    kind: str, lenses: int, negatives: int, area: float, allowed: tuple[float, float]
) -> None:
    rng, (of_negatives, of_lenses) = np.random.default_rng(6), pair(kind, area)
    hits = []
    for _ in range(RUNS):
        got = auc_interval(
            of_lenses.ppf(rng.random(lenses)), of_negatives.ppf(rng.random(negatives))
        )
        hits.append(got.low <= area <= got.high)
    hold(f"AUC {area:g}, {lenses} lenses, {negatives} non-lenses, {kind}", hits, allowed)


def draw_scores(rng: np.random.Generator, number: int) -> Float:
    """Draw scores like those of a survey: a fifth are likely lenses."""
    likely = rng.random(number) < 0.2
    logits = np.where(likely, rng.normal(2, 2, number), rng.normal(-3, 1.5, number))
    return np.asarray(expit(logits), np.float64)


@pytest.mark.parametrize("objects", [200, 600, 6000])
@pytest.mark.parametrize(("slope", "shift"), [(1.0, 0.0), (1.3, 0.0), (1.0, 1.0)])
def test_calibration_error(objects: int, slope: float, shift: float) -> None:
    rng = np.random.default_rng(7)

    def chance(scores: Float) -> Float:
        return np.asarray(expit(slope * logit(scores) + shift), np.float64)

    many = draw_scores(rng, 1_000_000)
    bins = np.clip(np.ceil(many * 15).astype(int) - 1, 0, 14)
    truth = float(np.abs(np.bincount(bins, chance(many) - many)).sum() / many.size)
    hits, values, inside = [], [], []
    for _ in range(RUNS):
        scores = draw_scores(rng, objects)
        got = calibration(rng.random(objects) < chance(scores), scores)
        hits.append(got.ece_low <= truth + 1e-12 and truth <= got.ece_high)
        values.append(got.ece_debiased)
        assert got.ece_low <= max(got.ece_debiased, 0) <= got.ece_high
        shares = np.bincount(bins, chance(many)) / np.bincount(bins)
        numbers = [round(item.low * 15) for item in got.curve]
        inside.append(
            all(
                item.band_low <= shares[k] <= item.band_high
                for item, k in zip(got.curve, numbers, strict=True)
            )
        )
    name = f"{objects} scores, slope {slope:g}, shift {shift:g}"
    hold(f"ECE of {name}", hits, (0.93, 0.985))
    hold(f"simultaneous band of {name}", inside, AT_LEAST)
    if (slope, shift) == (1.0, 0.0):
        error = float(np.std(values)) / np.sqrt(RUNS)
        assert abs(np.mean(values)) < 4 * error
