"""Which table of scores comes first on the page, and what tells tables and models apart."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from dhs.audit.artefacts import Artefacts, Document, find_artefacts
from dhs.checkpoint import read as read_checkpoint
from dhs.report import calibration, candidates, evaluation
from dhs.score import score
from tests.dhs.report import report_cases as cases
from tests.dhs.report.test_found import lines, write
from tests.dhs.score.score_cases import model as model
from tests.dhs.score.score_cases import pack as pack
from tests.dhs.score.test_score_known import sky_pack as sky_pack

LACKS = "its checkpoint is not in these folders"


@pytest.fixture
def folder(sky_pack: Path, model: Path, tmp_path: Path) -> Path:
    """Return a folder of three tables: 0-old.parquet is of other weights, which are not there."""
    folder = tmp_path / "scores"
    folder.mkdir()
    score(model, [sky_pack], tmp_path / "made.parquet")
    table = parquet.read_table(tmp_path / "made.parquet")
    for age, name in enumerate(("a-late", "b-early", "0-old")):
        metadata = json.loads(table.schema.metadata[b"dhs"])
        metadata["data_origin"] = "simulated"
        if name == "0-old":
            metadata["members"][0]["checkpoint_fingerprint"] = "f" * 64
            metadata["data_origin"] = "DESI DR10"
        changed = table.replace_schema_metadata({"dhs": json.dumps(metadata)})
        parquet.write_table(changed, folder / f"{name}.parquet")
        os.utime(folder / f"{name}.parquet", (1e9 - age, 1e9 - age))
    return folder


def artefacts_of(folder: Path, model: Path) -> Artefacts:
    return replace(find_artefacts([folder]), checkpoints=[read_checkpoint(model)])


def names(artefacts: Artefacts) -> list[str]:
    found = candidates.read_all(artefacts)
    return [item.document.path.stem for item in found if isinstance(item, candidates.Candidates)]


def test_tables_with_their_checkpoint_come_first_and_the_newest_of_them(
    folder: Path, model: Path
) -> None:
    artefacts = artefacts_of(folder, model)
    assert names(artefacts) == ["a-late", "b-early", "0-old"]
    os.utime(folder / "b-early.parquet")
    assert names(artefacts) == ["b-early", "a-late", "0-old"]


def test_a_missing_checkpoint_and_the_data_are_said(
    folder: Path, model: Path, tmp_path: Path
) -> None:
    report = write(artefacts_of(folder, model), tmp_path / "report.html")
    said = lines(report)["Candidates"]
    assert said.count(LACKS) == 1
    assert re.search(rf"0-old\.parquet \([^)]*\([^)]*\)[^)]*data: DESI DR10; {LACKS}\)", said)
    assert "pictures: the highest of" in said
    assert "a-late.parquet" in said.partition("pictures:")[2]
    section = report.section("candidates")
    assert section.count(LACKS.capitalize()) == 1


def test_simulated_candidates_have_their_label(folder: Path, model: Path, tmp_path: Path) -> None:
    report = write(artefacts_of(folder, model), tmp_path / "report.html")
    captions = re.findall(r"<figcaption[^>]*>(.*?)</figcaption>", report.section("candidates"))
    is_simulated = ["simulated" in caption for caption in captions]
    assert is_simulated == [True] * (2 * len(captions) // 3) + [False] * (len(captions) // 3)
    shown = re.findall(r'<img[^>]*alt="(rank[^"]*)"', report.section("found"))
    assert shown
    assert all(alt.endswith("simulated") for alt in shown)


def test_lines_of_recall_name_table_and_data(tmp_path: Path) -> None:
    found = cases.evaluation(tmp_path)
    said = lines(cases.report(tmp_path, evaluations=[found]))["Recall"]
    for name in ("new.parquet", "old.parquet"):
        assert f"{tmp_path / name}, on {tmp_path / 'truth.parquet'}, data: simulated" in said


def test_an_error_below_0_is_shown_inside_its_interval(tmp_path: Path) -> None:
    document = cases.evaluation(tmp_path)
    found = document.metadata["tables"][0]["calibration"]
    found |= {"ece_debiased": -0.0134, "ece_low": 0.0, "ece_high": 0.1701}
    page = page_of(calibration, document)
    assert "0.0000 (0.0000 to 0.1701), debiased" in page


def test_the_page_has_the_threshold_and_the_rate_to_quote(tmp_path: Path) -> None:
    document = cases.evaluation(tmp_path)
    (point,) = document.metadata["tables"][0]["recall_at_fpr"]
    page = page_of(evaluation, document)
    assert f"{point['threshold']:.4f}".replace("-", "\N{MINUS SIGN}") in page
    assert f"{point['threshold_score']:.4f}" in page
    assert f"{point['expected_fpr']:.5f}" in page
    assert "Quote the expected FPR" in page
    assert "the smallest rate for them is 0.0091" in page
    assert "negatives" not in page


def page_of(module: Any, document: Document) -> str:
    """Return the text of the blocks of a section."""
    return str(module.section([document], []).blocks)
