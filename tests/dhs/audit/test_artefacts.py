"""Finding artefacts in folders, and the output of ``dhs audit``."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dhs.audit import Verdict
from dhs.audit.artefacts import find_artefacts
from dhs.checkpoint import Checkpoint
from dhs.cli import app
from dhs.selection.grid_result import GridResult
from tests.command_line import invoke, message
from tests.dhs.audit.audit_cases import demo as demo
from tests.dhs.audit.audit_cases import evaluation, lines_of, write_scores
from tests.dhs.audit.audit_cases import template as template
from tests.dhs.model.model_cases import save, small, write
from tests.dhs.selection.grid_cases import LEGACY


def test_the_command_on_simulated_data(demo: Path) -> None:
    result = invoke(app, "audit", demo)
    assert result.exit_code == 1
    assert "[x] Normalisation lock" in result.stdout
    assert "[x] No artefact mixes annuli" in result.stdout
    assert "[?] Both architectures retrained" in result.stdout
    assert str(demo / "training" / "best.safetensors") in result.stdout
    report = json.loads(invoke(app, "audit", demo, "--json").stdout)
    assert not report["holds"]
    verdicts = {line["key"]: line["verdict"] for line in report["lines"]}
    asked_of_dr10 = ("retrained", "validation_auc", "real_lens_recall", "selection_grid")
    assert {verdicts[key] for key in asked_of_dr10} == {"cannot be judged"}


def test_all_screens_and_the_page_count_the_same_checks(demo: Path, tmp_path: Path) -> None:
    audited = invoke(app, "audit", demo).stdout
    out = tmp_path / "report.html"
    reported = invoke(app, "report", demo, "--out", out).stdout
    (said,) = set(re.findall(r"\d+ checks: [^.]*\.", out.read_text("utf-8")))
    assert " ".join(said.split()) in " ".join(audited.split())
    assert said in reported
    assert "lines:" not in reported
    assert re.search(r"\d+ lines: ", audited)
    (demo / "published.pt").write_bytes(b"weights")
    planned = invoke(app, "audit", demo).stdout
    assert "checks:" not in planned
    assert "10 lines" in invoke(app, "report", demo, "--out", out).stdout


def test_the_command_names_both_of_a_mixture(demo: Path) -> None:
    old = save(demo / "old.safetensors", small(LEGACY))
    report = json.loads(invoke(app, "audit", demo, "--json").stdout)
    line = next(line for line in report["lines"] if line["key"] == "unmixed")
    assert line["verdict"] == "fails"
    assert set(line["files"]) == {str(old.path), str(demo / "training" / "best.safetensors")}
    old.path.unlink()
    write_scores(demo / "old.parquet", replace(old, path=Path("old.safetensors")))
    text = invoke(app, "audit", demo).stdout
    assert "[ ] No artefact mixes annuli: fails" in text
    assert str(demo / "old.parquet") in text


def test_folders_and_their_parts_are_searched_once(demo: Path) -> None:
    found = find_artefacts([demo, demo / "training"])
    assert [item.path for item in found.checkpoints] == [demo / "training" / "best.safetensors"]
    assert [item.folder for item in found.grids] == [demo / "grid"]
    assert [item.path for item in found.scores] == [demo / "scores.parquet"]
    assert not found.rejected
    assert isinstance(found.grids[0], GridResult)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def put(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


NEWER: dict[str, Any] = {
    "versions": {"dhs": "999.1"},
    "data_origin": "simulated",
    "tables": [],
    "comparisons": [],
    "across_annuli": None,
}
DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated scores": (lambda d: truncate(d / "scores.parquet"), "scores.parquet"),
    "truncated table of a grid": (
        lambda d: truncate(d / "grid" / "injections.parquet"),
        "injections.parquet is damaged",
    ),
    "truncated checkpoint": (lambda d: truncate(d / "training" / "best.safetensors"), "training"),
    "newer version": (put("evaluation.json", json.dumps(NEWER)), "dhs 999.1, newer than the"),
    "no version": (
        put("evaluation.json", json.dumps(NEWER | {"versions": {"dhs": "x"}})),
        "invalid dhs version, 'x'",
    ),
    "no JSON": (put("realism.json", "{"), "not valid JSON"),
    "no object": (put("realism.json", "[1]"), "does not contain a JSON object"),
    "empty object": (put("comparison.json", "{}"), "first is missing"),
    "unfinished grid": (put("settings.json", '{"draws": 1}'), "contains an unfinished grid"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_cannot_be_read_is_named(demo: Path, name: str) -> None:
    damage, said = DAMAGE[name]
    damage(demo)
    found = find_artefacts([demo])
    assert len(found.rejected) == 1
    assert said in found.rejected[0].reason
    line = lines_of(found)["readable"]
    assert line.verdict is Verdict.FAILS
    assert line.evidence == (found.rejected[0].reason,)


def test_scores_whose_preprocessing_was_changed_are_refused(
    demo: Path, template: Checkpoint
) -> None:
    write_scores(demo / "scores.parquet", template, spec_fingerprint="ab")
    assert "does not match its fingerprint" in find_artefacts([demo]).rejected[0].reason


def test_an_empty_folder_holds_nothing(tmp_path: Path) -> None:
    result = invoke(app, "audit", tmp_path)
    assert result.exit_code == 1
    assert f"nothing in {tmp_path}" in result.stdout
    lines = lines_of(find_artefacts([tmp_path]))
    assert {key for key, line in lines.items() if line.verdict is Verdict.HOLDS} == {"lock"}


def test_no_folder_is_an_error(tmp_path: Path) -> None:
    result = invoke(app, "audit", tmp_path / "gone")
    assert result.exit_code == 2
    assert "gone is not a folder" in message(result)
    with pytest.raises(ValueError, match="folders is empty"):
        find_artefacts([])


def evaluation_with(change: Callable[[dict[str, Any]], object], made: Checkpoint) -> str:
    metadata = evaluation(Path("e.json"), made, replace(made, weights_sha256="ab")).metadata
    metadata["tables"][1]["name"] = metadata["comparisons"][0]["second"] = "other"
    change(metadata)
    return json.dumps(metadata)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a: a.update(tables={}), "tables"),
        (lambda a: a.update(tables=[]), "tables"),
        (lambda a: a.update(data_origin=5), "data_origin"),
        (lambda a: a["tables"][0].update(members=[]), "tables.0.members"),
        (lambda a: a["tables"][0]["members"][0]["spec"].update(eps=5), "eps=5"),
        (lambda a: a["comparisons"][0].update(first="gone"), "'gone' does not match a table"),
        (lambda a: a["comparisons"][0]["at_fpr"].clear(), "or different rates"),
        (lambda a: a["comparisons"][0]["at_fpr"][0].update(p_value=2), "p_value"),
    ],
)
def test_an_evaluation_that_says_it_wrongly_is_named(
    tmp_path: Path, template: Checkpoint, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    path = tmp_path / "evaluation.json"
    path.write_text(evaluation_with(lambda a: None, template))
    assert not find_artefacts([tmp_path]).rejected
    path.write_text(evaluation_with(change, template))
    (rejected,) = find_artefacts([tmp_path]).rejected
    assert said in rejected.reason
    assert str(path) in rejected.reason


def test_wrong_records_of_a_checkpoint_are_named(tmp_path: Path) -> None:
    save(tmp_path / "a.safetensors", metrics={"val_auc": 5.0})
    save(tmp_path / "b.safetensors", metrics={"val_auc": "high"})
    found = find_artefacts([tmp_path])
    assert not found.checkpoints
    assert all("metrics.val_auc" in item.reason for item in found.rejected)


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.md")
    (tmp_path / "loop.json").symlink_to("loop.json")
    (tmp_path / "evaluation.json").write_text("[" * 100_000)
    found = find_artefacts([tmp_path])
    assert [item.path.name for item in found.rejected] == [
        "evaluation.json",
        "loop.json",
        "pipe.md",
    ]


def test_links_to_folders_are_followed_once(
    demo: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("links")
    (folder / "there").symlink_to(demo)
    (demo / "back").symlink_to(folder)
    assert len(find_artefacts([folder]).checkpoints) == 1


def test_a_folder_that_may_not_be_listed_is_named(
    demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("grid"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = find_artefacts([demo])
    assert [item.path for item in found.rejected] == [demo / "grid"]
    assert found.checkpoints


def test_a_notice_of_other_bytes_is_no_end(demo: Path) -> None:
    write(demo / "v1.pt")
    (demo / "DEPRECATED.md").write_bytes(b"\xff| v1.pt | x |")
    assert lines_of(find_artefacts([demo]))["deprecated"].verdict is Verdict.HOLDS


def test_the_terminal_does_not_obey_artefacts(demo: Path) -> None:
    save(demo / "training" / "best.safetensors", data={"data_origin": "\x1b[2J[x] all holds"})
    result = invoke(app, "audit", demo)
    assert "\x1b[2J" not in result.stdout
    assert r"\x1b[2J" in result.stdout
