"""Benchmarks of reading a pack with pytest-benchmark, to track its speed over time.

Run ``pytest benchmarks --benchmark-enable``, see `benchmarks.test_speed`. For ratios, run
``python -m benchmarks.loader``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.cases import make_stack
from benchmarks.loader import BATCH, CPU, write_pack
from dhs.data import DatasetConfig, LensDataset
from dhs.preprocess.layer import Preprocess
from dhs.train.batches import Batches
from dhs.train.sampler import BatchSampler

STACK = make_stack(8 * BATCH)


@pytest.mark.parametrize("normalize", [False, True], ids=["raw", "normalised"])
def test_batches(benchmark: BenchmarkFixture, normalize: bool, tmp_path: Path) -> None:
    benchmark.group = f"{len(STACK)} cutouts of a pack, in batches of {BATCH}"
    write_pack(tmp_path / "pack", STACK)
    config = DatasetConfig(
        parquet_path=str(tmp_path / "pack"), crop=False, annulus_r_in=32.5, annulus_r_out=45.0
    )
    data = LensDataset(config, None)
    layer = Preprocess(config.spec(), data.size)
    sampler = BatchSampler(len(data), BATCH, seed=0)

    def read() -> torch.Tensor:
        sampler.set_epoch(0)
        for batch in Batches(data, sampler, device=CPU):
            last = layer(batch.images) if normalize else batch.images
        return last

    last = benchmark(read)
    sampler.set_epoch(0)
    expected = torch.from_numpy(STACK[list(sampler.batches())[-1]])
    np.testing.assert_array_equal(last, layer(expected) if normalize else expected)
