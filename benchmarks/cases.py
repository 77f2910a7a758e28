"""The cases that are timed, and their input.

Every case does the whole job (median, MAD, normalise, clip to 10) on a float32
stack (N, 3, 101, 101) with the corrected annulus, into the same touched output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastnorm
from benchmarks.timing import Case
from dhs.utils import radial_mask
from fastnorm.annulus import Annulus
from fastnorm.reference import normalize_plane, scale_of

ANNULUS = Annulus.default(101, 101)
CLIP = 10.0
COPY = "torch copy_"
Stack = NDArray[np.float32]


def make_stack(cutouts: int, seed: int = 0) -> Stack:
    """Return different galaxies on a noisy sky, (cutouts, 3, 101, 101) float32."""
    rng = np.random.default_rng(seed)
    stack = rng.standard_normal((cutouts, 3, 101, 101), dtype=np.float32)
    stack *= np.float32(0.02)
    offset = np.arange(101, dtype=np.float32) - 50
    light = np.exp(-np.hypot(offset[:, None], offset) / 8).astype(np.float32)
    for image in stack:
        image += light * rng.uniform(0.1, 3.0, (3, 1, 1)).astype(np.float32)
    return stack


def cases(stack: Stack, out: Stack, *, with_loop: bool = True) -> Iterator[Case]:
    """Yield the copy, which is the limit, then our backends and every peer, installed or not.

    Each case fills ``out`` from ``stack``, which it never modifies.
    """
    import torch

    source, target = torch.from_numpy(stack), torch.from_numpy(out)
    yield Case(COPY, "limit", lambda: target.copy_(source))
    for backend in fastnorm.backends():
        if backend.available and backend.device == "cpu" and backend.name != "reference":
            yield Case(f"fastnorm {backend.name}", "ours", _ours(stack, out, backend.name))
    yield Case("NumPy, vectorised", "vectorised", lambda: numpy_vectorised(stack, out))
    yield Case(
        "bottleneck nanmedian", "vectorised", lambda: bottleneck_nanmedian(stack, out), "bottleneck"
    )
    yield Case("torch sort", "vectorised", lambda: torch_sort(source, target))
    yield Case("astropy mad_std", "vectorised", lambda: astropy_mad_std(stack, out), "astropy")
    if with_loop:
        yield Case("NumPy loop, reference", "loop", lambda: numpy_loop(stack, out))
        yield Case("NumPy loop, mask per call", "loop", lambda: pipeline_loop(stack, out))


def _ours(stack: Stack, out: Stack, backend: str) -> Callable[[], object]:
    return lambda: fastnorm.normalize_outer_annulus(
        stack, ANNULUS.r_in, ANNULUS.r_out, clip=CLIP, out=out, backend=backend
    )


def numpy_loop(stack: Stack, out: Stack) -> None:
    """Call the reference once per band; it caches the index of the annulus pixels."""
    for image, result in zip(stack, out, strict=True):
        for band in range(3):
            result[band] = normalize_plane(image[band], ANNULUS, clip=CLIP)[0]


def pipeline_loop(stack: Stack, out: Stack) -> None:
    """Process one stamp and band at a time, each with a new mask, like the existing pipeline."""
    for image, result in zip(stack, out, strict=True):
        for band in range(3):
            values = image[band][radial_mask(101, 101, ANNULUS.r_in, ANNULUS.r_out)]
            median = np.nanmedian(values)
            scale = np.float32(float(np.nanmedian(np.abs(values - median))) + 1e-8)
            result[band] = np.clip((image[band] - median) / scale, -CLIP, CLIP)


def _annulus_values(stack: Stack) -> Stack:
    return stack.reshape(-1, 101 * 101)[:, ANNULUS.pixels(101, 101)]


def _finish(stack: Stack, out: Stack, median: Any, mad: Any) -> None:
    shape = (*stack.shape[:2], 1, 1)
    np.subtract(stack, np.asarray(median, np.float32).reshape(shape), out=out)
    np.divide(out, scale_of(np.asarray(mad, np.float32), 1e-8).reshape(shape), out=out)
    np.clip(out, -CLIP, CLIP, out=out)


def numpy_vectorised(stack: Stack, out: Stack) -> None:
    values = _annulus_values(stack)
    median = np.median(values, axis=1, keepdims=True)
    np.subtract(values, median, out=values)
    np.abs(values, out=values)
    _finish(stack, out, median, np.median(values, axis=1, overwrite_input=True))


def bottleneck_nanmedian(stack: Stack, out: Stack) -> None:
    import bottleneck

    values = _annulus_values(stack)
    median = bottleneck.nanmedian(values, axis=1)
    np.subtract(values, median[:, None], out=values)
    np.abs(values, out=values)
    _finish(stack, out, median, bottleneck.nanmedian(values, axis=1))


def astropy_mad_std(stack: Stack, out: Stack) -> None:
    from astropy.stats import mad_std

    values = _annulus_values(stack)
    median = np.nanmedian(values, axis=1)
    # mad_std divides the MAD by 0.6745, and the definition does not.
    mad = mad_std(values, axis=1, ignore_nan=True) * 0.6744897501960817
    _finish(stack, out, median, mad)


def torch_sort(source: Any, target: Any) -> None:
    import torch

    pixels = torch.from_numpy(ANNULUS.pixels(101, 101).copy())
    values = source.reshape(-1, 101 * 101)[:, pixels]
    first, second = (values.shape[1] - 1) // 2, values.shape[1] // 2
    ordered = values.sort(dim=1).values
    median = (ordered[:, first] + ordered[:, second]) / 2
    ordered = values.sub_(median[:, None]).abs_().sort(dim=1).values
    mad = (ordered[:, first] + ordered[:, second]) / 2
    shape = (*source.shape[:2], 1, 1)
    scale = (mad.double() + 1e-8).float().reshape(shape)
    torch.sub(source, median.reshape(shape), out=target)
    target.div_(scale).clamp_(-CLIP, CLIP)
