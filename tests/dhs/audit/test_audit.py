"""``dhs audit``: verdicts and evidence of its lines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnorm
from dhs.audit import Verdict, audit
from dhs.audit import results as audit_results
from dhs.audit.artefacts import Artefacts, Document
from dhs.audit.models import is_dr10
from dhs.audit.run import LINES
from dhs.checkpoint import Checkpoint
from dhs.preprocess.spec import PreprocessSpec
from fastnorm.io import Rejected
from tests.dhs.audit.audit_cases import (
    ARCHITECTURES,
    DR10,
    evaluation,
    finished,
    grid_of,
    lines_of,
    of,
    scores,
)
from tests.dhs.audit.audit_cases import grid_folder as grid_folder
from tests.dhs.audit.audit_cases import template as template
from tests.dhs.model.model_cases import DATASET, weights, write
from tests.dhs.selection.grid_cases import CORRECTED, LEGACY

Change = Callable[[Artefacts], object]


@pytest.fixture
def found(template: Checkpoint, grid_folder: Path, tmp_path: Path) -> Artefacts:
    return finished(template, grid_folder, tmp_path)


def test_a_finished_plan_holds(found: Artefacts) -> None:
    judged = audit(found)
    assert judged.holds, [line for line in judged.lines if line.verdict is not Verdict.HOLDS]
    assert judged.summary.startswith(f"{len(LINES)} lines: {len(LINES)} hold, 0 fail")
    assert not any(line.missing for line in judged.lines)
    said = " ".join(lines_of(found)["real_lens_recall"].evidence)
    assert (
        "recall 0.910 (lower limit 0.850) against 0.880 of the old model, difference +0.030 "
        "(95 % +0.010 to +0.050" in said
    )
    said = " ".join(lines_of(found)["validation_auc"].evidence)
    assert "the 95 % lower limit of the evaluation, 0.9955 from 1226 lenses, is compared" in said


def change_checkpoint(found: Artefacts, k: int, **changes: Any) -> None:
    found.checkpoints[k] = replace(found.checkpoints[k], **changes)


def simulate(found: Artefacts, k: int = 1) -> None:
    change_checkpoint(found, k, data={"data_origin": "simulated"})


def swap_comparison(found: Artefacts) -> None:
    metadata = found.evaluations[0].metadata["comparisons"][0]
    metadata["first"], metadata["second"] = metadata["second"], metadata["first"]


def old_member(found: Artefacts) -> dict[str, Any]:
    member: dict[str, Any] = found.evaluations[0].metadata["tables"][1]["members"][0]
    return member


def comparison_of(found: Artefacts, differs: list[str]) -> Document:
    metadata: dict[str, Any] = {"data_origin": DR10, "preprocessing_differs": differs}
    for side, checkpoint in zip(("first", "second"), found.checkpoints[:2], strict=True):
        grid = grid_of(found.grids[0].folder, checkpoint)
        metadata[side] = {"folder": side, "checkpoint": grid.metadata["checkpoint"]}
        metadata[side]["spec"] = checkpoint.spec.to_dict()
    return Document(Path("comparison.json"), metadata)


def realism_of(found: Artefacts, origin: str | None) -> Document:
    metadata = comparison_of(found, []).metadata["second"]
    return Document(
        Path("realism.json"),
        metadata | {"real": {"data_origin": origin}, "injected": {"data_origin": DR10}},
    )


U, F = Verdict.UNKNOWN, Verdict.FAILS
CHANGES: dict[str, tuple[Change, dict[str, Verdict]]] = {
    "simulated training": (
        simulate,
        dict.fromkeys(["retrained", "validation_auc", "real_lens_recall", "selection_grid"], U)
        | {"methods_text": F, "known_origin": F},
    ),
    "low AUC": (
        lambda f: change_checkpoint(f, 1, metrics={"val_auc": 0.9949}),
        {"validation_auc": F, "methods_text": F},
    ),
    "AUC of the other bar": (lambda f: change_checkpoint(f, 3, metrics={"val_auc": 0.99}), {}),
    "low AUC of the other": (
        lambda f: change_checkpoint(f, 3, metrics={"val_auc": 0.9899}),
        {"validation_auc": F},
    ),
    "no AUC": (lambda f: change_checkpoint(f, 3, metrics={"val_auc": None}), {"validation_auc": U}),
    "old files' AUC": (lambda f: change_checkpoint(f, 3, metrics={"best_auc": 0.997}), {}),
    "other size": (
        lambda f: change_checkpoint(
            f, 3, architecture=f.checkpoints[3].architecture | {"size": 64}
        ),
        {"retrained": F}
        | dict.fromkeys(["validation_auc", "real_lens_recall", "selection_grid"], U),
    ),
    "retrained and deprecated": (
        lambda f: change_checkpoint(f, 3, deprecated="a bug"),
        dict.fromkeys(["retrained", "validation_auc", "real_lens_recall", "selection_grid"], U),
    ),
    "no mark": (
        lambda f: change_checkpoint(f, 0, deprecated=None),
        {"deprecated": F, "unmixed": F},
    ),
    "no evaluation": (
        lambda f: f.evaluations.clear(),
        {"real_lens_recall": U, "validation_auc": U},
    ),
    "AUC whose lower limit is too low": (
        lambda f: f.evaluations[0].metadata["tables"][0]["auc"].update(low=0.9949),
        {"validation_auc": U},
    ),
    "AUC of the other bar, lower limit": (
        lambda f: f.evaluations[1].metadata["tables"][0]["auc"].update(low=0.9901),
        {},
    ),
    "AUC of too few lenses": (
        lambda f: f.evaluations[1].metadata["tables"][0]["auc"].update(low=None),
        {"validation_auc": U},
    ),
    "AUC of the old kind": (
        lambda f: f.evaluations[0].metadata["tables"][0].pop("auc"),
        {"validation_auc": U},
    ),
    "evaluation of simulated lenses": (
        lambda f: f.evaluations[0].metadata.update(data_origin="simulated"),
        {"real_lens_recall": U, "validation_auc": U},
    ),
    "too few negatives": (
        lambda f: f.evaluations[0].metadata["comparisons"][0].update(at_fpr=[]),
        {"real_lens_recall": U},
    ),
    "no grid": (lambda f: f.grids.clear(), {"selection_grid": U, "methods_text": U}),
    "simulated hosts": (
        lambda f: f.grids[1].metadata.update(data_origin="simulated"),
        {"selection_grid": U},
    ),
    "grid of an unknown checkpoint": (
        lambda f: f.grids[1].metadata["checkpoint"].update(fingerprint="ff" * 32),
        {"selection_grid": U},
    ),
    "ensemble across annuli": (
        lambda f: f.scores.append(scores(Path("both.parquet"), *f.checkpoints[:2])),
        {"unmixed": F},
    ),
    "evaluation that hides its annuli": (
        lambda f: f.evaluations[0].metadata.update(across_annuli=None),
        {"unmixed": F},
    ),
    "failed injections": (lambda f: f.grids[1].metadata.update(failed=60), {"selection_grid": U}),
    "evaluation of what was trained on": (
        lambda f: f.evaluations[0].metadata["truth"].update(split="train"),
        {"real_lens_recall": U, "validation_auc": U},
    ),
    "old model of simulated data": (
        lambda f: old_member(f).update(data_origin="simulated"),
        {"real_lens_recall": U, "known_origin": F},
    ),
    "old model on crops": (
        lambda f: old_member(f).update(spec=PreprocessSpec(crop=True).to_dict()),
        {"real_lens_recall": U, "unmixed": F},
    ),
    "relabelled checkpoint": (
        lambda f: f.grids[0].metadata["checkpoint"].update(data_origin="simulated"),
        {"known_origin": F},
    ),
    "relabelled evaluation": (
        lambda f: f.evaluations[0].metadata["tables"][0].update(data_origin="simulated"),
        {"known_origin": F},
    ),
    "annulus by hand": (
        lambda f: change_checkpoint(f, 3, imported_from={"file": "v1.pt"}, config={}),
        {"retrained": F}
        | dict.fromkeys(["validation_auc", "real_lens_recall", "selection_grid"], U),
    ),
    "annulus of the imported file": (
        lambda f: change_checkpoint(
            f,
            3,
            imported_from={"file": "v1.pt"},
            config={"dataset": {"annulus_r_in": 32.5, "annulus_r_out": 45}},
        ),
        {},
    ),
    "comparison of grids": (lambda f: f.comparisons.append(comparison_of(f, ["annulus"])), {}),
    "comparison that hides its annuli": (
        lambda f: f.comparisons.append(comparison_of(f, [])),
        {"unmixed": F},
    ),
    "realism of unknown origin": (
        lambda f: f.realism.append(realism_of(f, None)),
        {"known_origin": F},
    ),
    "no text": (lambda f: f.methods.clear(), {"methods_text": U}),
    "changed text": (
        lambda f: f.methods[0].write_text(f.methods[0].read_text().replace("32.5", "20")),
        {"methods_text": F},
    ),
    "scores of unknown origin": (
        lambda f: f.scores[0].metadata.update(data_origin=None),
        {"known_origin": F},
    ),
    "damaged file": (
        lambda f: f.rejected.append(Rejected(Path("x"), "x is damaged")),
        {"readable": F},
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_one_change_is_seen_in_its_lines(found: Artefacts, name: str) -> None:
    change, expected = CHANGES[name]
    change(found)
    lines = lines_of(found)
    wrong = {key: line.verdict for key, line in lines.items() if line.verdict is not Verdict.HOLDS}
    assert wrong == expected
    assert all(lines[key].missing for key in expected)


def test_simulated_numbers_are_shown_and_do_not_count(found: Artefacts) -> None:
    simulate(found)
    line = lines_of(found)["validation_auc"]
    path = found.checkpoints[1].path
    assert f"{path}: 0.9960 on data of origin 'simulated' does not count" in line.evidence


def test_the_best_of_several_is_judged(found: Artefacts) -> None:
    worse = replace(found.checkpoints[3], path=Path("z.safetensors"), metrics={"val_auc": 0.5})
    for items in ([worse, *found.checkpoints], [*found.checkpoints, worse]):
        found.checkpoints = items
        line = lines_of(found)["validation_auc"]
        assert line.verdict is Verdict.HOLDS
        assert "z.safetensors" not in line.files


def test_dr10_of_the_wrong_annulus_fails(found: Artefacts) -> None:
    del found.checkpoints[1]
    assert lines_of(found)["retrained"].verdict is Verdict.UNKNOWN
    change_checkpoint(found, 0, deprecated=None)
    assert lines_of(found)["retrained"].verdict is Verdict.FAILS


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("legacysurvey-dr10", True),
        ("DESI Legacy Surveys DR10", True),
        ("Legacy Surveys Data Release 10", True),
        ("legacysurvey-dr9", False),
        ("DR10_south", True),
        ("dr101", False),
        ("xdr10", False),
        ("SDSS DR10", False),
        ("dr9+dr10", False),
        ("not dr10", False),
        ("DR10-like mocks", False),
        ("simulated", False),
        ("simulated after DR10", False),
        (None, False),
    ],
)
def test_what_counts_as_dr10(origin: str | None, expected: bool) -> None:
    assert is_dr10(origin) == expected


def test_order_of_a_comparison_does_not_matter(found: Artefacts) -> None:
    swap_comparison(found)
    said = " ".join(lines_of(found)["real_lens_recall"].evidence)
    assert "difference -0.030 (95 % -0.050 to -0.010, p = 0.002)" in said


def test_a_comparison_of_the_old_kind_has_no_p_value(found: Artefacts) -> None:
    at_rate = found.evaluations[0].metadata["comparisons"][0]["at_fpr"][0]
    del at_rate["p_value"]
    said = " ".join(lines_of(found)["real_lens_recall"].evidence)
    assert "interval of the old kind, without a p-value)" in said


def test_result_of_another_annulus_than_its_checkpoint(found: Artefacts) -> None:
    found.grids[1].spec = LEGACY
    found.grids[1].metadata["spec"] = LEGACY.to_dict()
    lines = lines_of(found)
    assert lines["selection_grid"].verdict is Verdict.FAILS
    line = lines["unmixed"]
    assert line.verdict is Verdict.FAILS
    said = " ".join(line.evidence)
    assert str(found.grids[1].folder) in said
    assert str(found.checkpoints[3].path) in said
    assert "annulus_r_in 20.0 against 32.5" in said


def test_results_of_marked_models_may_stand_beside(found: Artefacts) -> None:
    found.scores.append(scores(Path("old.parquet"), found.checkpoints[0]))
    # The scores are older than the mark of their checkpoint.
    unmarked = replace(found.checkpoints[0], deprecated=None)
    found.scores.append(scores(Path("older.parquet"), unmarked))
    assert lines_of(found)["unmixed"].verdict is Verdict.HOLDS


def test_old_files_are_marked_by_a_notice(found: Artefacts, tmp_path: Path) -> None:
    for k in (0, 2):
        simulate(found, k)
    found.old.append(write(tmp_path / "v1.pt"))
    assert lines_of(found)["deprecated"].verdict is Verdict.FAILS
    (tmp_path / "DEPRECATED.md").write_text(
        "# Deprecated checkpoints\n| v1.pt | (20, 32) | x | |\n"
    )
    assert lines_of(found)["deprecated"].verdict is Verdict.HOLDS
    found.old.append(tmp_path / "damaged.pt")
    found.old[-1].write_bytes(b"nothing")
    assert lines_of(found)["deprecated"].verdict is Verdict.UNKNOWN


def test_marked_simulated_models_are_not_the_published_ones(found: Artefacts) -> None:
    for k in (0, 2):
        simulate(found, k)
    assert lines_of(found)["deprecated"].verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("broken", ["value", "error"])
def test_a_backend_that_is_wrong_fails_the_lock(
    found: Artefacts, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def normalize(images: Any, *args: Any, backend: str, **options: Any) -> Any:
        done = fastnorm.normalize_outer_annulus(images, *args, backend=backend, **options)
        if backend == "numba" and broken == "error":
            raise RuntimeError("no such kernel")
        return done + np.float32(1e-5 * (backend == "numba"))

    class Broken:
        normalize_outer_annulus = staticmethod(normalize)
        backends = staticmethod(fastnorm.backends)
        AnnulusWarning = fastnorm.AnnulusWarning

    monkeypatch.setattr(audit_results, "fastnorm", Broken)
    line = lines_of(found)["lock"]
    assert line.verdict is Verdict.FAILS
    said = "\n".join(line.evidence)
    assert "reference, annulus (32.5, 45): 1b21317c14b7e67c" in said
    assert "reference, annulus (20, 32): 7e25b9e366471bda" in said
    assert said.count("1b21317c14b7e67c") == 1


def test_an_ensemble_is_no_model_of_the_plan(found: Artefacts) -> None:
    found.evaluations[0].metadata["tables"][0]["combination"] = "mean"
    assert lines_of(found)["real_lens_recall"].verdict is Verdict.UNKNOWN


def test_the_old_annulus_is_right_on_crops(found: Artefacts, tmp_path: Path) -> None:
    crop = replace(found.checkpoints[0], spec=PreprocessSpec(crop=True), deprecated=None)
    found.checkpoints.append(crop)
    found.old.append(write(tmp_path / "crop.pt", dataset=DATASET | {"crop": True}))
    line = lines_of(found)["deprecated"]
    assert line.verdict is Verdict.HOLDS
    assert str(crop.path) in line.files  # because of the marked checkpoint with the same path
    assert str(tmp_path / "crop.pt") not in line.files


def test_a_notice_names_whole_names(found: Artefacts, tmp_path: Path) -> None:
    unknown = {"w": weights()["classifier.bias"]}
    found.old.append(write(tmp_path / "v1.pt", train=None, model=unknown))
    (tmp_path / "DEPRECATED.md").write_text("# Deprecated checkpoints\n| old-v1.pt | (20, 32) |\n")
    assert lines_of(found)["deprecated"].verdict is Verdict.FAILS


def test_every_architecture_of_the_plan_is_asked_for(
    template: Checkpoint, found: Artefacts
) -> None:
    assert len(lines_of(found)["retrained"].files) == len(ARCHITECTURES)
    other = of(template, "resnet18", CORRECTED, Path("r.safetensors"))
    found.checkpoints = [*found.checkpoints[:2], other]
    found.grids = [grid_of(found.grids[0].folder, found.checkpoints[1])]
    found.evaluations = [evaluation(Path("e.json"), found.checkpoints[1], found.checkpoints[0])]
    lines = lines_of(found)
    for key in ("retrained", "validation_auc", "real_lens_recall", "selection_grid"):
        assert lines[key].verdict is Verdict.UNKNOWN, key
        assert "bottlenecked ResNet: no" in " ".join(lines[key].evidence)
