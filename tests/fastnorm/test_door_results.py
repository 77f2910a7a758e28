"""Tests of the results of the public functions: type, dtype and shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fastnorm import annulus_median_mad
from fastnorm.normalize import normalize_outer_annulus as normalize
from tests.fastnorm.test_backends import EVERY

LEADS = [(), (1,), (5,), (2, 3), (2, 1, 3), (0,), (0, 3), (3, 0)]
NUMPY = ["float16", "float32", "float64"]
TORCH = ["float16", "bfloat16", "float32", "float64"]


@pytest.mark.parametrize("backend", EVERY)
@pytest.mark.parametrize("lead", LEADS)
@pytest.mark.parametrize("dtype", NUMPY)
def test_numpy_results(dtype: str, lead: tuple[int, ...], backend: str) -> None:
    images = np.random.default_rng(1).normal(size=(*lead, 101, 101)).astype(dtype)
    wide = "float64" if dtype == "float64" else "float32"
    results = normalize(images, 32.5, 45, return_stats=True, backend=backend)
    stats = annulus_median_mad(images, 32.5, 45, backend=backend)
    assert isinstance(results, tuple)
    assert isinstance(stats, tuple)
    for values, name, shape in zip(
        results + stats,
        [dtype, wide, wide, wide, wide],
        [images.shape, lead, lead, lead, lead],
        strict=True,
    ):
        assert type(values) is np.ndarray
        assert values.dtype == name
        assert values.shape == shape
    alone = normalize(images, 32.5, 45, backend=backend)
    assert type(alone) is np.ndarray
    np.testing.assert_array_equal(alone, results[0])
    np.testing.assert_array_equal(results[1], stats[0])


@pytest.mark.parametrize("backend", EVERY)
@pytest.mark.parametrize("lead", LEADS)
@pytest.mark.parametrize("dtype", TORCH)
def test_torch_results(dtype: str, lead: tuple[int, ...], backend: str) -> None:
    images = torch.randn(*lead, 101, 101).to(getattr(torch, dtype))
    wide = torch.float64 if dtype == "float64" else torch.float32
    results = normalize(images, 32.5, 45, return_stats=True, backend=backend)
    stats = annulus_median_mad(images, 32.5, 45, backend=backend)
    for values, found, shape in zip(
        results + stats,
        [images.dtype, wide, wide, wide, wide],
        [(*lead, 101, 101), lead, lead, lead, lead],
        strict=True,
    ):
        assert type(values) is torch.Tensor
        assert values.dtype == found
        assert tuple(values.shape) == shape


@pytest.mark.parametrize("backend", EVERY)
@pytest.mark.parametrize("wanted", NUMPY)
@pytest.mark.parametrize("dtype", [*NUMPY, ">f4", ">f8"])
def test_numpy_dtype_argument(dtype: str, wanted: str, backend: str) -> None:
    images = np.random.default_rng(1).normal(size=(2, 64, 64)).astype(dtype)
    for given in (wanted, np.dtype(wanted), np.dtype(wanted).type, np.dtype(wanted).newbyteorder()):
        result, median, _ = normalize(
            images, 20, 32, dtype=given, return_stats=True, backend=backend
        )
        assert result.dtype == wanted
        assert result.dtype.isnative
        assert median.dtype == ("float64" if images.dtype.itemsize == 8 else "float32")
    assert normalize(images, 20, 32, backend=backend).dtype == images.dtype.newbyteorder("=")


@pytest.mark.parametrize("backend", EVERY)
@pytest.mark.parametrize("wanted", TORCH)
@pytest.mark.parametrize("dtype", TORCH)
def test_torch_dtype_argument(dtype: str, wanted: str, backend: str) -> None:
    images = torch.randn(2, 64, 64).to(getattr(torch, dtype))
    result = normalize(images, 20, 32, dtype=getattr(torch, wanted), backend=backend)
    wide = images.double() if dtype == "float64" else images.float()
    expected = normalize(wide, 20, 32, backend="reference")
    if wanted == "float16":
        # torch rounds float64 to float16 via float32, and so rounds twice.
        expected = torch.from_numpy(expected.numpy().astype(np.float16))
    assert result.dtype == getattr(torch, wanted)
    assert torch.equal(result, expected.to(getattr(torch, wanted)))


@pytest.mark.parametrize("backend", EVERY)
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_output_takes_the_dtype_asked_for(library: str, backend: str) -> None:
    images: Any = np.random.default_rng(1).normal(size=(3, 64, 64)).astype(np.float32)
    out: Any = np.full(images.shape, np.nan)
    dtype: Any = np.float64
    if library == "torch":
        images, out, dtype = torch.from_numpy(images), torch.from_numpy(out), torch.float64
    result = normalize(images, 20, 32, out=out, dtype=dtype, backend=backend)
    assert result is out
    np.testing.assert_array_equal(
        np.asarray(out), np.asarray(normalize(images, 20, 32, backend="reference"))
    )


@pytest.mark.parametrize("backend", EVERY)
def test_statistics_are_what_the_result_was_made_with(backend: str) -> None:
    images = np.random.default_rng(1).normal(3, 2, (7, 64, 64)).astype(np.float32)
    result, median, scale = normalize(images, 20, 32, return_stats=True, backend=backend)
    np.testing.assert_array_equal((images - median[:, None, None]) / scale[:, None, None], result)
    _, mad = annulus_median_mad(images, 20, 32, backend=backend)
    np.testing.assert_array_equal((mad.astype(np.float64) + 1e-8).astype(np.float32), scale)


@pytest.mark.parametrize("backend", EVERY)
def test_warnings_settings_of_numpy_do_not_matter(backend: str) -> None:
    images = np.random.default_rng(1).normal(size=(3, 64, 64)).astype(np.float32)
    images[0], images[1, 0], images[2] = np.inf, np.nan, np.finfo(np.float32).max
    expected = normalize(images, 20, 32, dtype=np.float16, backend=backend)
    with np.errstate(all="raise"):
        result = normalize(images, 20, 32, dtype=np.float16, backend=backend)
    np.testing.assert_array_equal(result, expected)
