"""Tests of memory: besides input and output, a call needs less than 1 MiB per thread."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np
import pytest

import fastnorm

PLANES = 1000
LIMIT = 2**20
STATISTICS = 2 * PLANES * 8


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    fastnorm.set_num_threads(request.param)
    yield request.param
    fastnorm.set_num_threads(None)


def extra_bytes(call: Callable[[], object]) -> int:
    call()
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@cache
def stacks() -> dict[str, tuple[Any, Any]]:
    images = np.random.default_rng(0).standard_normal((PLANES, 101, 101), dtype=np.float32)
    half = images.astype(np.float16)
    return {
        "as it lies": (images, np.zeros_like(images)),
        "every second plane": (images[::2], np.zeros_like(images[::2])),
        "transposed": (images.transpose(0, 2, 1), np.zeros_like(images)),
        "byte-swapped": (images.astype(">f4"), np.zeros_like(images)),
        "float16": (half, np.zeros_like(half)),
        "strided output": (images[::2], np.zeros_like(images)[::2]),
    }


@pytest.mark.parametrize(
    "name",
    [
        "as it lies",
        "every second plane",
        "transposed",
        "byte-swapped",
        "float16",
        "strided output",
    ],
)
def test_extra_memory(name: str, threads: int) -> None:
    images, out = stacks()[name]
    bad = np.zeros(images.shape[-2:], bool)
    for mask in (None, bad):
        call = partial(
            fastnorm.normalize_outer_annulus,
            images,
            32.5,
            45,
            mask=mask,
            clip=10,
            out=out,
            backend="numba",
        )
        used = extra_bytes(call)
        assert used < threads * LIMIT + STATISTICS


def test_the_measure_sees_a_copy() -> None:
    images = np.zeros((100, 101, 101), np.float32)
    assert extra_bytes(lambda: images.copy()) >= images.nbytes
