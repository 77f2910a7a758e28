"""Odd values in what artefacts record, under reading, audit, report and the other commands."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import strategies as st

from dhs.audit.artefacts import find_artefacts
from tests.attacks import artefact_walk as walk
from tests.attacks.artefact_cases import KINDS, write_all
from tests.attacks.artefact_walk import ABSENT, COMMANDS, ODD, Place
from tests.faults.fuzz.budget import Budget

pytestmark = pytest.mark.fuzz


@dataclass(frozen=True)
class Odd:
    """Odd values for some of the values of one artefact, and whether commands run as well."""

    kind: str
    values: tuple[tuple[Place, str], ...]
    is_commanded: bool


def test_fuzz_records(budget: Budget, tmp_path: Path) -> None:
    """Change what one artefact records: it is named or shown, and the others are shown."""
    folder, out = write_all(tmp_path / "whole"), tmp_path / "report.html"
    found = find_artefacts([folder])
    assert not found.rejected
    whole = walk.names(found)
    places = {kind: walk.places(folder, kind) for kind in KINDS}
    contents = {kind: (folder / KINDS[kind].path).read_bytes() for kind in KINDS}

    def of_kind(kind: str) -> st.SearchStrategy[Odd]:
        value = st.tuples(st.sampled_from(places[kind]), st.sampled_from([*ODD, ABSENT]))
        # A value within another that was replaced is no longer there.
        several = st.lists(value, min_size=1, max_size=2, unique_by=lambda item: item[0][0])
        return st.builds(
            Odd, st.just(kind), several.map(tuple), st.sampled_from([True, *4 * [False]])
        )

    def accepts(odd: Odd) -> bool:
        try:
            walk.put(folder, odd.kind, *odd.values)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                found = find_artefacts([folder])
                walk.audited(found)
                walk.require_kept(folder, whole, found, odd.kind)
                if not found.rejected:
                    now = walk.shown(folder, out)
                    walk.require_told(folder, whole, now, odd.kind)
            for words in COMMANDS.get(odd.kind, ()) if odd.is_commanded else ():
                walk.run(folder, odd.kind, words)
        finally:
            (folder / KINDS[odd.kind].path).write_bytes(contents[odd.kind])
        return not found.rejected

    budget.spend("records", st.sampled_from(sorted(KINDS)).flatmap(of_kind), accepts)
