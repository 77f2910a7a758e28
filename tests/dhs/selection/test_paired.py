"""Statistics of a comparison of two grids: counts, differences, intervals and p-values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dhs.selection.compare import compare_grids
from dhs.selection.comparison import Comparison
from dhs.selection.grid_result import MAGNITUDE, GridResult
from dhs.selection.intervals import HOSTS, HOSTS_AND_NEGATIVES
from dhs.selection.paired import CELL, OVERALL, POOLED
from dhs.statistics.differences import compare_detections
from dhs.statistics.resampling import resampled_thresholds
from tests.dhs.selection.compare_cases import write_pair
from tests.dhs.selection.grid_cases import write_grid


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_pair(tmp_path_factory.mktemp("grids"))


@pytest.fixture(scope="module")
def comparison(folders: tuple[Path, Path]) -> Comparison:
    return compare_grids(*folders)


def test_counts_are_those_of_a_merge(folders: tuple[Path, Path], comparison: Comparison) -> None:
    tables = [pd.read_parquet(folder / "injections.parquet") for folder in folders]
    both = tables[0].merge(tables[1], on="injection_id", suffixes=("", "_b"))
    has_both = both["logit"].notna() & both["logit_b"].notna()
    names = np.array(comparison.first.bins)
    both["bin"] = names[np.floor(both["source_r_mag"]).astype(int) - 23]
    for common in comparison.thresholds:
        finds = both["logit"] > common.first.logit, both["logit_b"] > common.second.logit
        for level, axes in (
            (CELL, ["theta_e", "psf_fwhm", "depth_5sig"]),
            (POOLED, ["theta_e"]),
            (OVERALL, []),
        ):
            for row in comparison.rows(level, common).itertuples():
                chosen = np.logical_and.reduce([both[a] == getattr(row, a) for a in axes] or [True])
                if row.source_mag_bin != "all":
                    chosen = chosen & (both["bin"] == row.source_mag_bin)
                used = chosen & has_both
                assert row.n_injections == used.sum()
                assert row.n_left_out == (chosen & ~has_both).sum()
                assert row.n_both == (used & finds[0] & finds[1]).sum()
                assert row.n_only_first == (used & finds[0] & ~finds[1]).sum()
                assert row.n_only_second == (used & ~finds[0] & finds[1]).sum()
                assert row.n_neither == (used & ~finds[0] & ~finds[1]).sum()
    assert (comparison.failed_first, comparison.failed_second) == (3, 5)
    assert comparison.left_out == (~has_both).sum()
    assert comparison.injections == 500


def test_statistics_of_a_row(comparison: Comparison) -> None:
    rows = comparison.rows(POOLED, comparison.thresholds[1])
    row = rows[(rows["theta_e"] == 1.0) & (rows[MAGNITUDE] == "24-25")].iloc[0]
    assert row["completeness_first"] == (row["n_both"] + row["n_only_first"]) / row["n_injections"]
    change = row["completeness_second"] - row["completeness_first"]
    assert row["difference"] == pytest.approx(change)
    assert row["difference_ci95_lo"] < change < row["difference_ci95_hi"]
    assert row["difference_joint_lo"] < row["difference_ci95_lo"]
    assert row["difference_joint_hi"] > row["difference_ci95_hi"]
    assert row["p_value"] <= row["p_adjusted"]
    bins = rows[rows[MAGNITUDE] != "all"]
    # The second model is better where sources are bright, and the same where they are faint.
    assert bins[bins[MAGNITUDE] == "23-24"]["significant"].any()
    assert not bins[bins[MAGNITUDE] == "25-26"]["significant"].any()


def test_statistics_of_a_family_of_rows(folders: tuple[Path, Path], comparison: Comparison) -> None:
    """Magnitude bins of the pooled cells, at both rates, through the statistics alone."""
    tables = [pd.read_parquet(folder / "injections.parquet") for folder in folders]
    has_both = tables[0]["logit"].notna() & tables[1]["logit"].notna()
    used = [table[has_both] for table in tables]
    radius = np.unique(used[0]["theta_e"], return_inverse=True)[1]
    places = 3 * radius + np.floor(used[0]["source_r_mag"].to_numpy()).astype(int) - 23
    common = comparison.thresholds[1:]
    negatives = [pd.read_parquet(folder / "negatives.parquet")["logit"] for folder in folders]
    # The second model comes first, because differences are first minus second.
    found = compare_detections(
        np.stack([used[1]["logit"], used[0]["logit"]]),
        used[0]["host_row"].to_numpy(),
        places,
        np.eye(15),
        np.array([[t.second.logit for t in common], [t.first.logit for t in common]]),
        resampled_thresholds(negatives[::-1], [0.01, 0.001], 1000, 1),
    )
    for threshold, expected in zip(common, found, strict=True):
        rows = comparison.rows(POOLED, threshold)
        rows = rows[rows[MAGNITUDE] != "all"]
        for name, column in (
            ("value", "difference"),
            ("low", "difference_ci95_lo"),
            ("joint_high", "difference_joint_hi"),
            ("p_value", "p_value"),
            ("p_adjusted", "p_adjusted"),
        ):
            np.testing.assert_allclose(rows[column], getattr(expected, name), atol=1e-12)


def test_intervals_and_p_values_agree(comparison: Comparison) -> None:
    table = comparison.table.dropna(subset="p_value")
    for p, low, high in (("p_value", "ci95_lo", "ci95_hi"), ("p_adjusted", "joint_lo", "joint_hi")):
        excluded = (table[f"difference_{low}"] > 0) | (table[f"difference_{high}"] < 0)
        np.testing.assert_array_equal(excluded, table[p] < 0.05)
        assert 0 < excluded.sum() < len(table)
    np.testing.assert_array_equal(table["significant"], table["p_adjusted"] < 0.05)


def test_one_claim_over_all_cells_is_not_adjusted(comparison: Comparison) -> None:
    for common in comparison.thresholds:
        rows = comparison.rows(OVERALL, common)
        whole = rows[rows[MAGNITUDE] == "all"].iloc[0]
        assert whole["p_adjusted"] == whole["p_value"]
        assert whole["difference_joint_hi"] == whole["difference_ci95_hi"]


def test_given_scores_do_not_scatter(comparison: Comparison) -> None:
    kinds = comparison.table.groupby("threshold_type")["interval"].unique()
    assert kinds["fixed"].tolist() == [HOSTS]
    assert kinds["FPR=1.0e-03"].tolist() == kinds["FPR=1.0e-02"].tolist() == [HOSTS_AND_NEGATIVES]


def test_the_scatter_of_thresholds_widens_intervals(tmp_path: Path) -> None:
    common: dict[str, Any] = {"fpr_targets": [0.001], "hosts": 300}
    score = GridResult(write_grid(tmp_path / "0", **common)).thresholds[0].threshold
    # The threshold of 10 false positives once more, as a given score.
    one, other = (
        write_grid(tmp_path / f"{k}", noise_seed=k, thresholds=[score], **common) for k in (1, 2)
    )
    table = compare_grids(one, other).table.query("level == 'overall' and source_mag_bin == 'all'")
    widths = table["difference_ci95_hi"] - table["difference_ci95_lo"]
    assert table["interval"].tolist() == [HOSTS, HOSTS_AND_NEGATIVES]
    assert widths.iloc[1] > 1.2 * widths.iloc[0]


def test_hosts_are_counted(folders: tuple[Path, Path], comparison: Comparison) -> None:
    tables = [pd.read_parquet(folder / "injections.parquet") for folder in folders]
    used = tables[0][tables[0]["logit"].notna() & tables[1]["logit"].notna()]
    rows = comparison.rows(POOLED, comparison.thresholds[0])
    for row in rows.itertuples():
        chosen = used["theta_e"] == row.theta_e
        if row.source_mag_bin != "all":
            first = float(row.source_mag_bin[:2])
            chosen &= used["source_r_mag"].between(first, first + 1, inclusive="left")
        assert row.n_hosts == used.loc[chosen, "host_row"].nunique()
        assert row.few_hosts == (row.n_hosts < 30)


def test_a_host_with_many_injections_counts_once(tmp_path: Path) -> None:
    widths = []
    for hosts in (300, 12):
        one, other = (
            write_grid(
                tmp_path / f"{hosts}-{k}", hosts=hosts, noise_seed=k, better=k, thresholds=[0.5]
            )
            for k in (1, 2)
        )
        table = compare_grids(one, other).table
        (row,) = table.query("level == 'overall' and source_mag_bin == 'all'")[:1].itertuples()
        assert row.n_hosts == hosts
        widths.append(row.difference_ci95_hi - row.difference_ci95_lo)
    assert widths[1] > 1.5 * widths[0]


def test_the_seed_and_the_number_of_resamples_are_recorded(
    folders: tuple[Path, Path], comparison: Comparison
) -> None:
    again, other, fewer = (
        compare_grids(*folders, resamples=count, seed=seed)
        for count, seed in ((1000, 1), (1000, 2), (100, 1))
    )
    pd.testing.assert_frame_equal(again.table, comparison.table)
    for kind in (HOSTS, HOSTS_AND_NEGATIVES):
        ends = [
            c.table.loc[c.table["interval"] == kind, "difference_ci95_lo"].dropna()
            for c in (other, comparison)
        ]
        assert (ends[0] != ends[1]).mean() > 0.5
    assert [(c.metadata()["resamples"], c.metadata()["seed"]) for c in (again, other, fewer)] == [
        (1000, 1),
        (1000, 2),
        (100, 1),
    ]
    with pytest.raises(ValueError, match="resamples=99"):
        compare_grids(*folders, resamples=99)


def test_cells_without_hosts_have_no_statistics(comparison: Comparison) -> None:
    rows = comparison.rows(CELL, comparison.thresholds[0])
    empty = rows[rows["depth_5sig"] == 23.5]
    assert len(empty) == 20
    assert not empty["n_injections"].any()
    statistics = ["completeness_first", "completeness_second", "difference", "p_adjusted"]
    assert empty[[*statistics, "difference_ci95_lo", "p_value"]].isna().to_numpy().all()
    assert not empty["significant"].any()


def test_a_grid_compared_with_itself(folders: tuple[Path, Path]) -> None:
    table = compare_grids(folders[0], folders[0]).table
    some = table[table["n_injections"] > 0]
    assert not some["difference"].any()
    assert (some.loc[some["n_hosts"] >= 10, "p_value"] == 1).all()
    assert not table["significant"].any()
