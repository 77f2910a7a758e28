"""Figures of a grid show the right numbers and are legible."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from pyarrow import parquet

from dhs.figures import BIN_STYLES, short_count
from dhs.selection import grid_result
from dhs.selection.figure import draw_grid
from dhs.selection.figure_curves import completeness_figure, score_figure
from dhs.selection.figure_gallery import CANDIDATES, choose, gallery_figure
from dhs.selection.figure_maps import map_figure
from dhs.selection.figure_style import MOST_THRESHOLDS, drawn_thresholds
from dhs.selection.grid_result import MAGNITUDE, GridResult
from dhs.statistics.thresholds import Threshold
from tests.dhs.report.legible import check_legible, texts
from tests.dhs.selection.grid_cases import Axes, FakeImages, without_hosts, write_grid


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_grid(tmp_path_factory.mktemp("grid"), no_hosts=[(1.3, 23.5)], thresholds=[0.5])


@pytest.fixture(scope="module")
def grid(folder: Path) -> GridResult:
    return GridResult(folder)


def counts(grid: GridResult, threshold: Threshold, *by: str) -> tuple[Any, Any]:
    found = grid.completeness(threshold, by)
    return found.tried, found.found


def test_every_picture_is_written(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    names = ["completeness.png", "maps.png", "scores.png", "gallery.png"]
    paths = draw_grid(copy, FakeImages)
    assert paths == [copy / name for name in names]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    assert not list(copy.glob(".*"))


def test_completeness_is_that_of_the_table(grid: GridResult) -> None:
    figure = completeness_figure(grid)
    check_legible(figure)
    panels = figure.get_axes()
    assert [axes.get_title().splitlines()[0].split(" (")[0] for axes in panels] == [
        "FPR 0.01",
        "FPR 0.001",
        "score > 0.5",
    ]
    table = grid.table
    for axes, threshold in zip(panels, drawn_thresholds(grid.thresholds), strict=True):
        bars = [item for item in axes.containers if isinstance(item, ErrorbarContainer)]
        assert len(bars) == 3
        for name, bar in zip(grid.bins, bars, strict=True):
            heights = np.asarray(bar.lines[0].get_ydata(), float)
            segments: Any = bar.lines[2][0]
            for k, radius in enumerate(grid.centres["theta_e"]):
                rows = table[
                    (table["theta_e"] == radius)
                    & (table["threshold"] == threshold.threshold)
                    & (table[MAGNITUDE] == name)
                ]
                found, tried = int(rows["n_detected"].sum()), int(rows["n_injections"].sum())
                assert heights[k] == found / tried
                pooled = grid.completeness(threshold, ("theta_e", MAGNITUDE))
                place = (k, grid.bins.index(name))
                assert (pooled.found[place], pooled.tried[place]) == (found, tried)
                ends = segments.get_segments()[k][:, 1]
                assert ends.tolist() == pytest.approx([pooled.low[place], pooled.high[place]])
    says = " ".join(texts(figure))
    assert "bottlenecked_resnet" in says
    assert "annulus (32.5, 45) px, corrected, on the sky" in says
    assert "hosts: simulated" in says
    tried, _ = counts(grid, grid.thresholds[0], "theta_e", MAGNITUDE)
    assert f"{tried.min()} to {tried.max()} injections into" in says
    assert "hosts per point" in says
    assert "hosts are the sampling unit" in says
    assert "the scatter of the threshold is included" in says


def test_assumed_seeing_and_hosts_that_pass_alone_are_in_the_figures(tmp_path: Path) -> None:
    given = {"psf_fwhm": 1.3}
    grid = GridResult(write_grid(tmp_path, assumed=given, fpr_targets=[0.25], thresholds=[0.9]))
    rate = drawn_thresholds(grid.thresholds)[0]
    figures = [
        completeness_figure(grid),
        map_figure(grid, rate),
        score_figure(grid),
        gallery_figure(grid, rate, FakeImages),
    ]
    for figure in figures:
        check_legible(figure)
        assert "every host with PSF FWHM 1.3 arcsec (assumed)" in " ".join(texts(figure))
        assert "all PSFs" not in " ".join(texts(figure))
    for figure in figures[:2]:
        said = " ".join(texts(figure))
        assert f"{float(grid.completeness(rate).net):.3f} (" in said
        assert "quote the net completeness" in said
    assert "all depths" in " ".join(texts(figures[0]))
    (measured, *_) = figures[1].get_axes()
    assert measured.get_title(loc="left").endswith("; all depths")


def test_points_of_few_hosts_are_open_and_of_fewer_have_no_bar(tmp_path: Path) -> None:
    few, too_few = (
        GridResult(write_grid(tmp_path / str(hosts), hosts=hosts, per_cell=45)) for hosts in (27, 8)
    )
    for grid, says in ((few, "open: fewer than 30 hosts"), (too_few, "too few hosts (below 10)")):
        figure = completeness_figure(grid)
        check_legible(figure)
        assert says in " ".join(texts(figure))
        (axes, *_) = figure.get_axes()
        white = [line for line in axes.lines if line.get_markerfacecolor() == "white"]
        assert [len(line.get_xdata()) for line in white] == [5, 5, 5]  # type: ignore[arg-type]
        bars = [item for item in axes.containers if isinstance(item, ErrorbarContainer)]
        lengths = np.concatenate([np.ptp(_ends(bar), axis=1) for bar in bars])
        assert (lengths > 0).all() == (grid is few)
        assert (lengths > 0).any() == (grid is few)
        maps = map_figure(grid, grid.thresholds[0])
        check_legible(maps)
        dashed = [p for a in maps.get_axes()[:3] for p in a.patches if p.get_linestyle() != "solid"]
        assert len(dashed) >= 15


def _ends(bar: ErrorbarContainer) -> np.ndarray[Any, Any]:
    segments: Any = bar.lines[2][0]
    return np.array([segment[:, 1] for segment in segments.get_segments()])


def test_intervals_of_the_old_kind_are_named(tmp_path: Path) -> None:
    grid = GridResult(without_hosts(write_grid(tmp_path)))
    assert grid.interval_kind == "binomial"
    for figure in (completeness_figure(grid), map_figure(grid, grid.thresholds[0])):
        check_legible(figure)
        assert "are of the old kind" in " ".join(texts(figure))
    says = " ".join(texts(completeness_figure(grid)))
    assert "computed again from the injections, by host" in says


def test_maps_have_the_counts_and_hatch_what_has_no_hosts(grid: GridResult) -> None:
    threshold = grid.thresholds[1]
    figure = map_figure(grid, threshold)
    check_legible(figure)
    magnitudes, depths, widths = figure.get_axes()[:3]
    tried, found = counts(grid, threshold, "theta_e", "depth_5sig")
    drawn = [text.get_text() for text in depths.texts]
    assert drawn == [f"{f / t:.2f}\n{t}" for t, f in zip(tried[:, 0], found[:, 0], strict=True)]
    assert not tried[:, 1].any()
    assert sum(bool(patch.get_hatch()) for patch in depths.patches) == 5
    assert not any(patch.get_hatch() for patch in (*magnitudes.patches, *widths.patches))
    assert len(magnitudes.texts) == 15
    assert len(widths.texts) == 5


def test_magnitudes_are_in_one_order_with_the_bright_ones_first(grid: GridResult) -> None:
    maps = map_figure(grid, grid.thresholds[1])
    curves = completeness_figure(grid)
    downwards = []
    for axes in maps.get_axes()[:2]:
        height = axes.transData.transform
        labels = zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)
        placed = sorted((-height((0, place))[1], label.get_text()) for place, label in labels)
        downwards.append([text.partition("\N{EN DASH}")[0] for _, text in placed])
    assert [len(names) for names in downwards] == [3, 2]
    for names in downwards:
        assert names == sorted(names, key=float)
    legend = [text.get_text().partition("\N{EN DASH}")[0] for text in curves.legends[0].get_texts()]
    assert legend == downwards[0]


def test_scores_are_read_in_pieces(grid: GridResult, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [np.asarray(patch.get_data().values) for patch in _stairs(score_figure(grid))]
    monkeypatch.setattr(grid_result, "ROWS_AT_ONCE", 7)
    figure = score_figure(grid)
    check_legible(figure)
    pieces = _stairs(figure)
    for one, other in zip(whole, pieces, strict=True):
        values, edges, _ = other.get_data()
        np.testing.assert_array_equal(one, values)
        assert np.sum(values * np.diff(edges)) == pytest.approx(1)
    lines = {
        line.get_label(): np.asarray(line.get_xdata())[0] for line in figure.get_axes()[0].lines
    }
    assert lines["FPR 0.001"] == grid.thresholds[2].logit
    counted, _ = counts(grid, grid.thresholds[0], MAGNITUDE)
    assert f"{counted[0]:,} injections" in str(pieces[1].get_label())


def _stairs(figure: Figure) -> list[Any]:
    return [patch for patch in figure.get_axes()[0].patches if hasattr(patch, "get_data")]


def test_scores_without_negatives(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copy / "negatives.parquet").unlink()
    assert len(_stairs(score_figure(GridResult(copy)))) == 3


def test_gallery_shows_found_and_missed(grid: GridResult) -> None:
    asked: list[int] = []

    def open_images(folder: Path, ids: Sequence[int]) -> FakeImages:
        asked.extend(ids)
        return FakeImages(folder, ids)

    threshold = grid.thresholds[1]
    figure = gallery_figure(grid, threshold, open_images)
    check_legible(figure)
    assert len(figure.get_axes()) == 12
    rows = FakeImages(grid.folder, asked).table
    is_found = (rows["logit"] > threshold.logit).to_numpy()
    assert is_found.tolist() == [True] * 6 + [False] * 6
    for part in (rows[:6], rows[6:]):
        assert (np.diff(part["arc_snr_r"]) > 0).all()
    said = texts(figure)
    first = rows.iloc[0]
    assert f"SNR {first['arc_snr_r']:.1f}  score {first['score']:.3f}" in "\n".join(said)
    tried, found = counts(grid, threshold, "psf_fwhm")
    assert f"found: {found.sum()} of {tried.sum()}" in said


def test_choice_depends_on_no_order_or_piece(
    grid: GridResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threshold = grid.thresholds[1]
    chosen = choose(grid, threshold)
    monkeypatch.setattr(grid_result, "ROWS_AT_ONCE", 11)
    table = parquet.read_table(grid.folder / "injections.parquet")
    order = np.random.default_rng(0).permutation(len(table))
    copy = Path(shutil.copytree(grid.folder, tmp_path / "copy"))
    parquet.write_table(table.take(pyarrow.array(order)), copy / "injections.parquet")
    again = choose(GridResult(copy), threshold)
    for name in ("found", "missed"):
        assert chosen[name].ids.tolist() == again[name].ids.tolist()


def test_sample_is_bounded_and_spread(tmp_path: Path) -> None:
    grid = GridResult(write_grid(tmp_path, per_cell=400, fpr_targets=[0.01]))
    chosen = choose(grid, grid.thresholds[0])["found"]
    assert chosen.total > 3 * CANDIDATES
    snr = FakeImages(tmp_path, chosen.ids.tolist()).table["arc_snr_r"].to_numpy()
    batches = list(grid.batches("arc_snr_r", "logit"))
    every = np.concatenate([b["arc_snr_r"][b["logit"] > grid.thresholds[0].logit] for b in batches])
    ranks = np.searchsorted(np.sort(every), snr) / len(every)
    np.testing.assert_allclose(ranks, (np.arange(6) + 0.5) / 6, atol=0.06)


def test_a_grid_where_nothing_is_missed(tmp_path: Path) -> None:
    grid = GridResult(write_grid(tmp_path, per_cell=10, thresholds=[1e-9], fpr_targets=[]))
    figure = gallery_figure(grid, grid.thresholds[0], FakeImages)
    assert len(figure.get_axes()) == 6
    assert "missed: 0 of 97" in texts(figure)


def test_many_bins_and_thresholds_can_be_read(tmp_path: Path) -> None:
    edges = [23.0, 23.5, 24.0, 24.5, 25.0, 25.5, 26.0]
    grid = GridResult(
        write_grid(
            tmp_path,
            axes=Axes((0.5, 3.0, 0.5), (0.9, 1.8, 0.9), (22.5, 22.5, 0.5)),
            edges=edges,
            thresholds=[0.5, 0.9],
            name="a_long_name_of_a_checkpoint_that_says_everything_about_its_training.safetensors",
        )
    )
    figure = completeness_figure(grid)
    check_legible(figure)
    assert len(figure.get_axes()) == MOST_THRESHOLDS
    check_legible(map_figure(grid, grid.thresholds[0]))
    assert all(one["marker"] != two["marker"] for one, two in itertools.combinations(BIN_STYLES, 2))


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (9999, "9999"),
        (10_000, "10k"),
        (999_499, "999k"),
        (999_500, "1M"),
        (3_030_303, "3.03M"),
    ],
)
def test_short_counts(count: int, text: str) -> None:
    assert short_count(count) == text


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("grid.json", "has no grid.json"),
        ("injections.parquet", "has no injections.parquet"),
        ("selection_function.parquet", "has no selection_function.parquet"),
    ],
)
def test_an_unfinished_folder_is_refused(
    folder: Path, tmp_path: Path, name: str, says: str
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copy / name).unlink()
    with pytest.raises(ValueError, match=says):
        GridResult(copy)


def test_files_of_two_grids_are_refused(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    other = write_grid(tmp_path / "other", noise_seed=2, thresholds=[0.5], per_cell=5)
    shutil.copy(other / "injections.parquet", copy)
    with pytest.raises(ValueError, match=r"injections\.parquet and grid\.json belong to different"):
        GridResult(copy)


def test_a_grid_without_a_score_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    metadata = json.loads((copy / "grid.json").read_text()) | {"injections": 0, "failed": 4}
    (copy / "grid.json").write_text(json.dumps(metadata))
    with pytest.raises(ValueError, match=r"no scored injection \(4 failed\)"):
        draw_grid(copy, FakeImages)
