"""Comparison of two grids: refused input, what it says of itself, and written files."""

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
from dhs.selection import figure_compare
from dhs.selection.compare import compare_grids
from dhs.selection.comparison import Comparison
from dhs.selection.grid_result import MAGNITUDE, GridResult
from dhs.selection.paired import POOLED, difference_text
from tests.command_line import invoke, message
from tests.dhs.report.legible import check_legible, texts
from tests.dhs.selection.compare_cases import write_pair
from tests.dhs.selection.grid_cases import CORRECTED, LEGACY, without_hosts, write_grid

app = typer.Typer()
app.command()(grid_compare.compare)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_pair(tmp_path_factory.mktemp("grids"))


@pytest.fixture(scope="module")
def comparison(folders: tuple[Path, Path]) -> Comparison:
    return compare_grids(*folders)


def heading_of(comparison: Comparison) -> str:
    return " ".join(texts(figure_compare.comparison_figure(comparison))).replace("\n", " ")


def test_too_few_hosts_have_no_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (write_grid(tmp_path / f"{k}", hosts=9, noise_seed=k) for k in (1, 2))
    comparison = compare_grids(one, other)
    assert comparison.table["difference"].notna().any()
    assert comparison.table[["difference_joint_lo", "p_value"]].isna().to_numpy().all()
    (found, _) = comparison.metadata()["thresholds"]
    assert found["p_value"] is found["difference_ci95_lo"] is None
    assert json.loads(json.dumps(found, allow_nan=False))["cells"] == 0
    monkeypatch.setenv("COLUMNS", "140")
    assert "too few" in invoke(app, one, other, "--out", tmp_path / "out").stdout
    said = heading_of(comparison)
    assert "(too few hosts), p = too few" in said
    assert "not tested: 15 cells with fewer than 10 hosts" in said


def test_folders_of_the_old_kind_are_compared(tmp_path: Path) -> None:
    old = without_hosts(write_grid(tmp_path / "old", noise_seed=2))
    folders = old, write_grid(tmp_path / "new")
    comparison = compare_grids(*folders)
    (warning,) = comparison.metadata()["warnings"]
    assert warning.startswith(f"{old}: The intervals")
    assert "of the old kind" in warning
    assert not comparison.table["p_value"].dropna().empty
    assert "A: the intervals of its own table are of the old kind" in heading_of(comparison)
    assert "of the old kind" in invoke(app, *folders, "--out", tmp_path / "out").stdout


def test_other_non_lenses_are_refused(tmp_path: Path) -> None:
    one, other = (write_grid(tmp_path / name, per_cell=20) for name in ("one", "other"))
    path = other / "negatives.parquet"
    table = parquet.read_table(path)
    parquet.write_table(table.take(np.arange(len(table))[::-1]), path)
    with pytest.raises(ValueError, match="do not have the same non-lenses"):
        compare_grids(one, other)
    path.unlink()
    with pytest.raises(ValueError, match=r"other has no negatives\.parquet"):
        compare_grids(one, other)


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
    said = heading_of(compare_grids(one, other))
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
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("dhs.selection.compare.write_comparison", lambda *_: [tmp_path / "a.csv"])
    result = invoke(app, *folders, "--out", tmp_path)
    found = comparison.overall(comparison.thresholds[2])
    row = next(line for line in result.stdout.splitlines() if "FPR 0.001" in line)
    cells = [cell.strip() for cell in row.strip("│ ").split("│")]
    assert cells[1] == f"{found['completeness_first']:.3f}"
    assert cells[3] == difference_text(found)
    assert cells[4:] == [f"{found['p_value']:.2g}", f"{found['significant_cells']} of 15"]
    assert max(map(len, result.stdout.split("completeness of")[1].splitlines()[2:8])) <= 80
    assert "annulus (20, 32) px, legacy, inside the galaxy" in result.stdout


def test_command_says_what_is_wrong(folders: tuple[Path, Path], tmp_path: Path) -> None:
    result = invoke(app, folders[0], tmp_path, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "has no grid.json; give the folder of a finished grid" in message(result)
    assert not (tmp_path / "out").exists()
