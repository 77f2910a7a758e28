"""How often `dhs grid compare` calls equal models different, and finds a planted difference.

Both models score the same galaxies and injections. A galaxy gives a part of its effect to both
models, and another to each alone, in its own score and in those of all its injections. Without a
planted difference, the models are equal by construction.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats

from dhs.selection.intervals import HOSTS_AND_NEGATIVES
from dhs.selection.paired import CELL, OVERALL, POOLED, Injections, Thresholds, comparison_table
from dhs.statistics.resampling import resampled_thresholds
from dhs.statistics.thresholds import find_thresholds
from tests.coverage.coverage_rows import AT_LEAST, COVERAGE, LEVEL, RUNS, hold

pytestmark = pytest.mark.coverage

RESAMPLES = 400
FAMILY = (0.0, 0.07)
"""Allowed rate of runs of equal models with a significant cell: a bound, not a level."""

CENTRES = {
    "theta_e": np.array([0.5, 1.0, 1.5, 2.0]),
    "psf_fwhm": np.array([1.2, 1.4]),
    "depth_5sig": np.array([23.5]),
}
BINS = ["23-24", "24-25", "25-26"]
BY_RADIUS, BY_MAGNITUDE = np.array([0.5, 1.5, 2.5, 3.0]), np.array([1.0, 0.3, -0.5])
PLACES = 8 * len(BINS)
EFFECT, OWN_EFFECT, NOISE, OWN_NOISE = np.sqrt([0.2, 0.2, 0.3, 0.3])
"""Standard deviations of what a galaxy gives to both models and to each, and of the noise that both
models share and of each."""


class Case(NamedTuple):
    """Galaxies and the rate that sets the thresholds, hosts of each PSF, injections per cell, and
    what the second model adds to its logits of bright sources.
    """

    galaxies: int
    rate: float
    hosts: int
    per_cell: int
    better: float = 0.0


EQUAL = [
    Case(20_000, 0.01, 300, 600),
    Case(20_000, 0.001, 300, 600),
    Case(10_000, 0.001, 300, 600),
    Case(10_000, 0.001, 40, 600),
]
PLANTED = Case(20_000, 0.01, 300, 600, better=0.5)


def simulate(case: Case, rng: np.random.Generator) -> tuple[NDArray[np.float32], Injections]:
    """Return the logits of all galaxies by both models, and injections into some of them."""
    count = case.galaxies
    effect = EFFECT * rng.normal(size=count) + OWN_EFFECT * rng.normal(size=(2, count))
    noise = NOISE * rng.normal(size=count) + OWN_NOISE * rng.normal(size=(2, count))
    cell = np.repeat(range(8), case.per_cell)
    passes = -(-case.per_cell // case.hosts)
    # Cells of one PSF share their hosts.
    host = np.concatenate(
        [
            np.concatenate([rng.permutation(case.hosts) for _ in range(passes)])[: case.per_cell]
            + case.hosts * (number % 2)
            for number in range(8)
        ]
    )
    magnitude = rng.integers(0, 3, len(cell))
    logits = BY_RADIUS[cell // 2] + BY_MAGNITUDE[magnitude] + effect[:, host]
    logits += NOISE * rng.normal(size=len(cell)) + OWN_NOISE * rng.normal(size=(2, len(cell)))
    logits[1] += case.better * (magnitude == 0)
    host = np.unique(host, return_inverse=True)[1]
    return (effect + noise).astype(np.float32), Injections(cell * 3 + magnitude, host, logits)


def compared(case: Case, rng: np.random.Generator) -> pd.DataFrame:
    negatives, injections = simulate(case, rng)
    at = [[find_thresholds([], [case.rate], logits)[0].logit] for logits in negatives]
    drawn = resampled_thresholds(list(negatives), [case.rate], RESAMPLES, 1)
    thresholds = Thresholds(np.array(at), drawn, [HOSTS_AND_NEGATIVES])
    left_out = np.zeros(PLACES, np.int64)
    return comparison_table(CENTRES, BINS, injections, thresholds, left_out)


def truth(case: Case) -> NDArray[np.float64]:
    """Return the difference of the population by radius and magnitude."""
    limit = stats.norm.isf(case.rate)
    means = BY_RADIUS[:, None] + BY_MAGNITUDE
    better = case.better * np.array([1, 0, 0])
    return np.asarray(stats.norm.sf(limit - means - better) - stats.norm.sf(limit - means))


def summary(table: pd.DataFrame, case: Case) -> dict[str, float]:
    """Return which claims are made, and which intervals contain the truth."""
    is_all = table["source_mag_bin"] == "all"
    rows = {level: table[(table["level"] == level) & ~is_all] for level in (CELL, POOLED)}
    whole = table[(table["level"] == OVERALL) & is_all].iloc[0]
    pooled, true = rows[POOLED], truth(case)
    low, high = pooled["difference_joint_lo"], pooled["difference_joint_hi"]
    return {
        "rejected": whole["p_value"] < 0.05,
        "any cell": rows[CELL]["significant"].any(),
        "any pooled": pooled["significant"].any(),
        "covered": whole["difference_ci95_lo"] <= true.mean() <= whole["difference_ci95_hi"],
        "all pooled covered": ((low <= true.ravel()) & (true.ravel() <= high)).all(),
        "planted found": pooled.loc[pooled["source_mag_bin"] == "23-24", "significant"].any(),
    }


def simulated(case: Case) -> pd.DataFrame:
    rng = np.random.default_rng([case.galaxies, case.hosts, round(1 / case.rate)])
    return pd.DataFrame([summary(compared(case, rng), case) for _ in range(RUNS)])


def name_of(case: Case) -> str:
    return (
        f"dhs grid compare, {case.galaxies * case.rate:g} false positives, {2 * case.hosts} hosts"
    )


@pytest.mark.parametrize("case", EQUAL, ids=lambda case: "-".join(map(str, case)))
def test_equal_models_are_rarely_called_different(case: Case) -> None:
    found = simulated(case)
    hold(f"{name_of(case)}: p < 0.05 over all cells", found["rejected"], LEVEL)
    hold(f"{name_of(case)}: runs with a significant cell", found["any cell"], FAMILY)
    hold(f"{name_of(case)}: with a star in the figure", found["any pooled"], FAMILY)


def test_a_planted_difference_is_found_and_measured() -> None:
    found = simulated(PLANTED)
    hold(f"{name_of(PLANTED)}: difference over all cells", found["covered"], COVERAGE)
    hold(f"{name_of(PLANTED)}: joint intervals", found["all pooled covered"], AT_LEAST)
    hold(f"{name_of(PLANTED)}: planted difference found", found["planted found"], (0.9, 1.0))
