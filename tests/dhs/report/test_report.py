"""``dhs report``: the content of the page, for intact artefacts and for damaged ones."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from pyarrow import parquet
from sklearn.metrics import roc_curve

from dhs.audit import Audit
from dhs.audit.artefacts import Artefacts, Document
from dhs.commands import report as command
from dhs.report import write_report
from dhs.report.levels import completeness_levels
from dhs.report.parts import in_script
from dhs.selection.grid_result import GridResult
from dhs.statistics.clusters import cluster_interval
from dhs.statistics.thresholds import Threshold
from tests.command_line import invoke
from tests.dhs.evaluate import evaluate_cases as evaluations
from tests.dhs.report import report_cases as cases
from tests.dhs.selection.grid_cases import without_hosts, write_grid
from tests.dhs.train.training_runs import write_pack

app = typer.Typer()
app.command()(command.report)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> cases.WrittenReport:
    return cases.whole_report(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def folder(made: cases.WrittenReport) -> Path:
    return made.path.parent


def test_names_are_text_whatever_they_hold(made: cases.WrittenReport) -> None:
    page = made.page
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    # Only the template opens and closes script elements.
    assert page.count("</script>") == page.count("<script")
    assert in_script('["</script>"]') == '["\\u003c/script>"]'
    assert [str(item.path.name) for item in made.rejected] == ["script>&\"'"]


def test_nothing_is_fetched_from_anywhere(made: cases.WrittenReport) -> None:
    own = re.sub(r"<script>.*?</script>", "", made.page, flags=re.DOTALL)
    assert not re.search(r"(?:src|href)\s*=\s*[\"']?\s*(?:\w+:)?//", own)
    assert not re.search(r"@import|url\(", own)
    assert "default-src 'none'" in own
    sources = re.findall(r'src="([^"]{5})', own)
    assert sources
    assert set(sources) == {"data:"}


def test_no_two_elements_share_an_id(made: cases.WrittenReport) -> None:
    ids = re.findall(r'<[^>]* id="([^"]+)"', made.page)
    assert len(ids) > 20
    assert sorted(set(ids)) == sorted(ids)


def test_verdicts_have_words_and_signs(made: cases.WrittenReport) -> None:
    plan = made.section("plan")
    for sign, verdict in zip("\u2713\u2717?", ("holds", "fails", "cannot be judged"), strict=True):
        assert f'<span aria-hidden="true">{sign}</span> {verdict}' in plan
    assert "<strong>Missing:</strong> train on DR10" in plan
    assert "Unreadable files" in plan


def test_every_legacy_artefact_is_labelled(made: cases.WrittenReport) -> None:
    for key, badges in (("completeness", 1), ("gallery", 1), ("made", 3)):
        assert made.section(key).count('class="badge legacy"') == badges, key
    for key in ("training", "recall", "calibration"):
        assert "legacy annulus" in made.section(key), key


def test_the_slider_counts_what_pandas_counts(made: cases.WrittenReport, folder: Path) -> None:
    grid = GridResult(folder / "legacy")
    levels, data = completeness_levels(grid), made.data("levels", "map-1")
    table = pd.read_parquet(grid.folder / "injections.parquet").dropna(subset="logit")
    negatives = grid.negatives()
    assert negatives is not None
    bins = pd.cut(table["source_r_mag"], cases.EDGES, right=False, include_lowest=True)
    assert len(data["steps"]) == len(levels.logits) > 40
    assert {"FPR 0.01", "FPR 0.001"} <= set(levels.names)
    steps = list(zip(levels.logits, data["steps"], strict=True))
    own = 0
    # Every fifth threshold is enough, and the last, and those of the grid.
    for logit, step in steps[::-5] + [item for item in steps if "FPR" in item[1]["score"]]:
        is_found = table["logit"] > logit
        own += "FPR" in step["score"]
        counts = pd.crosstab(bins[is_found], table["theta_e"][is_found], dropna=False)
        np.testing.assert_array_equal(step["found"], counts)
        above = int((negatives > logit).sum())
        assert f"{above:,} of 10,000 non-lenses" in step["rate"]
        by_host = table.assign(found=is_found).groupby("host_row")["found"]
        found = cluster_interval(by_host.sum(), by_host.size())
        low, high, kind = float(found.low), float(found.high), "hosts"
        share, said = is_found.mean(), f"{is_found.sum():,} of {len(table):,} in 50 hosts"
        if "FPR" in step["score"]:
            (threshold,) = [item for item in grid.thresholds if item.logit == logit]
            measured = grid.completeness(threshold)
            assert measured.high - measured.low > high - low
            low, high, kind = float(measured.low), float(measured.high), "hosts and non-lenses"
        interval = f"({low:.3f} to {high:.3f})"
        assert step["completeness"] == f"{share:.3f} {interval}, {said}; interval: {kind}"
        kept = table["host_row"].isin(np.flatnonzero(negatives <= logit))
        assert step["net"].startswith(f"{is_found[kept].mean():.3f} (" if kept.any() else "undefin")
        if "FPR" in step["score"]:
            assert step["net"].endswith(f"({measured.net_low:.3f} to {measured.net_high:.3f})")
    assert own >= 2
    np.testing.assert_array_equal(data["tried"], pd.crosstab(bins, table["theta_e"], dropna=False))


def test_seeing_and_depth_are_those_of_the_hosts(tmp_path: Path) -> None:
    axes = replace(cases.AXES, psf_fwhm=(1.2, 1.2, 0.6))
    folder = write_grid(tmp_path / "grid", axes=axes)
    made = cases.report(tmp_path, grids=[GridResult(folder)])
    # Hosts lie a quarter of a step above the centres of their cells.
    seeing = "PSF FWHM 1.35 arcsec, 5-sigma depth 22.75 mag"
    for section in ("completeness", "gallery"):
        assert seeing in made.section(section)
    for name, value in (("PSF FWHM", "1.35\u2033"), ("depth", "22.75 mag")):
        assert f"<dt>{name}</dt><dd>{value}</dd>" in made.section("gallery")
    assert "cell centre" not in made.section("gallery")
    path = folder / "injections.parquet"
    bare = parquet.read_table(path).drop_columns(["host_psf_fwhm", "host_depth_5sig"])
    parquet.write_table(bare, path)
    made = cases.report(tmp_path, grids=[GridResult(folder)])
    assert "<dt>PSF FWHM, cell centre</dt><dd>1.20\u2033</dd>" in made.section("gallery")
    assert "<dt>PSF FWHM</dt>" not in made.section("gallery")
    assert "PSF FWHM" not in made.section("completeness")


def test_cells_of_too_few_injections_are_no_zeros(made: cases.WrittenReport) -> None:
    tried = np.array(made.data("levels", "map-0")["tried"])
    assert (tried[-1] < 10).all()
    below, above = made.data("chart", "map-0")["data"]
    assert above["z"][-1] == [None] * 4
    assert below["text"][-1] == ["n/a"] * 4
    assert None not in above["z"][0]
    assert made.section("completeness").count('<td class="number">n/a</td>') == 8


def test_intervals_of_the_old_kind_are_named(tmp_path: Path) -> None:
    (grid,) = cases.two_grids(tmp_path)[1:]
    assert "old kind" not in cases.report(tmp_path, grids=[grid]).page
    old = GridResult(without_hosts(grid.folder))
    page = cases.report(tmp_path, grids=[old]).page
    assert page.count("are of the old kind") >= 3  # completeness, gallery, and the card
    assert "computed again from the injections, by host" in page


def test_cells_of_few_hosts_are_marked(made: cases.WrittenReport, folder: Path) -> None:
    grid = GridResult(folder / "legacy")
    hosts = grid.completeness(grid.thresholds[0], ("source_mag_bin", "theta_e")).hosts
    marks = made.data("levels", "map-1")["marks"]
    expected = [[" \u2020" if 0 < count < 30 else "" for count in row] for row in hosts.tolist()]
    assert marks == expected
    assert sum(map(bool, np.ravel(marks))) > 0
    section = made.section("completeness")
    assert "\u2020: fewer than 30 hosts" in section


def test_a_grid_without_non_lenses_has_a_slider_too(tmp_path: Path) -> None:
    written = write_grid(tmp_path / "grid", axes=cases.AXES, thresholds=[0.5])
    (written / "negatives.parquet").unlink()
    grid = GridResult(written)
    logits = pd.read_parquet(written / "injections.parquet")["logit"]
    on_an_injection = Threshold(0.5, float(logits[0]), "FPR=0.5", 0.5)
    grid.thresholds.append(on_an_injection)
    levels = completeness_levels(grid)
    # A score equal to the threshold is not a detection.
    found = levels.found[levels.names.index("FPR 0.5")].sum()
    assert found == (logits > logits[0]).sum()
    assert len(levels.logits) > 40
    assert "score > 0.5" in levels.names
    assert set(levels.negatives) == {None}


def test_the_gallery_says_all_parameters(made: cases.WrittenReport) -> None:
    gallery = made.section("gallery")
    assert gallery.count('<figure tabindex="0"') == 24
    assert gallery.count("<dt>magnification</dt>") == 24
    table = pd.read_parquet(made.path.parent / "legacy" / "injections.parquet")
    shown = re.findall(r'<tr><th scope="row">(\d+)</th>', gallery)
    assert set(map(int, shown)) <= set(table["injection_id"])


def test_a_grid_without_hosts_shows_the_picture_it_drew(
    tmp_path: Path, made: cases.WrittenReport
) -> None:
    (grid,) = cases.two_grids(tmp_path)[1:]
    picture = made.section("annuli").partition('src="data:image/png;base64,')[2].partition('"')[0]
    (grid.folder / "gallery.png").write_bytes(base64.b64decode(picture))
    out = tmp_path / "report.html"
    rejected = write_report(Artefacts([tmp_path], grids=[grid]), Audit((), ()), out)
    assert [item.path for item in rejected] == [grid.folder]
    gallery = cases.WrittenReport(out, rejected).section("gallery")
    assert "Could not be read:" in gallery
    assert picture in gallery


def test_curves_are_those_of_sklearn(folder: Path) -> None:
    document = cases.evaluation(folder)
    truth, logits = evaluations.IS_LENS, evaluations.FIRST.astype(np.float32)
    rates, recalls, _ = roc_curve(truth, logits, drop_intermediate=False)
    for item in document.metadata["tables"]:
        curve = item["roc"]
        assert len({len(values) for values in curve.values()}) == 1
        assert len(curve["fpr"]) <= 200
        assert (np.array(curve["low"]) <= curve["high"]).all()
    curve = document.metadata["tables"][0]["roc"]
    for rate, recall in zip(curve["fpr"], curve["recall"], strict=True):
        assert recall == pytest.approx(recalls[rates <= rate + 1e-12].max(), abs=1e-12)
    assert max(curve["recall"]) <= 1


def test_recall_is_drawn_in_steps(made: cases.WrittenReport) -> None:
    (key,) = set(re.findall(r'data-chart="(roc[^"]*)"', made.page))
    lines = [trace for trace in made.data("chart", key)["data"] if trace["mode"] == "lines"]
    assert len(lines) == 6
    assert {trace["line"].get("shape") for trace in lines} == {"hv"}


def test_the_losses_of_one_training_have_two_colours(made: cases.WrittenReport) -> None:
    training, validation = made.data("chart", "training-loss")["data"]
    assert training["line"]["color"] != validation["line"]["color"]
    section = made.section("training")
    for trace, name in ((training, "training"), (validation, "validation")):
        assert trace["name"].startswith(name)
        assert re.search(rf"{trace['line']['color']}.{{0,400}}?>\s*{name}\b", section, re.DOTALL)


def test_an_evaluation_without_curves_says_so(folder: Path, tmp_path: Path) -> None:
    metadata = cases.evaluation(folder).metadata
    for item in metadata["tables"]:
        del item["roc"]
    made = cases.report(tmp_path, evaluations=[Document(tmp_path / "evaluation.json", metadata)])
    assert not made.rejected
    assert "Run the same dhs evaluate again" in made.section("recall")
    assert "Recall at fixed false-positive rates" in made.section("recall")


def test_nothing_found_says_which_command_makes_it(tmp_path: Path) -> None:
    made = cases.report(tmp_path)
    assert not made.rejected
    for key, line in {
        "training": "dhs train CONFIG",
        "recall": "dhs evaluate SCORES",
        "completeness": "dhs grid CONFIG",
        "realism": "dhs realism CHECKPOINT",
        "comparisons": "dhs grid compare A B",
    }.items():
        assert f"<code>{line}" in made.section(key), key
    assert "simulated for this report" in made.section("annuli")


def test_damaged_artefacts_are_named_where_they_are_missed(tmp_path: Path) -> None:
    grid, sound = cases.two_grids(tmp_path)
    injections = grid.folder / "injections.parquet"
    # The footer is intact, the pages are not.
    content = bytearray(injections.read_bytes())
    content[4 : len(content) // 2] = bytes(len(content) // 2 - 4)
    injections.write_bytes(content)
    checkpoint = cases.training(tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 0}\n')
    damaged = Document(tmp_path / "evaluation.json", {"tables": 7})
    made = cases.report(
        tmp_path,
        checkpoints=[checkpoint],
        grids=[GridResult(grid.folder), sound],
        evaluations=[damaged],
        realism=[Document(tmp_path / "realism.json", {"probe": {}})],
    )
    names = {item.path.name for item in made.rejected}
    assert names == {grid.folder.name, "metrics.jsonl", "evaluation.json", "realism.json"}
    for key in ("training", "recall", "calibration", "completeness", "gallery", "realism", "made"):
        assert "Could not be read:" in made.section(key), key
    # The intact grid is shown.
    assert 'data-map="map-1"' in made.section("completeness")


def test_a_pack_too_small_for_the_legacy_annulus_is_passed_over(tmp_path: Path) -> None:
    pack = Document(write_pack(tmp_path / "pack", 4), {"data_origin": "simulated"})
    gone = Document(tmp_path / "gone", {"data_origin": "simulated"})
    made = cases.report(tmp_path, packs=[gone, pack])
    assert [item.path for item in made.rejected] == [gone.path]
    assert "too small for the legacy annulus" in made.section("annuli")
    assert "simulated for this report" in made.section("annuli")


def test_commands_are_those_that_were_recorded(made: cases.WrittenReport, folder: Path) -> None:
    text = made.section("made")
    assert "dhs train training.yaml" in text
    assert "--label-col label --tier-col tier" in text
    assert f"dhs checkpoint import &#39;{folder}/old model.pt&#39;" in text
    assert "out_dir:" in text


def test_the_command(tmp_path: Path) -> None:
    cases.training(tmp_path)
    (tmp_path / "evaluation.json").write_text("{")
    out = tmp_path / "report.html"
    result = invoke(app, tmp_path, "--out", out, "--json")
    assert result.exit_code == 1
    said = json.loads(result.stdout)
    assert [Path(item["path"]).name for item in said["rejected"]] == ["evaluation.json"]
    assert said["bytes"] == out.stat().st_size
    assert said["audit"]["holds"] is False
    empty = tmp_path / "empty"
    empty.mkdir()
    result = invoke(app, empty, "--out", out)
    assert result.exit_code == 1
    assert "no artefact was found" in result.stderr
    assert invoke(app, empty, "--out", tmp_path / "report.txt").exit_code == 2
    assert invoke(app, tmp_path / "gone", "--out", out).exit_code == 2
