"""Tests of the first call: it compiles with a notice if that is slow, and fills the cache."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

PROGRAM = """
import time
import numpy as np
import fastnorm
start = time.perf_counter()
fastnorm.normalize_outer_annulus(np.ones((2, 101, 101), np.float32), 32.5, 45, backend="numba")
print(time.perf_counter() - start)
"""


def run(cache: Path) -> tuple[float, str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "NUMBA_CACHE_DIR": str(cache)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout), done.stderr


@pytest.mark.slow
def test_compilation_is_announced_once_and_cached(tmp_path: Path) -> None:
    first, notice = run(tmp_path)
    assert "compiling the CPU kernel" in notice or first < 2.5
    second, silence = run(tmp_path)
    assert silence == ""
    assert second < first / 2
