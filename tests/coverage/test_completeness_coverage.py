"""How often the intervals of completeness contain the truth, for simulated grids.

Every galaxy has an effect that its own score shares with the scores of its injections. Each run
draws galaxies, thresholds and injections anew, writes the folder of a grid, and reads intervals as
users do: from the table, and pooled with `GridResult`. ``DHS_COVERAGE_RUNS`` sets the number of
runs per case.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats

from dhs.selection.config import GridConfig
from dhs.selection.grid_result import MAGNITUDE, GridResult
from dhs.statistics.thresholds import Threshold, find_thresholds
from tests.dhs.selection.grid_cases import CORRECTED, grid_metadata, write_tables

pytestmark = pytest.mark.coverage

RUNS = int(os.environ.get("DHS_COVERAGE_RUNS", "250"))
LOWEST, HIGHEST = 0.93, 0.975
SPARSE = 25.0
"""Effective detections, or misses, below which only the lower bound of the coverage holds: the
outer end is then a wide limit (`dhs.statistics.clusters`)."""

CENTRE, WIDTH = -5.0, 1.3
BY_RADIUS = {0.5: 0.5, 1.0: 2.0, 1.5: 3.5}
BY_MAGNITUDE = {"23-24": 1.5, "24-25": 0.5, "25-26": -0.5}


class Case(NamedTuple):
    """Galaxies that set thresholds, hosts and injections of a cell, and the share of the variance
    that a galaxy gives to all its scores.
    """

    galaxies: int
    hosts: int
    per_cell: int
    shared: float


CASES = [
    Case(20_000, 20, 500, 0.4),
    Case(20_000, 100, 500, 0.4),
    Case(20_000, 500, 500, 0.2),
    Case(20_000, 2000, 500, 0.5),
    Case(10_000, 100, 500, 0.3),
]


def configuration(folder: Path, case: Case) -> GridConfig:
    return GridConfig.model_validate(
        {
            "checkpoint": "model",
            "out_dir": str(folder),
            "hosts": {"parquet_path": "survey"},
            "theta_e": {"start": 0.5, "stop": 1.5, "step": 0.5},
            "psf_fwhm": {"start": 1.3, "stop": 1.3, "step": 0.1},
            "depth_5sig": {"start": 23.5, "stop": 23.5, "step": 1.0},
            "injections_per_cell": case.per_cell,
            "thresholds": [0.03],
            "fpr_targets": [0.01, 0.001],
        }
    )


def simulate(folder: Path, case: Case, rng: np.random.Generator) -> GridResult:
    """Write and read a grid of three Einstein radii that share their hosts."""
    config = configuration(folder, case)
    inside, outside = np.sqrt(case.shared), np.sqrt(1 - case.shared)
    effect = inside * rng.normal(size=case.galaxies)
    noise = outside * rng.normal(size=case.galaxies)
    negatives = (CENTRE + WIDTH * (effect + noise)).astype(np.float32)
    cell = np.repeat(range(3), case.per_cell)
    passes = -(-case.per_cell // case.hosts)
    host = np.concatenate(
        [
            np.concatenate([rng.permutation(case.hosts) for _ in range(passes)])[: case.per_cell]
            for _ in range(3)
        ]
    )
    magnitude = rng.uniform(23, 26, len(cell))
    mean = np.array(list(BY_RADIUS.values()))[cell]
    mean += np.array(list(BY_MAGNITUDE.values()))[(magnitude - 23).astype(int)]
    scatter = effect[host] + outside * rng.normal(size=len(cell))
    logit = (CENTRE + mean + WIDTH * scatter).astype(np.float32)
    table = pd.DataFrame(
        {
            "injection_id": np.arange(len(cell)),
            "cell": cell.astype(np.int32),
            "host_row": host,
            "source_r_mag": magnitude,
            "lensed_r_mag": magnitude - 1.5,
            "logit": logit,
            "score": 1 / (1 + np.exp(-logit.astype(np.float64))),
            "arc_snr_r": 10.0,
            "failure": "",
        }
    )
    found = find_thresholds(config.thresholds, config.fpr_targets, negatives)
    metadata = grid_metadata(config, CORRECTED, found, "simulated", len(table), 0)
    metadata |= dict.fromkeys(("injections_fingerprint", "draws_fingerprint"), "00")
    scorer = dict.fromkeys(("name", "fingerprint", "architecture"), "simulated")
    write_tables(folder, metadata | {"checkpoint": scorer}, config, table, negatives, found, 10**6)
    return GridResult(folder)


def standardised(
    threshold: Threshold, radii: list[float], bins: list[str]
) -> tuple[float, NDArray[np.float64]]:
    """Return the threshold of the population in standard deviations of hosts and injections."""
    if threshold.fpr_target is None:
        own = (threshold.logit - CENTRE) / WIDTH
    else:
        own = float(stats.norm.isf(threshold.fpr_target))
    means = np.array([BY_RADIUS[radius] + BY_MAGNITUDE[name] for radius in radii for name in bins])
    return own, own - means / WIDTH


def truth(threshold: Threshold, radii: list[float], bins: list[str]) -> float:
    """Return the completeness of the population at the threshold of the population."""
    return float(stats.norm.sf(standardised(threshold, radii, bins)[1]).mean())


def true_net(threshold: Threshold, radii: list[float], bins: list[str], shared: float) -> float:
    """Return the completeness among injections whose host alone is not above the threshold."""
    own, limits = standardised(threshold, radii, bins)
    both = stats.multivariate_normal([0, 0], [[1, shared], [shared, 1]])
    missed = np.array([both.cdf([own, limit]) for limit in limits])
    return float(1 - missed.mean() / stats.norm.cdf(own))


def rows_of(grid: GridResult, shared: float) -> pd.DataFrame:
    """Return true and measured values of cells, of their magnitude bins, and of pooled rows."""
    radii, bins = list(BY_RADIUS), list(BY_MAGNITUDE)
    found: list[tuple[str | float, ...]] = []
    for threshold in grid.thresholds:
        kind = threshold.threshold_type
        table = grid.table[grid.table["threshold_type"] == kind]
        for radius in radii:
            for name in ("all", bins[1]):
                chosen = (table["theta_e"] == radius) & (table[MAGNITUDE] == name)
                (row,) = table[chosen].itertuples()
                true = truth(threshold, [radius], bins if name == "all" else [name])
                ends = tuple(map(float, (row.completeness, row.n_eff, row.ci95_lo, row.ci95_hi)))
                found.append((f"{kind}, theta_E {radius}, {name}", true, *ends))
                if name == "all":
                    net = row.completeness_net, row.n_eff, row.completeness_net_ci95_lo
                    ends = tuple(map(float, (*net, row.completeness_net_ci95_hi)))
                    true = true_net(threshold, [radius], bins, shared)
                    found.append((f"{kind}, theta_E {radius}, net", true, *ends))
        pooled = grid.completeness(threshold, (MAGNITUDE,))
        for k, name in enumerate(bins):
            columns = (pooled.share, pooled.n_eff, pooled.low, pooled.high)
            ends = tuple(float(column[k]) for column in columns)
            found.append((f"{kind}, pooled, {name}", truth(threshold, radii, [name]), *ends))
        whole = grid.completeness(threshold)
        ends = tuple(map(float, (whole.share, whole.n_eff, whole.low, whole.high)))
        found.append((f"{kind}, pooled, all", truth(threshold, radii, bins), *ends))
        ends = tuple(map(float, (whole.net, whole.n_eff, whole.net_low, whole.net_high)))
        true = true_net(threshold, radii, bins, shared)
        found.append((f"{kind}, pooled, net", true, *ends))
    return pd.DataFrame(found, columns=["row", "true", "share", "n_eff", "low", "high"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_intervals_contain_the_truth(case: Case, tmp_path: Path) -> None:
    rng = np.random.default_rng([case.galaxies, case.hosts, case.per_cell])
    runs = pd.concat(
        [rows_of(simulate(tmp_path / "grid", case, rng), case.shared) for _ in range(RUNS)]
    )
    runs["covered"] = runs["true"].between(runs["low"], runs["high"])
    runs["fewest"] = runs["n_eff"] * np.minimum(runs["share"], 1 - runs["share"])
    summary = runs.groupby("row").agg(
        true=("true", "first"), covered=("covered", "mean"), fewest=("fewest", "median")
    )
    print(f"\n{case}, {RUNS} runs\n{summary.round(3).to_string()}")
    covered: NDArray[np.float64] = summary["covered"].to_numpy()
    # Three standard errors of a fraction of so many runs.
    allowed = 3 * np.sqrt(covered.clip(0.05, 0.95) * (1 - covered.clip(0.05, 0.95)) / RUNS)
    assert (covered >= LOWEST - allowed).all(), summary
    is_sparse = summary["fewest"].to_numpy() < SPARSE
    assert ((covered <= HIGHEST + allowed) | is_sparse).all(), summary
