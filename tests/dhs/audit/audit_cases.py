"""Made-up artefacts that fulfil the plan."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from dhs.audit import Line, audit
from dhs.audit.artefacts import Artefacts, Document
from dhs.audit.methods import write_methods
from dhs.checkpoint import Checkpoint
from dhs.preprocess.spec import PreprocessSpec
from dhs.selection.grid_result import GridResult
from tests.dhs.model.model_cases import save
from tests.dhs.selection.grid_cases import CORRECTED, LEGACY, Axes, write_grid

DR10 = "legacysurvey-dr10"
ARCHITECTURES = ("efficientnet_v2_s", "bottlenecked_resnet")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Write a checkpoint; the others are copies with changes."""
    return save(tmp_path_factory.mktemp("template") / "best.safetensors")


@pytest.fixture(scope="module")
def grid_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    axes = Axes(theta_e=(1.0, 2.0, 1.0), depth_5sig=(23.5, 23.5, 0.5))
    return write_grid(tmp_path_factory.mktemp("grids") / "new", axes=axes, per_cell=90, origin=DR10)


def finished(template: Checkpoint, grid_folder: Path, folder: Path) -> Artefacts:
    """Return artefacts with which every line of the plan holds."""
    found = Artefacts([folder])
    for arch in ARCHITECTURES:
        old, new = (
            of(template, arch, spec, folder / name / arch / "best.safetensors")
            for name, spec in (("old", LEGACY), ("new", CORRECTED))
        )
        found.checkpoints += [replace(old, deprecated="annulus inside the galaxy"), new]
        found.evaluations.append(evaluation(folder / arch / "evaluation.json", new, old))
        found.grids.append(grid_of(grid_folder, new))
        found.scores.append(scores(folder / f"{arch}.parquet", new))
    path = folder / "methods.tex"
    write_methods(path, found.checkpoints[1], found.grids[0])
    found.methods.append(path)
    return found


def of(
    template: Checkpoint, arch: str, spec: PreprocessSpec, path: Path, origin: str = DR10
) -> Checkpoint:
    return replace(
        template,
        path=path,
        spec=spec,
        architecture=template.architecture | {"arch": arch},
        metrics={"val_auc": 0.996},
        data={"data_origin": origin, "n_train": 14002},
    )


def grid_of(folder: Path, checkpoint: Checkpoint) -> GridResult:
    """Return the grid of a folder as if this checkpoint had scored it."""
    grid = GridResult(folder)
    grid.spec = checkpoint.spec
    grid.metadata |= {
        "spec": checkpoint.spec.to_dict(),
        "checkpoint": {
            "name": checkpoint.path.name,
            "fingerprint": checkpoint.fingerprint,
            "architecture": checkpoint.arch,
            "data_origin": checkpoint.data_origin,
            "deprecated": checkpoint.deprecated,
        },
    }
    return grid


def member(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "checkpoint": checkpoint.path.name,
        "checkpoint_fingerprint": checkpoint.fingerprint,
        "spec": checkpoint.spec.to_dict(),
        "spec_fingerprint": checkpoint.spec.fingerprint,
        "architecture": checkpoint.architecture,
        "data_origin": checkpoint.data_origin,
        "deprecated": checkpoint.deprecated,
    }


def scores(path: Path, *checkpoints: Checkpoint, origin: str | None = DR10) -> Document:
    members = [member(checkpoint) for checkpoint in checkpoints]
    combination = "single" if len(members) == 1 else "mean"
    metadata = {"members": members, "combination": combination, "data_origin": origin}
    return Document(path, metadata)


def evaluation(path: Path, first: Checkpoint, second: Checkpoint, origin: str = DR10) -> Document:
    tables = [
        {
            "name": f"{item.arch} {item.spec.annulus_r_in:g}",
            "combination": "single",
            "members": [member(item)],
            "auc": {"value": 0.997, "low": 0.9955, "high": 0.998},
            "recall_at_fpr": [
                {"fpr": 0.01, "recall": recall, "low": 0.85, "interval_kind": "unconditional"}
            ],
        }
        for item, recall in ((first, 0.91), (second, 0.88))
    ]
    at_rate = {
        "fpr": 0.01,
        "recall_difference": 0.03,
        "bootstrap_low": 0.01,
        "bootstrap_high": 0.05,
        "p_value": 0.002,
    }
    metadata = {
        "data_origin": origin,
        "across_annuli": "ANNULI DIFFER",
        "truth": {"split": "val"},
        "lenses": 1226,
        "tables": tables,
        "comparisons": [
            {"first": tables[0]["name"], "second": tables[1]["name"], "at_fpr": [at_rate]}
        ],
    }
    return Document(path, metadata)


def lines_of(found: Artefacts) -> dict[str, Line]:
    return {line.key: line for line in audit(found).lines}


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """Write a folder of simulated artefacts: a checkpoint, scores, and a grid."""
    (tmp_path / "training").mkdir()
    result = save(tmp_path / "training" / "best.safetensors")
    folder = write_grid(
        tmp_path / "grid",
        axes=Axes(theta_e=(1.0, 2.0, 1.0), depth_5sig=(23.5, 23.5, 0.5)),
        per_cell=90,
    )
    write_scores(tmp_path / "scores.parquet", result)
    metadata = json.loads((folder / "grid.json").read_text())
    metadata["checkpoint"]["fingerprint"] = result.fingerprint
    (folder / "grid.json").write_text(json.dumps(metadata))
    return tmp_path


def write_scores(path: Path, result: Checkpoint, **changes: Any) -> None:
    metadata = scores(path, result, origin="simulated").metadata
    metadata |= {"spec_fingerprint": result.spec.fingerprint} | changes
    table = pyarrow.table({"logit": [0.5]}).replace_schema_metadata({"dhs": json.dumps(metadata)})
    parquet.write_table(table, path)
