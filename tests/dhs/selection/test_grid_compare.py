"""Comparison of two grids: counts, statistics, refused input, and written files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import typer
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pyarrow import parquet

from dhs.commands import grid_compare
from dhs.selection import figure_compare, paired
from dhs.selection.compare import compare_grids
from dhs.selection.comparison import Comparison
from dhs.selection.grid_result import MAGNITUDE, GridResult
from dhs.selection.paired import CELL, OVERALL, POOLED, Paired, adjusted, difference_interval
from dhs.statistics.intervals import binomial_interval
from dhs.statistics.metrics import mcnemar_exact
from tests.command_line import invoke, message
from tests.dhs.report.legible import check_legible, texts
from tests.dhs.selection.grid_cases import CORRECTED, LEGACY, write_grid

app = typer.Typer()
app.command()(grid_compare.compare)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("grids")
    common: dict[str, Any] = {"no_hosts": [(1.3, 23.5)], "per_cell": 100, "thresholds": [0.5]}
    old = write_grid(root / "old", spec=LEGACY, better=-2.5, noise_seed=2, row_group=37, **common)
    return old, write_grid(root / "new", spec=CORRECTED, failed=5, **common)


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
    assert row["p_mcnemar"] == mcnemar_exact(row["n_only_first"], row["n_only_second"])
    bins = rows[rows[MAGNITUDE] != "all"]
    np.testing.assert_array_equal(bins["p_adjusted"], adjusted(bins["p_mcnemar"]))
    apart = rows[rows[MAGNITUDE] == "all"]
    np.testing.assert_array_equal(apart["p_adjusted"], adjusted(apart["p_mcnemar"]))
    # The second model is better where sources are bright, and the same where they are faint.
    assert bins[bins[MAGNITUDE] == "23-24"]["significant"].any()
    assert not bins[bins[MAGNITUDE] == "25-26"]["significant"].any()


def test_cells_without_hosts_have_no_statistics(comparison: Comparison) -> None:
    rows = comparison.rows(CELL, comparison.thresholds[0])
    empty = rows[rows["depth_5sig"] == 23.5]
    assert len(empty) == 20
    assert not empty["n_injections"].any()
    statistics = ["completeness_first", "completeness_second", "difference", "p_adjusted"]
    assert empty[[*statistics, "difference_ci95_lo", "p_mcnemar"]].isna().to_numpy().all()
    assert not empty["significant"].any()


def test_intervals_of_the_literature() -> None:
    # Newcombe's square-and-add interval: the airway data of Fagerland, Lydersen & Laake (2014),
    # and the worked example of Altman et al. (2000), Statistics with Confidence, table 6.2.
    assert difference_interval(Paired(1, 7, 1, 12)) == pytest.approx((-0.507, -0.026), abs=5e-4)
    assert difference_interval(Paired(14, 0, 5, 22)) == pytest.approx((0.011, 0.226), abs=5e-4)


@pytest.mark.parametrize("counts", [(0, 0, 0, 5), (5, 0, 0, 0), (0, 5, 0, 0), (3, 0, 0, 4)])
def test_intervals_of_extreme_counts(counts: tuple[int, int, int, int]) -> None:
    low, high = difference_interval(Paired(*counts))
    both, first, second, neither = counts
    assert -1 <= low <= (second - first) / 5 <= high <= 1
    swapped = difference_interval(Paired(both, second, first, neither))
    assert swapped == pytest.approx((-high, -low))


def test_interval_covers_the_truth() -> None:
    rng = np.random.default_rng(3)
    truth = (0.5, 0.1, 0.2, 0.2)
    draws = rng.multinomial(150, truth, 2000)
    inside = [
        low <= 0.1 <= high
        for low, high in (difference_interval(Paired(*d)) for d in draws.tolist())
    ]
    assert 0.94 < np.mean(inside) < 0.975


@pytest.mark.parametrize(("found", "total"), [(0, 7), (7, 7), (75, 100), (3, 10_000)])
def test_wilson_is_that_of_the_metrics(found: int, total: int) -> None:
    expected = binomial_interval(found, total, "wilson")
    assert paired._wilson(found, total) == pytest.approx(expected, abs=1e-12)


def test_adjusted_after_benjamini_and_hochberg() -> None:
    # By hand: 4 tests, p times 4 / rank, then the minimum over all higher ranks.
    got = adjusted([0.04, np.nan, 0.001, 0.03, 0.5])
    np.testing.assert_allclose(got, [0.16 / 3, np.nan, 0.004, 0.16 / 3, 0.5])
    assert np.isnan(adjusted([np.nan])).all()


def test_a_grid_compared_with_itself(folders: tuple[Path, Path]) -> None:
    table = compare_grids(folders[0], folders[0]).table
    some = table[table["n_injections"] > 0]
    assert not some["difference"].any()
    assert (some["p_mcnemar"] == 1).all()
    assert not table["significant"].any()


def test_pieces_do_not_matter(
    folders: tuple[Path, Path], comparison: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    def batches(grid: GridResult, *columns: str) -> Iterator[dict[str, NDArray[Any]]]:
        table = pd.read_parquet(grid.folder / "injections.parquet")
        size = 50 if grid.folder == folders[0] else 33
        for start in range(0, len(table), size):
            yield {name: table[name].to_numpy()[start : start + size] for name in columns}

    monkeypatch.setattr(GridResult, "batches", batches)
    seen: list[tuple[int, int]] = []
    again = compare_grids(*folders, lambda done, total: seen.append((done, total)))
    pd.testing.assert_frame_equal(again.table, comparison.table)
    assert seen[0] == (0, 500)
    assert seen[-1] == (500, 500)
    assert max(np.diff([done for done, _ in seen])) <= 33


def test_other_injections_are_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    other = write_grid(tmp_path / "other", draws_seed=9, per_cell=20)
    with pytest.raises(ValueError, match="do not have the same injections") as caught:
        compare_grids(folders[1], other)
    assert "injections_per_cell 100 against 20" in str(caught.value)
    assert "seed 0 against 9" in str(caught.value)


def test_hosts_that_changed_are_named(tmp_path: Path) -> None:
    one = write_grid(tmp_path / "one", per_cell=5)
    other = write_grid(tmp_path / "other", per_cell=5, no_hosts=[(1.3, 23.5)])
    with pytest.raises(ValueError, match="the configurations agree, but hosts, priors"):
        compare_grids(one, other)


def test_other_origin_is_refused(tmp_path: Path) -> None:
    one = write_grid(tmp_path / "one", per_cell=5)
    other = write_grid(tmp_path / "other", per_cell=5, origin="DR10")
    with pytest.raises(ValueError, match="different origin, simulated and DR10"):
        compare_grids(one, other)


def test_thresholds_are_matched(tmp_path: Path) -> None:
    one = write_grid(tmp_path / "one", per_cell=5, fpr_targets=[0.01, 0.002], thresholds=[0.5])
    other = write_grid(tmp_path / "other", per_cell=5, fpr_targets=[0.002], thresholds=[0.5, 0.6])
    fixed, rate = compare_grids(one, other).thresholds
    assert (str(fixed), str(rate)) == ("score > 0.5", "FPR 0.002")
    assert fixed.second.threshold == 0.5
    assert rate.second.fpr_target == 0.002
    none = write_grid(tmp_path / "none", per_cell=5, fpr_targets=[0.05])
    with pytest.raises(ValueError, match=r"no threshold in common .*FPR 0\.01.*; FPR 0\.05\)"):
        compare_grids(one, none)


def test_other_bins_are_refused(tmp_path: Path) -> None:
    one = write_grid(tmp_path / "one", per_cell=5)
    other = write_grid(tmp_path / "other", per_cell=5, edges=[23, 24.5, 26])
    with pytest.raises(ValueError, match=r"cannot be compared bin by bin .*source_mag_bins"):
        compare_grids(one, other)


def test_rows_in_another_order_are_noticed(folders: tuple[Path, Path], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folders[1], tmp_path / "copy"))
    table = parquet.read_table(copy / "injections.parquet")
    order = np.r_[np.arange(1, len(table)), 0]
    parquet.write_table(table.take(order), copy / "injections.parquet")
    with pytest.raises(ValueError, match="differ in injection_id after row 0"):
        compare_grids(folders[0], copy)


def test_nothing_with_two_scores_is_refused(tmp_path: Path) -> None:
    one = write_grid(tmp_path / "one", per_cell=1, failed=10)
    with pytest.raises(ValueError, match="no injection has a score in both"):
        compare_grids(one, one)


def test_command_writes_files(
    folders: tuple[Path, Path],
    comparison: Comparison,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(figure_compare, "comparison_figure", lambda _: Figure((1, 1)))
    out = tmp_path / "new" / "folder"
    result = invoke(app, *folders, "--out", out, "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    paths = [out / f"comparison.{kind}" for kind in ("parquet", "csv", "png", "json")]
    assert [Path(name) for name in report["files"]] == paths
    assert sorted(out.iterdir()) == sorted(paths)
    metadata = json.loads(paths[3].read_text())
    assert json.loads(parquet.read_schema(paths[0]).metadata[b"dhs"]) == metadata
    assert metadata.items() <= report.items()
    assert metadata == comparison.metadata()
    pd.testing.assert_frame_equal(pd.read_parquet(paths[0]), comparison.table)
    pd.testing.assert_frame_equal(pd.read_csv(paths[1]), comparison.table)
    assert paths[2].read_bytes().startswith(b"\x89PNG")


def test_description(comparison: Comparison) -> None:
    metadata = comparison.metadata()
    for name, grid, spec in (
        ("first", comparison.first, LEGACY),
        ("second", comparison.second, CORRECTED),
    ):
        assert metadata[name]["spec"] == spec.to_dict()
        assert metadata[name]["injections_fingerprint"] == grid.metadata["injections_fingerprint"]
    assert metadata["draws_fingerprint"] == comparison.first.metadata["draws_fingerprint"]
    assert metadata["preprocessing_differs"] == [
        "annulus_r_in 20.0 against 32.5",
        "annulus_r_out 32.0 against 45.0",
    ]
    kinds = [item["threshold"] for item in metadata["thresholds"]]
    assert kinds == ["score > 0.5", "FPR 0.01", "FPR 0.001"]


def test_picture_across_annuli(comparison: Comparison) -> None:
    figure = figure_compare.comparison_figure(comparison)
    check_legible(figure)
    said = texts(figure)
    assert "Across annuli: A (20, 32) px, B (32.5, 45) px" in said
    # Thresholds set by rates come first; each has three maps followed by two colour bars.
    axes = figure.get_axes()
    assert len(axes) == 15
    for row, common in enumerate(comparison.thresholds[1:]):
        cells = comparison.rows(POOLED, common)
        cells = cells[cells[MAGNITUDE] != "all"]
        change = axes[5 * row + 2]
        stars = [text for text in change.texts if text.get_text().endswith("*")]
        outlines = [patch for patch in change.patches if not patch.get_fill()]
        assert len(stars) == len(outlines) == cells["significant"].sum() > 0
        drawn = [float(text.get_text()) for text in axes[5 * row].texts]
        np.testing.assert_allclose(drawn, cells["completeness_first"], atol=0.0051)
        low, high = axes[5 * row + 4].get_ylim()
        assert high == -low >= cells["difference"].abs().max()


def test_picture_of_two_models(tmp_path: Path) -> None:
    common: dict[str, Any] = {"per_cell": 9, "fpr_targets": [0.01]}
    one = write_grid(tmp_path / "one", name="one.safetensors", **common)
    other = write_grid(tmp_path / "other", name="other.safetensors", better=0.1, **common)
    said = "\n".join(texts(figure_compare.comparison_figure(compare_grids(one, other))))
    assert "Across annuli" not in said
    assert "A: bottlenecked_resnet, one.safetensors" in said
    assert "B: bottlenecked_resnet, other.safetensors" in said
    assert f"both: {CORRECTED}" in said


def test_command_prints_a_table(
    folders: tuple[Path, Path],
    comparison: Comparison,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setattr("dhs.selection.compare.write_comparison", lambda *_: [tmp_path / "a.csv"])
    result = invoke(app, *folders, "--out", tmp_path)
    found = comparison.overall(comparison.thresholds[2])
    row = next(line for line in result.stdout.splitlines() if "FPR 0.001" in line)
    cells = [cell.strip() for cell in row.strip("│ ").split("│")]
    assert cells[1] == f"{found['completeness_first']:.3f}"
    assert cells[4:6] == [str(found["n_only_first"]), str(found["n_only_second"])]
    assert cells[7] == f"{found['significant_cells']} of 15"
    assert "annulus (20, 32) px, legacy, inside the galaxy" in result.stdout


def test_command_says_what_is_wrong(folders: tuple[Path, Path], tmp_path: Path) -> None:
    result = invoke(app, folders[0], tmp_path, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "has no grid.json; give the folder of a finished grid" in message(result)
    assert not (tmp_path / "out").exists()
