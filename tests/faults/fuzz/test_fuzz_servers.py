"""Servers that misbehave at random: every exchange ends in time, with a reason or a whole file."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
from hypothesis import strategies as st
from pyarrow import parquet

from dhs.fetch import FetchStoppedError, fetch
from dhs.fetch.check import check_cutout, sha256_of
from dhs.fetch.service import Service
from tests.attacks.raw_server import raw_server
from tests.dhs.fetch.fetch_cases import SIZE, catalogue
from tests.faults.fuzz.budget import Budget
from tests.faults.fuzz.server_cases import Answer, answers
from tests.faults.fuzz.watch import require_one_line

pytestmark = pytest.mark.fuzz

DEADLINE = 0.3
SLACK = 3.0
"""Time for everything but the exchange, on a busy machine."""
KEPT = {"journal.jsonl", "parts", "rejected.parquet", "manifest.parquet", "g00.fits"}


def require_whole(out: Path, name: str) -> None:
    """Require a file that is in the manifest and is the cutout that was requested."""
    [row] = parquet.read_table(out / "manifest.parquet").to_pylist()
    assert row["file_sha256"] == sha256_of(out / name)
    check_cutout(out / name, 1.0, -60.0, Service(size=SIZE))


def test_fuzz_servers(budget: Budget, tmp_path: Path) -> None:
    current: list[Answer] = []
    out = tmp_path / "out"

    def accepts(given: list[Answer]) -> bool:
        shutil.rmtree(out, ignore_errors=True)
        current[:] = given
        asked = len(server.asked)
        started = time.monotonic()
        try:
            result = fetch(
                catalogue(1),
                out,
                size=SIZE,
                url=server.url,
                rate=1000.0,
                attempts=len(given),
                timeout=DEADLINE / 2,
                deadline=DEADLINE,
                backoff=0.001,
            )
            reasons = [item.reason for item in result.rejected]
        except FetchStoppedError as error:
            reasons = [str(error)]
        assert time.monotonic() - started < DEADLINE * len(given) + SLACK
        # Each attempt may follow redirects.
        assert 0 < len(server.asked) - asked <= 4 * len(given)
        names = {path.name for path in out.iterdir()}
        assert names <= KEPT
        assert ("g00.fits" in names) == (not reasons)
        if reasons:
            require_one_line(reasons[0])
            assert len(reasons[0]) < 1000
            assert not [path.name for path in out.rglob("*.fits")]
            return False
        require_whole(out, "g00.fits")
        assert "parts" not in names
        return True

    with raw_server(lambda number: current[number % len(current)].pieces()) as server:
        budget.spend("server", st.lists(answers(), min_size=1, max_size=2), accepts)
