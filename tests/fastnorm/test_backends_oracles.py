"""Tests of every backend, including the reference, against statistics of other packages."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastnorm
from fastnorm import Annulus
from tests.fastnorm.test_backends import EVERY

SHAPES = [(101, 101), (37, 58), (40, 31)]


def _finite_images(shape: tuple[int, int], dtype: str) -> NDArray[Any]:
    rng = np.random.default_rng(3)
    noise = rng.normal(0.1, 0.02, (6, *shape))
    noise[1] = rng.standard_cauchy(shape)
    noise[2] = rng.integers(0, 7, shape)
    noise[3] += 1e4
    noise[4] = np.where(rng.random(shape) < 0.5, -5, 5)
    return noise.astype(dtype)


def _annulus_values(images: NDArray[Any], annulus: Annulus) -> NDArray[Any]:
    return images[:, annulus.mask(*images.shape[1:])]


def _statistics(images: NDArray[Any], backend: str) -> tuple[Any, Any, NDArray[Any]]:
    annulus = Annulus.default(*images.shape[1:])
    median, mad = fastnorm.annulus_median_mad(images, annulus.r_in, annulus.r_out, backend=backend)
    return median, mad, _annulus_values(images, annulus)


@pytest.fixture(params=["none", "some"])
def missing(request: pytest.FixtureRequest) -> Callable[[NDArray[Any]], NDArray[Any]]:
    def some_nan(images: NDArray[Any]) -> NDArray[Any]:
        if request.param == "some":
            images[np.random.default_rng(4).random(images.shape) < 0.1] = np.nan
        return images

    return some_nan


@pytest.mark.parametrize("backend", EVERY)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_numpy_nanmedian(
    shape: tuple[int, int],
    dtype: str,
    backend: str,
    missing: Callable[[NDArray[Any]], NDArray[Any]],
) -> None:
    median, mad, values = _statistics(missing(_finite_images(shape, dtype)), backend)
    expected = np.nanmedian(values, axis=1)
    np.testing.assert_array_equal(median, expected, strict=True)
    deviation = np.abs(values - expected[:, None])
    np.testing.assert_array_equal(mad, np.nanmedian(deviation, axis=1), strict=True)


@pytest.mark.parametrize("backend", EVERY)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_astropy_median_absolute_deviation(
    shape: tuple[int, int],
    dtype: str,
    backend: str,
    missing: Callable[[NDArray[Any]], NDArray[Any]],
) -> None:
    stats: ModuleType = pytest.importorskip("astropy.stats")
    _, mad, values = _statistics(missing(_finite_images(shape, dtype)), backend)
    expected = [stats.median_absolute_deviation(row, ignore_nan=True) for row in values]
    np.testing.assert_array_equal(mad, expected)


@pytest.mark.parametrize("backend", EVERY)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scipy_median_abs_deviation(dtype: str, backend: str) -> None:
    stats: ModuleType = pytest.importorskip("scipy.stats")
    _, mad, values = _statistics(_finite_images((101, 101), dtype), backend)
    np.testing.assert_array_equal(mad, stats.median_abs_deviation(values, axis=1))
