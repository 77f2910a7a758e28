"""Thresholds and completeness agree with direct computation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pytest
from pyarrow import parquet

from dhs.selection.completeness import COLUMNS, selection_function
from dhs.selection.config import GridConfig
from dhs.statistics.intervals import binomial_interval
from dhs.statistics.metrics import recall_at_fpr
from dhs.statistics.thresholds import Threshold, find_thresholds, require_enough
from tests.dhs.selection.grid_runs import grid

EXISTING_COLUMNS = [
    *("theta_e", "psf_fwhm", "depth_5sig", "threshold", "threshold_type", "fpr_target"),
    *("source_mag_bin", "n_injections", "n_detected", "n_failed", "completeness"),
    *("ci68_lo", "ci68_hi", "ci95_lo", "ci95_hi", "mean_score", "mean_arc_snr", "sufficient"),
]
COLUMNS_BY_HOST = [
    *("n_hosts", "n_eff", "few_hosts", "interval"),
    *("completeness_net", "completeness_net_ci95_lo", "completeness_net_ci95_hi"),
]


def test_thresholds_are_those_of_recall_at_fpr() -> None:
    negatives = np.random.default_rng(1).normal(-2, 1, 20_000).astype(np.float32)
    fixed, one, ten = find_thresholds([0.5], [1e-3, 1e-2], negatives)
    assert (fixed.threshold, fixed.logit, fixed.threshold_type) == (0.5, 0.0, "fixed")
    assert (one.threshold_type, ten.threshold_type) == ("FPR=1.0e-02", "FPR=1.0e-03")
    for found in (one, ten):
        assert found.fpr_target is not None
        recall = recall_at_fpr(np.ones(1), negatives, found.fpr_target)
        assert found.logit == recall.threshold
        assert found.false_positives == recall.false_positives == found.fpr_target * 20_000
        interval = binomial_interval(recall.false_positives, 20_000, "clopper-pearson")
        assert (found.fpr_low, found.fpr_high) == interval
        assert found.threshold == pytest.approx(1 / (1 + np.exp(-found.logit)), rel=1e-12)


def test_ties_never_raise_the_rate() -> None:
    negatives = np.repeat(np.arange(4, dtype=np.float32), 25)
    (found,) = find_thresholds([], [0.4], negatives)
    assert (found.logit, found.false_positives) == (2.0, 25)  # 40 allowed, 50 share the next score


def test_too_few_negatives_are_said() -> None:
    with pytest.raises(
        ValueError, match=r"non-lenses of pack.*fpr=0.001 leaves 5.*10000 non-lenses"
    ):
        require_enough([1e-2, 1e-3], 5000, "pack")
    require_enough([1e-2], 1000, "pack")


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """Injections in three of four cells; some failed, and some have an infinite SNR."""
    rng = np.random.default_rng(2)
    n = 3000
    logit = rng.normal(0, 2, n).astype(np.float32)
    frame = pd.DataFrame(
        {
            "cell": rng.choice([0, 1, 3], n).astype(np.int32),
            "host_row": rng.integers(0, 40, n),
            "source_r_mag": np.r_[26.0, 23.0, rng.uniform(23, 26, n - 2)],
            "lensed_r_mag": rng.uniform(17, 28, n),
            "logit": logit,
            "score": 1 / (1 + np.exp(-logit.astype(np.float64))),
            "arc_snr_r": np.where(rng.random(n) < 0.05, np.inf, rng.uniform(0, 50, n)),
            "failure": np.where(rng.random(n) < 0.1, "not finite", ""),
        }
    )
    frame.loc[frame["failure"] != "", ["logit", "score"]] = np.nan
    return frame


@pytest.fixture(scope="module")
def table(rows: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    path = tmp_path_factory.mktemp("grid") / "injections.parquet"
    parquet.write_table(pyarrow.Table.from_pandas(rows[list(COLUMNS)]), path, row_group_size=100)
    return selection_function(path, config(), [Threshold(0.5, 0.0), Threshold(0.9, np.log(9.0))])


def config() -> GridConfig:
    return grid(Path("pack"), Path("model"), Path("out"), injections_per_cell=900)


def test_the_table_has_the_form_of_the_existing_scripts(table: pd.DataFrame) -> None:
    assert table.columns.tolist() == EXISTING_COLUMNS + COLUMNS_BY_HOST
    assert len(table) == 4 * 2 * 8
    names = ["all", "23-24", "24-25", "25-26", *(f"lensed_{b}" for b in ("18-20", "20-22"))]
    assert table["source_mag_bin"].tolist()[:6] == names
    keys = table[["theta_e", "psf_fwhm", "threshold"]].drop_duplicates().to_numpy().tolist()
    assert keys[:3] == [[0.8, 1.2, 0.5], [0.8, 1.2, 0.9], [0.8, 1.5, 0.5]]


@pytest.mark.parametrize(
    ("name", "column", "low", "high"),
    [
        ("all", "cell", -1, 9),
        ("23-24", "source_r_mag", 23, 24),
        ("25-26", "source_r_mag", 25, 26.1),
        ("lensed_22-24", "lensed_r_mag", 22, 24),
    ],
)
def test_counts_are_those_of_the_rows(
    rows: pd.DataFrame, table: pd.DataFrame, name: str, column: str, low: float, high: float
) -> None:
    chosen = table[(table["source_mag_bin"] == name) & (table["threshold"] == 0.9)]
    for cell, (_, got) in enumerate(chosen.iterrows()):
        of_cell = rows[(rows["cell"] == cell) & (rows[column] >= low) & (rows[column] < high)]
        result = of_cell[of_cell["failure"] == ""]
        detected = int((result["score"] > 0.9).sum())
        assert got["n_injections"] == len(result)
        assert got["n_failed"] == len(of_cell) - len(result)
        assert got["n_detected"] == detected
        if not len(result):
            assert np.isnan([got["completeness"], got["ci68_lo"], got["mean_score"]]).all()
            assert not got["sufficient"]
            continue
        assert got["completeness"] == detected / len(result)
        assert got["ci95_lo"] <= got["ci68_lo"] <= got["completeness"] <= got["ci68_hi"]
        assert got["mean_score"] == pytest.approx(result["score"].mean(), rel=1e-12)
        finite = result["arc_snr_r"][np.isfinite(result["arc_snr_r"])]
        assert got["mean_arc_snr"] == pytest.approx(finite.mean(), rel=1e-12)


def test_a_cell_is_sufficient_with_all_that_was_asked_for(table: pd.DataFrame) -> None:
    whole = table[table["source_mag_bin"] == "all"]
    assert (whole["sufficient"] == (whole["n_injections"] >= 900)).all()
    bins: Any = table[table["source_mag_bin"] != "all"]
    assert (bins["sufficient"] == (bins["n_injections"] >= 10)).all()
