"""The report's section on comparisons of grids."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dhs.audit.artefacts import Document
from dhs.report.checks import comparison_section
from dhs.selection.compare import compare_grids
from tests.dhs.selection.grid_cases import without_hosts, write_grid


@pytest.fixture
def metadata(tmp_path: Path) -> dict[str, Any]:
    one, other = (write_grid(tmp_path / f"{k}", noise_seed=k, per_cell=30) for k in (1, 2))
    return compare_grids(without_hosts(one), other, resamples=100).metadata()


def said(metadata: dict[str, Any]) -> str:
    rejected: list[Any] = []
    section = comparison_section([Document(Path("comparison.json"), metadata)], rejected)
    assert not rejected
    return json.dumps([block.__dict__ for block in section.blocks], default=str)


def test_p_values_say_what_was_resampled(metadata: dict[str, Any]) -> None:
    found = said(metadata)
    assert "hosts and non-lenses" in found
    assert f"{metadata['thresholds'][0]['p_value']:.2g}" in found
    assert "1: The intervals in the file selection_function are of the old kind" in found


def test_too_few_hosts(metadata: dict[str, Any]) -> None:
    metadata["thresholds"][0] |= dict.fromkeys(("difference_ci95_lo", "p_value"))
    assert "(too few hosts)" in said(metadata)


def test_a_comparison_of_the_old_kind_has_no_p_value(metadata: dict[str, Any]) -> None:
    del metadata["warnings"]
    for item in metadata["thresholds"]:
        item["p_mcnemar"] = item.pop("p_value")
        del item["interval"]
    found = said(metadata)
    assert "This comparison is of the old kind" in found
    assert "old kind" in found.replace("is of the old kind", "")
    assert " of 15" not in found
