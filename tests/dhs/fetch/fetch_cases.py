"""Fixtures of the fetch tests: an unreliable server, catalogues and fast settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest

from dhs.fetch import FetchResult, fetch
from tests.dhs.fetch.flaky_server import FlakyServer, flaky_server

SIZE = 11


@pytest.fixture
def server() -> Iterator[FlakyServer]:
    with flaky_server() as result:
        yield result


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "cutouts"


def catalogue(n: int, **more: Any) -> pyarrow.Table:
    ra = np.round(np.linspace(1, 350, n), 4)
    ids = [f"g{k:02d}" for k in range(n)]
    return pyarrow.table({"galaxy_id": ids, "ra": ra, "dec": np.linspace(-60, 30, n)} | more)


def get(server: FlakyServer, out: Path, source: Any, **options: Any) -> FetchResult:
    given = {"size": SIZE, "rate": 1000.0, "timeout": 0.2, "backoff": 0.001} | options
    return fetch(source, out, url=server.url, **given)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
