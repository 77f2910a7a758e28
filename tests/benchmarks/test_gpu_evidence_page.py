"""Tests of the evidence's page: every table of a full run, and the page of the documentation."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from benchmarks.gpu_evidence import page, prediction
from benchmarks.gpu_evidence.columns import COLUMNS
from benchmarks.gpu_evidence.parts import PARTS
from tests import ROOT
from tests.benchmarks.gpu_evidence_cases import ROWS, full_run


@pytest.fixture
def text() -> str:
    return "\n".join(page.lines(full_run()))


def test_a_full_run_has_every_table(text: str) -> None:
    assert "Measured on NVIDIA H100 80GB HBM3, today." in text
    for part in PARTS:
        assert f"\n## {part.title}\n" in text
        headings = " | ".join(column.heading for column in COLUMNS[part.name])
        assert f"\n| {headings} |\n" in text


@pytest.mark.parametrize(
    "line",
    [
        "| both checksums | triton | 6 | 0 | - |",
        "| 21 x 21 | numba-cuda | 1,234 | 2 | 1.5 |",
        "- numba-cuda, 21 x 21: 2 planes differ",
        "| float32 | triton | 4,387 | 345.6 | 2,894 | 3,012 | 0.96 | 0.80 | 2.5 |",
        "| mask | triton | 1 | - | - | - | - | - | - |",
        "- mask: CUDA error: illegal / one",
        "| training | 65,536 | 345.6 | 2,894 | 3,012 | 0.96 |",
        "| torch sort | 4,387 | 345.6 | 2,894 | 3,012 | 0.96 | 87.6 | 1.5e-07 |",
        "| layer | 34.5 | 33.0 | 36.0 |",
        "| values that differ | 12,345 |",
        "| efficientnet_v2_s | False | True | 256 | 45.7 | 11,692 | 50.2 |",
        "| render | - | 4,096 | 98,765 | - |",
        "| ncu | 1 | ERR_NVGPUCTRPERM |",
        "| Exactness | done | 12 | 65 |",
    ],
)
def test_figures_are_in_their_columns(text: str, line: str) -> None:
    assert line in text.splitlines()


def test_every_table_has_as_many_cells_in_every_line(text: str) -> None:
    tables = [block for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == len(PARTS) + 1
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_a_run_without_rows_says_that_no_gpu_was_measured() -> None:
    content = full_run()
    for name, part in content["parts"].items():
        if name not in ("machine", "model"):
            part |= {"rows": [], "status": "not measured", "reason": "no device"}
    lines = list(page.lines(content))
    assert "**No GPU was measured** (today)." in lines
    assert "| Peers | not measured: no device | 12 | 40 |" in lines
    assert "## Peers" not in lines


def test_a_rehearsal_is_no_measurement() -> None:
    content = full_run() | {"is_rehearsal": True}
    assert not page.is_measured(content)
    assert "no figure on this page is a measurement" in "\n".join(page.lines(content))


def test_the_prediction_is_of_this_variant_and_device() -> None:
    rows = ROWS["model"]
    assert prediction.predicted("float32", "NVIDIA H100 80GB HBM3", rows) == 0.8
    assert prediction.predicted("float32", "NVIDIA H100-SXM5", rows) == 0.8
    assert prediction.predicted("mask", "NVIDIA H100 80GB HBM3", rows) is None
    assert prediction.predicted("float32", "NVIDIA H200", rows) is None
    assert prediction.predicted("float32", "", []) is None


def test_a_page_is_written_again_with_predictions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = full_run()
    content["parts"]["model"]["rows"] = []
    run, model = tmp_path / "gpu_evidence.json", tmp_path / "model.json"
    run.write_text(json.dumps(content), "utf-8")
    other: dict[str, Any] = {"kernel": "numba-cuda", "variant": "float32", "capability": 90}
    model.write_text(json.dumps({"rows": [other, *ROWS["model"]]}), "utf-8")
    monkeypatch.setattr("sys.argv", ["page", str(run), "--model", str(model)])
    page.main()
    assert "| 0.96 | 0.80 | 2.5 |" in (tmp_path / "gpu_evidence.md").read_text("utf-8")


@pytest.fixture
def directive() -> ModuleType:
    pytest.importorskip("docutils", reason="the extra [docs] is not installed")
    file = ROOT / "docs" / "evidence_tables.py"
    spec = importlib.util.spec_from_file_location("evidence_tables", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_documentation_shows_figures_of_a_measured_run_only(
    directive: ModuleType, tmp_path: Path
) -> None:
    file = tmp_path / "gpu_evidence.json"
    assert "**Not measured yet**" in "\n".join(directive.evidence(file))
    file.write_text(json.dumps(full_run() | {"is_rehearsal": True}), "utf-8")
    assert "**Not measured yet**" in "\n".join(directive.evidence(file))
    file.write_text(json.dumps(full_run()), "utf-8")
    shown = "\n".join(directive.evidence(file))
    assert "measured, of the copy" in shown
    assert "**Speed of every variant**" in shown
    assert "Not measured yet" not in shown
