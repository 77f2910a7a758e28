"""What is found in folders, and what the command ``dhs audit`` says of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dhs.artefacts import find_artefacts
from dhs.audit import Verdict
from dhs.checkpoint import Checkpoint
from dhs.cli import app
from dhs.selection.grid_result import GridResult
from tests.audit_cases import demo as demo
from tests.audit_cases import lines_of, write_scores
from tests.audit_cases import template as template
from tests.command_line import invoke, message
from tests.grid_cases import LEGACY
from tests.model_cases import save, small


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
    "newer version": (put("evaluation.json", json.dumps(NEWER)), "dhs 999.1, newer than this"),
    "no version": (
        put("evaluation.json", json.dumps(NEWER | {"versions": {"dhs": "x"}})),
        "dhs 'x' wrote it, which is none",
    ),
    "no JSON": (put("realism.json", "{"), "no JSON"),
    "no object": (put("realism.json", "[1]"), "no JSON object"),
    "empty object": (put("comparison.json", "{}"), "lacks first"),
    "unfinished grid": (put("settings.json", '{"draws": 1}'), "did not run to its end"),
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
    assert "not that of its fingerprint" in find_artefacts([demo]).rejected[0].reason


def test_an_empty_folder_holds_nothing(tmp_path: Path) -> None:
    result = invoke(app, "audit", tmp_path)
    assert result.exit_code == 1
    assert f"nothing in {tmp_path}" in result.stdout
    lines = lines_of(find_artefacts([tmp_path]))
    assert {key for key, line in lines.items() if line.verdict is Verdict.HOLDS} == {"lock"}


def test_no_folder_is_an_error(tmp_path: Path) -> None:
    result = invoke(app, "audit", tmp_path / "gone")
    assert result.exit_code == 2
    assert "gone is no folder" in message(result)
    with pytest.raises(ValueError, match="folders is empty"):
        find_artefacts([])
