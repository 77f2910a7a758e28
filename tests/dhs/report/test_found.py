"""The first screen of the report: data, models, candidates, completeness, and annuli."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from html import unescape
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import typer
from matplotlib.image import imread

from dhs.audit import audit
from dhs.audit.artefacts import Artefacts, Document, find_artefacts
from dhs.audit.followed import why_followed
from dhs.checkpoint import Checkpoint
from dhs.checkpoint import read as read_checkpoint
from dhs.commands import report as command
from dhs.report import candidates, found, write_report
from dhs.score import score
from dhs.score.table import read_table
from dhs.selection.grid_result import GridResult
from fastnorm.figure import colour_picture
from tests.command_line import invoke, record_opened
from tests.dhs.audit import audit_cases
from tests.dhs.audit.audit_cases import demo as demo
from tests.dhs.audit.audit_cases import grid_folder as grid_folder
from tests.dhs.audit.audit_cases import template as template
from tests.dhs.report import report_cases as cases
from tests.dhs.score.score_cases import images_of
from tests.dhs.score.score_cases import model as model
from tests.dhs.score.score_cases import pack as pack
from tests.dhs.score.test_score_known import sky_pack as sky_pack
from tests.dhs.score.test_score_picture import masked_pack as masked_pack
from tests.dhs.selection.grid_cases import LEGACY, FakeImages, write_grid

app = typer.Typer()
app.command()(command.report)


def write(artefacts: Artefacts, out: Path, plan: bool | None = None) -> cases.WrittenReport:
    rejected = write_report(artefacts, audit(artefacts), out, open_images=FakeImages, plan=plan)
    return cases.WrittenReport(out, rejected)


def lines(report: cases.WrittenReport) -> dict[str, str]:
    """Return the text of every row of the first screen, by its name."""
    rows = re.findall(r'<div class="row.*?</div>', report.section("found"), re.DOTALL)
    said = [" ".join(unescape(re.sub(r"<[^>]+>", " ", row)).split()) for row in rows]
    names = [re.search(r'<a href="#[\w-]+">([^<]+)</a>', row) for row in rows]
    return {name[1]: text for name, text in zip(names, said, strict=True) if name is not None}


def above(artefacts: Artefacts) -> str:
    (best,) = candidates.read_all(artefacts)
    assert isinstance(best, candidates.Candidates)
    return best.above


def sections(report: cases.WrittenReport) -> list[str]:
    return re.findall(r'<section id="(\w+)"', report.page)


@pytest.fixture
def scored(model: Path, sky_pack: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "scored"
    folder.mkdir()
    score(model, [sky_pack], folder / "scores.parquet")
    return folder


def test_the_page_begins_with_what_was_found(demo: Path, tmp_path: Path) -> None:
    report = write(find_artefacts([demo]), tmp_path / "report.html")
    assert sections(report)[0] == "found"
    said = lines(report)
    assert {"Data", "Models", "Candidates", "Completeness", "Annuli"} <= said.keys()
    ids = set(re.findall(r' id="([^"]+)"', report.page))
    assert set(re.findall(r'href="#([\w-]+)"', report.page)) <= ids
    assert "simulated" in report.section("found")
    assert "32.5, 45" in said["Models"]
    assert "bottlenecked_resnet" in said["Models"]


def test_the_auc_has_an_interval_from_the_counts(tmp_path: Path) -> None:
    made = replace(
        cases.training(tmp_path),
        metrics={"val_auc": 0.9, "epoch": 1},
        data={
            "data_origin": "simulated",
            "n_train": 500,
            "n_train_lenses": 100,
            "n_validation": 250,
            "n_validation_lenses": 50,
        },
    )
    said = lines(write(Artefacts([tmp_path], checkpoints=[made]), tmp_path / "r.html"))["Models"]
    interval = re.search(r"validation AUC 0\.9000 \((0\.\d+) to (0\.\d+)\)", said)
    assert interval is not None
    low, high = map(float, interval.groups())
    # Hanley and McNeil (1982): the normal interval of 50 lenses and 200 non-lenses. The score
    # interval takes the mean of both numbers where theirs takes each.
    first, second = 0.9 / (2 - 0.9), 2 * 0.9**2 / (1 + 0.9)
    variance = (0.9 * 0.1 + 49 * (first - 0.81) + 199 * (second - 0.81)) / (50 * 200)
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(variance), rel=0.2)
    assert low < 0.9 < high
    assert "500 cutouts, 100 of them lenses" in said
    assert "from these numbers" in said
    member = {"checkpoint_fingerprint": made.fingerprint}
    area = {"value": 0.9, "low": 0.871, "high": 0.926}
    table = {"members": [member], "combination": "single", "auc": area}
    judged = Document(tmp_path / "e.json", {"tables": [table], "truth": {"split": "val"}})
    assert "0.9000 (0.8710 to 0.9260)" in found._models([made], [judged])[0]
    for changed in ({"tables": [table], "truth": {"split": "test"}}, {"tables": 7}):
        other = Document(tmp_path / "e.json", changed)
        assert "from these numbers" in found._models([made], [other])[0]
    few = replace(made, data=made.data | {"n_validation_lenses": 9})
    said = lines(write(Artefacts([tmp_path], checkpoints=[few]), tmp_path / "r.html"))["Models"]
    assert "too few for an interval" in said
    bare = replace(made, data={"data_origin": "simulated"})
    said = lines(write(Artefacts([tmp_path], checkpoints=[bare]), tmp_path / "r.html"))["Models"]
    assert "interval not known" in said


def test_the_completeness_is_that_of_pandas(tmp_path: Path) -> None:
    (grid,) = cases.two_grids(tmp_path)[1:]
    report = write(Artefacts([tmp_path], grids=[grid]), tmp_path / "report.html")
    said = lines(report)["Completeness"]
    table = pd.read_parquet(grid.folder / "injections.parquet").dropna(subset="logit")
    threshold = next(item for item in grid.thresholds if item.fpr_target is not None)
    table["found"] = table["logit"] > threshold.logit
    bins = pd.cut(table["source_r_mag"], cases.EDGES, right=False, include_lowest=True)
    cells = table.groupby([bins, "theta_e"], observed=False)["found"].agg(["mean", "size"])
    best = cells[cells["size"] >= 10]["mean"]
    faint, radius = best.idxmax()
    numbers = re.findall(r"(\d\.\d+) \((\d\.\d+) to (\d\.\d+)\)", said)
    whole, net, most, net_of_best = numbers
    alone = pd.read_parquet(grid.folder / "negatives.parquet").set_index("host_row")["logit"]
    kept = table[alone[table["host_row"]].to_numpy() <= threshold.logit]
    assert net[0] == f"{kept['found'].mean():.3f}"
    is_best = (pd.cut(kept["source_r_mag"], cases.EDGES, right=False) == faint) & (
        kept["theta_e"] == radius
    )
    assert net_of_best[0] == f"{kept['found'][is_best].mean():.3f}"
    assert whole[0] == f"{table['found'].mean():.3f}"
    assert most[0] == f"{best.max():.3f}"
    for share, low, high in numbers:
        assert float(low) < float(share) <= float(high)
    assert f"{radius:g}\u2033" in said
    assert f"{faint.left:g}" in said
    assert f"FPR {threshold.fpr_target:g}" in said


def test_a_high_floor_and_an_assumed_seeing_are_on_the_first_screen(tmp_path: Path) -> None:
    folder = write_grid(tmp_path / "grid", fpr_targets=[0.25], assumed={"psf_fwhm": 1.3})
    artefacts = Artefacts([tmp_path], grids=[GridResult(folder)])
    said = lines(write(artefacts, tmp_path / "report.html"))["Completeness"]
    assert "every host with PSF FWHM 1.3 arcsec (assumed)" in said
    assert "FPR 0.25: 28 % of the injections are in hosts that are above the threshold" in said
    assert "quote the net completeness" in said


def test_candidates_are_the_highest_scores_with_pictures(
    scored: Path, model: Path, tmp_path: Path
) -> None:
    report = write(find_artefacts([scored]), tmp_path / "report.html")
    table = read_table(scored / "scores.parquet")
    order = np.argsort(-table.logits, kind="stable")[: candidates.MOST_SHOWN]
    section = report.section("candidates")
    shown = re.findall(r"<dt>id</dt><dd>(.*?)</dd>", section)
    assert shown == table.ids[order].tolist()
    assert section.count('src="data:image/png') == len(order)
    assert f"{table.known['ra'][order[0]]:.5f}" in section
    first = report.section("found")
    assert first.count('src="data:image/png') == candidates.MOST_IN_SUMMARY
    assert "no evaluation or grid sets a threshold" in lines(report)["Candidates"]


def test_the_number_above_the_threshold(scored: Path, tmp_path: Path) -> None:
    table = read_table(scored / "scores.parquet")
    grid = cases.two_grids(tmp_path)[1]
    threshold = next(item for item in grid.thresholds if item.fpr_target is not None)
    places = (threshold.logit, table.logits[3])
    artefacts = find_artefacts([scored])
    member = table.metadata["members"][0]
    for logit in places:
        # A score equal to the threshold is not above it.
        grid.thresholds[grid.thresholds.index(threshold)] = replace(threshold, logit=float(logit))
        grid.metadata["checkpoint"]["fingerprint"] = member["checkpoint_fingerprint"]
        said = above(replace(artefacts, grids=[grid]))
        assert f"{int((table.logits > logit).sum())} of {len(table)} above" in said
        assert "FPR" in said
        threshold = replace(threshold, logit=float(logit))
    judged = {
        "tables": [
            {
                "members": [member],
                "combination": "single",
                "recall_at_fpr": [
                    {
                        "fpr": 0.01,
                        "threshold": float(table.logits[3]),
                        "threshold_score": float(table.scores[3]),
                    }
                ],
            }
        ]
    }
    evaluated = replace(artefacts, evaluations=[Document(tmp_path / "evaluation.json", judged)])
    said = above(evaluated)
    assert f"{int((table.logits > table.logits[3]).sum())} of {len(table)} above" in said
    judged["tables"][0]["members"] = [member | {"checkpoint_fingerprint": "another"}]
    assert "no evaluation or grid sets" in above(evaluated)


def test_candidates_seen_in_training_are_said_to_be(
    scored: Path, sky_pack: Path, model: Path, tmp_path: Path
) -> None:
    artefacts = find_artefacts([scored])
    grid = cases.two_grids(tmp_path)[1]
    member = artefacts.scores[0].metadata["members"][0]
    grid.metadata["checkpoint"]["fingerprint"] = member["checkpoint_fingerprint"]
    made = read_checkpoint(model)
    for path, is_said in ((sky_pack, True), (tmp_path / "other", False)):
        trained = replace(made, config={"dataset": {"parquet_path": str(path)}})
        said = above(replace(artefacts, grids=[grid], checkpoints=[trained]))
        assert "labelled lenses" in said
        assert ("training cutouts of the model are among them" in said) == is_said


def test_masked_pixels_are_purple(model: Path, masked_pack: Path, tmp_path: Path) -> None:
    score(model, [masked_pack], tmp_path / "scores.parquet")
    artefacts = find_artefacts([tmp_path])
    (best,) = candidates.read_all(artefacts)
    assert isinstance(best, candidates.Candidates)
    table = read_table(tmp_path / "scores.parquet")
    masks = np.concatenate([np.load(path) for path in sorted(masked_pack.glob("mask-*.npy"))])
    order = np.argsort(-table.logits, kind="stable")
    is_masked = False
    for row, entry in zip(order, best.entries, strict=False):
        content = base64.b64decode(entry["uri"].partition(",")[2])
        shown = imread(BytesIO(content))[::-1, :, :3]
        plain = colour_picture(images_of(masked_pack)[row]) / 255
        bad = masks[row].any(axis=0)
        np.testing.assert_allclose(shown[~bad], plain[~bad], atol=1 / 255)
        purple = 0.45 * plain[bad] + 0.55 * np.array([0.8, 0.475, 0.655])
        np.testing.assert_allclose(shown[bad], purple, atol=1.5 / 255)
        is_masked |= bool(bad.any())
    assert is_masked


def test_scores_without_their_cutouts_are_listed(
    scored: Path, sky_pack: Path, tmp_path: Path
) -> None:
    sky_pack.rename(tmp_path / "moved")
    report = write(find_artefacts([scored]), tmp_path / "report.html")
    section = report.section("candidates")
    assert "No pictures:" in section
    assert "src=" not in section
    table = read_table(scored / "scores.parquet")
    assert str(table.ids[np.argmax(table.logits)]) in section
    assert not report.rejected


def test_without_a_plan_its_checklist_is_absent(demo: Path, tmp_path: Path) -> None:
    artefacts = find_artefacts([demo])
    assert why_followed(artefacts) == ""
    report = write(artefacts, tmp_path / "report.html")
    assert "plan" not in sections(report)
    checks = report.section("checks")
    assert "No artefact mixes annuli" in checks
    assert "Every file can be read" in checks
    assert "retrained" not in checks
    assert 'class="fails"' not in report.page
    followed = write(artefacts, tmp_path / "report.html", plan=True)
    assert sections(followed)[:2] == ["found", "plan"]
    assert "Both architectures retrained" in followed.section("plan")
    assert "10 lines: 4 hold" in lines(followed)["Retraining plan"]


def test_the_plan_is_followed_where_its_models_are(
    template: Checkpoint, grid_folder: Path, tmp_path: Path
) -> None:
    artefacts = audit_cases.finished(template, grid_folder, tmp_path)
    assert "DR10" in why_followed(artefacts) or "dr10" in why_followed(artefacts)
    new = Artefacts([tmp_path], checkpoints=[artefacts.checkpoints[1]])
    assert str(new.checkpoints[0].path) in why_followed(new)
    simulated = replace(new.checkpoints[0], data={"data_origin": "simulated"})
    assert why_followed(Artefacts([tmp_path], checkpoints=[simulated])) == ""
    other = replace(
        new.checkpoints[0], architecture=new.checkpoints[0].architecture | {"arch": "resnet18"}
    )
    assert why_followed(Artefacts([tmp_path], checkpoints=[other])) == ""
    published = Artefacts([tmp_path], old=[tmp_path / "published.pt"])
    assert "published.pt" in why_followed(published)
    assert sections(write(new, tmp_path / "report.html"))[:2] == ["found", "plan"]
    assert "plan" not in sections(write(new, tmp_path / "report.html", plan=False))


def test_mixed_annuli_come_first(demo: Path, tmp_path: Path) -> None:
    artefacts = find_artefacts([demo])
    old = replace(artefacts.checkpoints[0], path=tmp_path / "old.safetensors", spec=LEGACY)
    mixed = replace(artefacts, checkpoints=[*artefacts.checkpoints, old])
    for plan in (False, True):
        report = write(mixed, tmp_path / "report.html", plan=plan)
        assert next(iter(lines(report))) == "Annuli"
        row = lines(report)["Annuli"]
        assert "mixes" in row
        assert "old.safetensors" in row
        assert 'class="row fails"' in report.section("found")
    assert 'class="row fails"' not in write(artefacts, tmp_path / "report.html").section("found")


def test_what_cannot_be_read_is_counted_first(scored: Path, tmp_path: Path) -> None:
    (scored / "evaluation.json").write_text("{")
    report = write(find_artefacts([scored]), tmp_path / "report.html")
    assert "1 file could not be read" in lines(report)["Unreadable"]
    assert "evaluation.json" in report.section("checks")


def test_nothing_found_says_so_in_every_line(tmp_path: Path) -> None:
    report = write(Artefacts([tmp_path]), tmp_path / "report.html")
    said = lines(report)
    for name, made_by in (
        ("Data", "dhs pack"),
        ("Models", "dhs train"),
        ("Candidates", "dhs score"),
        ("Recall", "dhs evaluate"),
        ("Completeness", "dhs grid"),
    ):
        assert made_by in said[name]


def test_the_command_says_what_it_judged(scored: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"

    def run(*options: Any) -> str:
        result = invoke(app, scored, "--out", out, *options)
        assert result.exit_code == 0, result.stderr
        return result.stdout

    assert "4 checks: 4 hold" in run()
    assert "10 lines" in run("--plan")
    said = json.loads(run("--json"))
    assert said["plan"] is False
    assert {line["key"] for line in said["audit"]["lines"]} == {
        "unmixed",
        "readable",
        "known_origin",
        "lock",
    }
    assert len(json.loads(run("--plan", "--json"))["audit"]["lines"]) == 10


def test_open_shows_the_page(scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = record_opened(monkeypatch)
    monkeypatch.setenv("DISPLAY", ":0")
    out = tmp_path / "report.html"
    result = invoke(app, scored, "--out", out, "--open", "--json")
    assert result.exit_code == 0
    assert opened == [out.as_uri()]
    assert json.loads(result.stdout)["opened"] is True


def test_a_damaged_grid_does_not_hide_the_others(tmp_path: Path) -> None:
    grid, sound = cases.two_grids(tmp_path)
    injections = grid.folder / "injections.parquet"
    content = bytearray(injections.read_bytes())
    content[4 : len(content) // 2] = bytes(len(content) // 2 - 4)
    injections.write_bytes(content)
    damaged = GridResult(grid.folder)
    report = write(Artefacts([tmp_path], grids=[damaged, sound]), tmp_path / "report.html")
    said = lines(report)["Completeness"]
    assert "could not be read" in said
    assert "best cell" in said
