"""Folders of made-up artefacts, and the reports written from them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from dhs.audit import Audit, Line, Verdict
from dhs.audit.artefacts import Artefacts, Document
from dhs.checkpoint import Checkpoint
from dhs.evaluate import evaluate
from dhs.report import write_report
from dhs.selection.grid_result import GridResult
from fastnorm.io import Rejected
from tests.dhs.evaluate import evaluate_cases as evaluations
from tests.dhs.selection.grid_cases import CORRECTED, LEGACY, Axes, FakeImages, write_grid

NASTY = "<script>alert(1)</script>&\"'"
AUDIT = Audit(
    ("artefacts",),
    (
        Line("lock", "Normalisation lock", Verdict.HOLDS, ("both checksums",), ("lock.py",)),
        Line("auc", "Validation AUC", Verdict.FAILS, (f"0.78 of {NASTY}",), (), "train on DR10"),
        Line("grid", "Grid regenerated", Verdict.UNKNOWN, missing="dhs grid CONFIG"),
    ),
)
AXES = Axes((0.5, 2.0, 0.5), (1.3, 1.3, 0.1), (22.5, 22.5, 1.0))
EDGES = (23.0, 24.0, 25.0, 25.02)
"""Edges of magnitude bins; the last bin is so narrow that its cells have too few injections."""


@dataclass
class WrittenReport:
    """A report: its file, its text, and the artefacts that could not be read."""

    path: Path
    rejected: list[Rejected]

    @cached_property
    def page(self) -> str:
        return self.path.read_text("utf-8")

    def data(self, attribute: str, key: str) -> Any:
        """Return the JSON in the script element with this data attribute."""
        found = re.search(f'data-{attribute}="{key}">(.*?)</script>', self.page, re.DOTALL)
        assert found is not None
        return json.loads(found[1])

    def section(self, key: str) -> str:
        found = re.search(f'<section id="{key}".*?</section>', self.page, re.DOTALL)
        assert found is not None
        return found[0]


def two_grids(folder: Path) -> list[GridResult]:
    specs = {f"corrected {NASTY.replace('/', '')}": CORRECTED, "legacy": LEGACY}
    return [
        GridResult(write_grid(folder / name, axes=AXES, edges=EDGES, spec=spec, failed=1))
        for name, spec in specs.items()
    ]


def evaluation(folder: Path) -> Document:
    """Evaluate two models with different annuli on the same objects."""
    paths = [
        evaluations.write_scores(folder / "new.parquet"),
        evaluations.write_scores(folder / "old.parquet", evaluations.SECOND, (20, 32)),
    ]
    truth = evaluations.write_truth(folder / "truth.parquet")
    result = evaluate(paths, truth, resamples=100, across_annuli=True)
    metadata = json.loads(json.dumps(result.report))
    metadata["tables"][0]["name"] += NASTY
    return Document(folder / "evaluation.json", metadata)


def training(folder: Path) -> Checkpoint:
    """Write two epochs of a training run and return the header of its checkpoint."""
    lines = [
        {"epoch": k, "train_loss": 0.5 - k / 10, "val_loss": 0.6, "val_auc": 0.7 + k / 10}
        for k in range(2)
    ]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return Checkpoint(
        path=folder / "best.safetensors",
        spec=LEGACY,
        architecture={"arch": "bottlenecked_resnet", "in_ch": 3, "size": 101, "kwargs": {}},
        config={"dataset": {"seed": 42}, "train": {"lr": 5e-4}},
        metrics={},
        data={"data_origin": "simulated"},
        versions={"dhs": "0.1.0"},
        created="2026-01-01T00:00:00+00:00",
        weights_sha256="00",
        tensors={},
    )


@cache
def whole_report(parent: Path) -> WrittenReport:
    """Write, once, a report with content in most sections."""
    folder = parent / "whole report"
    folder.mkdir()
    return report(
        folder,
        checkpoints=[training(folder)],
        grids=two_grids(folder),
        evaluations=[evaluation(folder)],
        old=[folder / "old model.pt"],
        rejected=[Rejected(folder / NASTY, f"is no {NASTY}")],
    )


def report(folder: Path, **found: Any) -> WrittenReport:
    """Write a report on the given artefacts, with made-up injections."""
    out = folder / "report.html"
    artefacts = Artefacts([folder], **found)
    return WrittenReport(out, write_report(artefacts, AUDIT, out, open_images=FakeImages))
