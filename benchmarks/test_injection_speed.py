"""Benchmarks of the renderer with pytest-benchmark, to track its speed over time.

Run ``pytest benchmarks --benchmark-enable``, see `benchmarks.test_speed`. For ratios, run
``python -m benchmarks.injection``.
"""

from __future__ import annotations

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.injection import DRAWS, draws
from dhs.constants import BANDS, CUTOUT_SIZE
from dhs.injection import PSF, inject, render

LENS, SOURCE = draws(DRAWS)
SHAPE = (CUTOUT_SIZE, CUTOUT_SIZE)


@pytest.mark.parametrize("bands", [("r",), BANDS], ids=["1-band", "3-bands"])
def test_render(benchmark: BenchmarkFixture, bands: tuple[str, ...]) -> None:
    benchmark.group = f"render {DRAWS} lensed sources"
    out = np.full((DRAWS, len(bands), *SHAPE), np.nan, np.float32)
    benchmark(lambda: render(LENS, SOURCE, bands=bands, out=out))
    expected = render(LENS[:2], SOURCE[:2], bands=bands, backend="reference")
    np.testing.assert_allclose(out[:2], expected, rtol=0, atol=1e-5 * expected.max())


def test_inject(benchmark: BenchmarkFixture) -> None:
    benchmark.group = f"inject {DRAWS} arcs"
    rng = np.random.default_rng(0)
    hosts = rng.standard_normal((DRAWS, 3, *SHAPE), dtype=np.float32)
    psf = PSF.moffat(1.3)
    done = benchmark(lambda: inject(hosts, LENS, SOURCE, psf))
    np.testing.assert_array_equal(done.stamps, hosts + done.arc)
