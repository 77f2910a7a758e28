"""Benchmarks of the normalisation with pytest-benchmark, to track its speed over time.

``pytest benchmarks --benchmark-enable --benchmark-json=FILE`` writes a file for
``pytest-benchmark compare``. The ratios in the README are from ``make bench``,
which interleaves the contenders.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.cases import cases, make_stack, numpy_loop
from benchmarks.timing import Case

CUTOUTS = int(os.environ.get("FASTNORM_BENCHMARK_CUTOUTS", "64"))
STACK = make_stack(CUTOUTS)
OUT = np.zeros_like(STACK)
CASES = list(cases(STACK, OUT))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_speed(benchmark: BenchmarkFixture, case: Case) -> None:
    if case.needs:
        pytest.importorskip(case.needs)
    benchmark.group = f"{CUTOUTS} cutouts"
    benchmark.extra_info["bytes_moved"] = 2 * STACK.nbytes
    OUT.fill(np.nan)
    benchmark(case.run)
    if case.kind == "limit":
        np.testing.assert_array_equal(OUT, STACK)
        return
    expected = np.empty_like(STACK)
    numpy_loop(STACK, expected)
    # astropy divides the MAD by 0.6745 and we undo it, so the results are equal to rounding.
    tolerance = 1e-5 if case.name.startswith("astropy") else 0
    np.testing.assert_allclose(OUT, expected, rtol=tolerance, atol=0)
