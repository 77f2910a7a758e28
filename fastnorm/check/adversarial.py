"""Adversarial images: the generator that all checks of all backends use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastnorm.annulus import Annulus

SAMPLE_ROWS, SAMPLE_LANES = 8, 32  # sample of the selection: see kernels/numba_select.py


def nasty_vectors(size: int, dtype: DTypeLike, seed: int = 0) -> Iterator[tuple[str, NDArray[Any]]]:
    """Draw vectors whose median is hard to select, most of them without NaN.

    Parameters
    ----------
    size : int
        Number of values in a vector.
    dtype : dtype
        float16, float32 or float64.
    seed : int
        Random seed.

    Yields
    ------
    name : str
        Name of the vector.
    values : (size,) array of ``dtype``
    """
    rng = np.random.default_rng([seed, size])
    dtype = np.dtype(dtype)
    with np.errstate(all="ignore"):
        for family in (
            _plain,
            _ties,
            _signed_zeros,
            _missing,
            _infinite,
            _extreme,
            _ordered,
            _misleading,
        ):
            for name, values in family(size, dtype, rng):
                yield name, np.asarray(values).astype(dtype)


def nasty_planes(
    shape: tuple[int, int], dtype: DTypeLike, seed: int = 0, annulus: Annulus | None = None
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Draw images with adversarial values in the annulus, and some images of galaxies and sky.

    Parameters
    ----------
    shape : (int, int)
        Height and width in pixels.
    dtype : dtype
        float16, float32 or float64.
    seed : int
        Random seed.
    annulus : Annulus, optional
        The corrected annulus by default.

    Yields
    ------
    name : str
        Name of the planes.
    planes : (N, H, W) array of ``dtype``

    Raises
    ------
    ValueError
        The annulus has fewer than 100 pixels on an image of this shape.
    """
    dtype = np.dtype(dtype)
    annulus = annulus or Annulus.default(*shape)
    pixels = annulus.pixels(*shape)
    rng = np.random.default_rng([seed, *shape])
    with np.errstate(all="ignore"):
        for name, values in nasty_vectors(pixels.size, dtype, seed):
            plane = rng.normal(1, 3, shape).astype(dtype).reshape(-1)
            # Values outside the annulus must not affect the statistics.
            outside = [0, np.nan, np.inf, -np.inf, np.finfo(dtype).max]
            plane[rng.integers(0, plane.size, 5)] = outside
            plane[pixels] = values
            yield name, plane.reshape(1, *shape)
        for name, images in _sky(shape, rng):
            yield name, images.astype(dtype)


def nasty_stack(
    shape: tuple[int, int], dtype: DTypeLike, seed: int = 0, annulus: Annulus | None = None
) -> tuple[list[str], NDArray[Any]]:
    """Return all planes of `nasty_planes` in one array.

    Parameters
    ----------
    shape : (int, int)
        Height and width in pixels.
    dtype : dtype
        float16, float32 or float64.
    seed : int
        Random seed.
    annulus : Annulus, optional
        The corrected annulus by default.

    Returns
    -------
    names : list of str
        One name per plane.
    stack : (N, H, W) array of ``dtype``

    Raises
    ------
    ValueError
        The annulus has fewer than 100 pixels on an image of this shape.
    """
    names: list[str] = []
    stacks = []
    for name, planes in nasty_planes(shape, dtype, seed, annulus):
        names += [name] * len(planes)
        stacks.append(planes)
    return names, np.concatenate(stacks)


_Vectors = Iterator[tuple[str, Any]]


def _plain(size: int, dtype: np.dtype[Any], rng: np.random.Generator) -> _Vectors:
    noise = rng.normal(size=size)
    yield "gaussian", noise
    yield "huge offset", 1e4 + 0.01 * noise
    yield "tiny scale", 1e-3 * noise
    yield "exponential", rng.exponential(size=size)
    yield "cauchy", rng.standard_cauchy(size)
    yield "log-uniform", np.exp(rng.uniform(-8, 8, size)) * rng.choice([-1, 1], size)
    yield "two modes", noise * 0.1 + np.where(np.arange(size) % 2, 50, -50)
    yield "two uneven modes", noise * 0.1 + np.where(rng.random(size) < 0.3, 50, -50)


def _ties(size: int, dtype: np.dtype[Any], rng: np.random.Generator) -> _Vectors:
    yield "all equal", np.full(size, 3.7)
    yield "all zero", np.zeros(size)
    yield "zeros of both signs", np.where(rng.random(size) < 0.5, 0.0, -0.0)
    yield "signed zeros in noise", rng.choice([0.0, -0.0, 1.5, -2.5], size)
    yield "half and half", np.where(np.arange(size) < size // 2, -1, 2)
    yield "half and half but one", np.where(np.arange(size) <= size // 2, -1, 2)
    yield "few levels", rng.integers(0, 5, size) * 0.1
    yield "integers", rng.integers(-100, 100, size)
    yield "ties at the median", np.where(rng.random(size) < 0.3, 0.25, rng.normal(size=size) + 0.25)
    yield "one outlier", np.where(np.arange(size) == size // 2, 1e3, 0.1)


def _signed_zeros(size: int, dtype: np.dtype[Any], rng: np.random.Generator) -> _Vectors:
    """Zeros of both signs where the search of the GPU kernels tries a threshold of exactly 0.

    The search begins at the mean and the mean deviation of medians of three; see
    ``kernels/triton_normalize.py``. Here they are 1 and 12.5, or -1 and 12.5, so that the first
    thresholds, 0.08 deviations on both sides, are 0 and 2. As many zeros as bring the middle rank
    next to them have a position that no median of three depends on.
    """
    lanes = 64
    while 3 * lanes < size:
        lanes *= 2
    position = np.arange(size)
    lane = position % lanes
    is_fixed = (position < 2 * lanes) & (lane < size - lanes)
    low, high = -11.5, 13.5
    values = np.where(is_fixed & (lane % 2 == 0), low, high)
    free = np.flatnonzero(~is_fixed)
    below = int((values == low).sum())
    values[free[: max(0, size // 2 - below)]] = -0.0
    yield "threshold at -0", values
    yield "threshold at +0", np.where(values == 0, 0.0, values)
    yield "threshold at -0 from above", np.where(values == 0, -0.0, -values)
    yield (
        "zeros of both signs at the threshold",
        np.where((values == 0) & (position % 2 == 0), 0.0, values),
    )


def _missing(size: int, dtype: np.dtype[Any], rng: np.random.Generator) -> _Vectors:
    noise = rng.normal(size=size)
    yield "all NaN", np.full(size, np.nan)
    yield "half NaN", np.where(rng.random(size) < 0.5, np.nan, noise)
    yield "one NaN", np.where(np.arange(size) == size // 3, np.nan, noise)
    for left in (1, 2, 3, 31, 33):
        kept = rng.permutation(size) < left
        yield f"{left} not NaN", np.where(kept, noise, np.nan)
    yield "NaN and infinities", rng.choice([np.nan, np.inf, -np.inf, 1, 2], size)


def _infinite(size: int, dtype: np.dtype[Any], rng: np.random.Generator) -> _Vectors:
    noise = rng.normal(size=size)
    which = rng.permutation(size)
    yield "few infinities", np.where(which < 3, np.inf, np.where(which < 6, -np.inf, noise))
    share = rng.random(size)
    yield "many infinities", np.where(share < 0.4, np.inf, np.where(share < 0.7, -np.inf, noise))
    yield "all +inf", np.full(size, np.inf)
    yield "all -inf", np.full(size, -np.inf)
    yield "median +inf", np.where(share < 0.6, np.inf, noise)
    yield "median -inf", np.where(share < 0.6, -np.inf, noise)
    # For an odd size drop one value, so that the two middle values come from different halves.
    odd = np.where(which == size - 1, np.nan, 0.0) if size % 2 else np.zeros(size)
    halves = which < size // 2
    yield "half +inf half -inf", np.where(halves, np.inf, -np.inf) + odd
    yield "half +inf half finite", np.where(halves, np.inf, noise) + odd
    yield "half -inf half finite", np.where(halves, -np.inf, noise) + odd


def _extreme(size: int, dtype: np.dtype[Any], rng: np.random.Generator) -> _Vectors:
    limits = np.finfo(dtype)
    real = dtype.type
    noise = rng.normal(size=size)
    steps = rng.integers(-40, 40, size).astype(dtype)
    yield "subnormals", steps * limits.smallest_subnormal
    yield "subnormals and zeros", np.abs(steps) // real(20) * limits.smallest_subnormal
    yield "around the smallest normal", real(limits.smallest_normal) * noise.astype(dtype)
    yield "tiny range around 1", real(1) + (steps // real(20)) * limits.eps
    start = dtype.type(0.1)
    yield (
        "one ulp apart",
        start + (rng.permutation(size) - size // 2).astype(dtype) * np.spacing(start),
    )
    yield "largest", np.full(size, limits.max)
    yield "middle sum overflows", limits.max * rng.uniform(0.6, 1, size).astype(dtype)
    low = np.where(rng.random(size) < 0.55, -limits.max, limits.max)
    yield "deviation overflows", low
    yield "largest of both signs", limits.max * rng.uniform(-1, 1, size).astype(dtype)
    exponent = rng.uniform(limits.minexp, limits.maxexp - 1, size)
    yield "all exponents", np.ldexp(rng.choice([-1.0, 1.0], size), exponent.astype(int))


def _ordered(size: int, dtype: np.dtype[Any], rng: np.random.Generator) -> _Vectors:
    ordered = np.sort(rng.normal(size=size))
    yield "ascending", ordered
    yield "descending", ordered[::-1]
    yield "alternating sign", np.where(np.arange(size) % 2, ordered, -ordered)
    yield "alternating far", np.where(np.arange(size) % 2, 1e3, -1e3) + ordered


def _misleading(size: int, dtype: np.dtype[Any], rng: np.random.Generator) -> _Vectors:
    """Draw vectors whose sampled values misrepresent the rest."""
    rows = np.arange(SAMPLE_ROWS)[:, None] * (size // SAMPLE_ROWS)
    positions = (rows + np.arange(SAMPLE_LANES)).reshape(-1)
    sampled = np.isin(np.arange(size), positions)
    noise = rng.normal(size=size)
    yield "sample far below", np.where(sampled, 0, 100 + noise)
    yield "sample far above", np.where(sampled, 100, noise)
    yield "sample beside the median", np.where(sampled, 0.3, noise)
    yield (
        "sample wide, rest tight",
        np.where(sampled, 1e3 * rng.standard_cauchy(size), noise * 1e-3),
    )
    yield "sample tight, rest wide", np.where(sampled, noise * 1e-3, 30 * rng.standard_cauchy(size))
    yield "sample infinite", np.where(sampled, np.inf, noise)
    yield "sample of both infinities", np.where(sampled, np.copysign(np.inf, noise), noise)
    yield (
        "sample zero, rest subnormal",
        np.where(sampled, 0, rng.integers(-9, 9, size) * float(np.finfo(dtype).smallest_subnormal)),
    )
    yield "narrowing one value at a time", np.where(sampled, 0, 2.0 ** -(np.arange(size) % 100))


def _sky(shape: tuple[int, int], rng: np.random.Generator) -> Iterator[tuple[str, NDArray[Any]]]:
    rows = np.arange(shape[0])[:, None] - shape[0] // 2
    columns = np.arange(shape[1])[None, :] - shape[1] // 2
    radius = np.hypot(rows, columns)
    sky = rng.normal(0.1, 0.02, (3, *shape))
    galaxy = sky + 5 * np.exp(-radius / 8)
    yield "galaxy and sky", galaxy
    star = np.exp(-((rows - 0.75 * shape[0] / 2) ** 2 + columns**2) / 8)
    yield "star in the annulus", galaxy[:1] + 1e3 * star
    yield "quantised sky", np.round(galaxy * 100) / 100
    yield "plane of a constant", np.full((1, *shape), 0.3)
    ramp = np.arange(shape[0] * shape[1], dtype=np.float64).reshape(1, *shape)
    yield "ascending plane", ramp
    yield "descending plane", -ramp
