"""Damaged scores, grids and reports, which `dhs audit` and `dhs report` must name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dhs.audit.artefacts import Artefacts, find_artefacts
from dhs.checkpoint import Checkpoint
from dhs.score.table import ScoreTable, read_table, write_table
from dhs.statistics.thresholds import sigmoid
from tests.dhs.audit.audit_cases import demo as demo
from tests.dhs.audit.audit_cases import scores
from tests.dhs.audit.audit_cases import template as template
from tests.faults.fuzz.budget import Budget
from tests.faults.fuzz.mutate import Damaged, damaged
from tests.faults.fuzz.watch import require_message, watched

pytestmark = pytest.mark.fuzz


def test_fuzz_scores(budget: Budget, tmp_path: Path, template: Checkpoint) -> None:
    path = tmp_path / "scores.parquet"
    metadata = scores(path, template, origin="simulated").metadata
    metadata |= {"spec_fingerprint": template.spec.fingerprint}
    logits = np.linspace(-3, 3, 8, dtype=np.float32)
    ids = np.array(list("abcdefgh"))
    write_table(path, ScoreTable(path, ids, logits, sigmoid(logits), ids, metadata))
    seeds = {"scores": path.read_bytes()}

    def accepts(file: Damaged) -> bool:
        path.write_bytes(file.content)
        with watched(len(file.content), is_traced=False):
            try:
                table = read_table(path)
            except ValueError as error:
                require_message(str(error), path)
                return False
        assert len(table) == len(table.logits) == len(table.scores) == len(set(table.ids.tolist()))
        assert table.name
        return True

    budget.spend("scores", damaged(seeds), accepts)


def test_fuzz_artefacts(budget: Budget, demo: Path) -> None:
    """Damage one file of a folder: it is rejected or read, and the others are read."""
    names = [
        path.relative_to(demo).as_posix()
        for path in sorted(demo.rglob("*"))
        if path.suffix in (".json", ".parquet", ".md") and path.is_file()
    ]
    seeds = {name: (demo / name).read_bytes() for name in names}
    whole = find_artefacts([demo])
    assert not whole.rejected

    def accepts(file: Damaged) -> bool:
        path = demo / file.name
        path.write_bytes(file.content)
        try:
            with watched(sum(map(len, seeds.values())), is_traced=False):
                found = find_artefacts([demo])
        finally:
            path.write_bytes(seeds[file.name])
        for item in found.rejected:
            require_message(item.reason, item.path.parent)
        assert _count(whole) - _count(found) <= 1
        json.dumps([document.metadata for document in found.scores + found.evaluations])
        return not found.rejected

    budget.spend("artefacts", damaged(seeds, is_text=True), accepts)


def _count(found: Artefacts) -> int:
    lists: list[Any] = [found.checkpoints, found.scores, found.grids, found.evaluations]
    return sum(len(items) for items in lists)
