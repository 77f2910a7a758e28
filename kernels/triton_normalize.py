"""The normalisation on a GPU, in Triton: one program per plane, one read and write per pixel.

A program gathers the pixels of its footprint into registers, finds the median and the MAD there
by counting, then streams the plane: subtract, divide, clip, turn, cast, store.
docs/kernels.md explains why every step is exact and what it costs.

In all Triton files, ``p_`` marks a pointer to global memory, ``m_`` a mask, and
upper case a compile-time constant. Addresses are int64.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from fastnorm.kernels.triton_select import middle_pair
from fastnorm.kernels.triton_store import (
    offset_of,
    store_straight,
    store_turned,
    widened,
)

MOST_PIXELS = 24_576  # most annulus pixels that 512 threads keep in registers, also in float64
REGISTERS_OF_VALUES = 48  # 32-bit registers for values per thread
MOST_REGISTERS = 80  # of all kinds, so that 24 warps hide the latency of a multiprocessor
# A quotient is normal or 0 if the median is at least this times the scale; see docs/kernels.md.
LEAST_MEDIAN = tl.constexpr(2.0**-100)
# Views at any address, of any strides, with any options, run one compiled kernel.
POINTERS = [f"p_{name}" for name in ("images", "mask", "index", "dihedral", "out")]
POINTERS += [f"p_{name}" for name in ("median", "mad", "scale")]
RUNTIME = ["rows", "image_stride", "channel_stride", "row_stride", "column_stride"]
RUNTIME += ["mask_image_stride", "mask_channel_stride", "mask_row_stride", "mask_column_stride"]


@triton.jit
def _listed_values(
    p_plane, p_mask, p_pixels, lane, row_stride, column_stride, mask_row_stride, mask_column_stride,
    PIXELS: tl.constexpr, WIDTH: tl.constexpr, COMPUTE, NAN_TO_ZERO, IS_STRIDED: tl.constexpr,
):  # fmt: skip
    """Load listed pixels, +inf where a pixel is missing or bad, and 1 for every valid pixel."""
    m_lane = lane < PIXELS
    pixel = tl.load(p_pixels + lane, mask=m_lane, other=0)
    offset = offset_of(pixel, row_stride, column_stride, WIDTH) if IS_STRIDED else pixel
    value = widened(tl.load(p_plane + offset, mask=m_lane, other=0), COMPUTE)
    if NAN_TO_ZERO:
        value = tl.where(value == value, value, 0.0)
    m_value = m_lane & (value == value)
    if p_mask is not None:
        p_bad = p_mask + offset_of(pixel, mask_row_stride, mask_column_stride, WIDTH)
        m_value = m_value & (tl.load(p_bad, mask=m_lane, other=1) == 0)
    return tl.where(m_value, value, float("inf")), m_value.to(tl.int32)


@triton.jit
def _median_mad(a, b, c, n, p_passes):
    """Return the median and MAD of the ``n`` values that are not padding; both 0 if undefined."""
    inf: tl.constexpr = float("inf")
    # Medians of three scatter around the median like the values, but without outliers.
    third = tl.maximum(tl.minimum(a, b), tl.minimum(tl.maximum(a, b), c))
    m_third = third < inf
    share = 1.0 / tl.sum(m_third.to(a.dtype))
    guess = tl.sum(tl.where(m_third, third, 0.0)) * share
    spread = tl.sum(tl.where(m_third, tl.abs(third - guess), 0.0)) * share
    median, mad, others = guess, guess, n
    for statistic in range(2):
        low, high, counted, bisected = middle_pair(a, b, c, n, guess, spread)
        mad = tl.where(n % 2 == 0, (low + high) * 0.5, low)
        if p_passes is not None:
            tl.store(p_passes + 2 * statistic, counted)
            tl.store(p_passes + 2 * statistic + 1, bisected)
        if statistic == 0:
            median = mad
            if tl.abs(median) == inf:
                same = (a == median).to(tl.int32) + (b == median).to(tl.int32)
                padding = tl.where(median > 0, 3 * a.numel - n, 0)
                others = n + padding - tl.sum(same + (c == median).to(tl.int32))
            centre = tl.where(tl.abs(median) < inf, median, 0.0)
            a, b, c = tl.abs(a - centre), tl.abs(b - centre), tl.abs(c - centre)
            guess = 1.26 * spread  # as for Gaussian noise
    # Deviations from an infinite median are infinite, except those that are undefined.
    mad = tl.where(tl.abs(median) == inf, tl.where(others > 0, inf, 0.0), mad)
    is_defined = (n > 0) & (median == median)
    return tl.where(is_defined, median, 0.0), tl.where(is_defined, mad, 0.0)


@triton.jit(do_not_specialize=RUNTIME, do_not_specialize_on_alignment=POINTERS)
def _normalize_plane(
    p_images, p_mask, p_pixels, p_index, p_dihedral, p_out, p_median, p_mad, p_scale, p_passes,
    rows: tl.int64, image_stride: tl.int64, channel_stride: tl.int64,
    row_stride: tl.int64, column_stride: tl.int64,
    mask_image_stride: tl.int64, mask_channel_stride: tl.int64,
    mask_row_stride: tl.int64, mask_column_stride: tl.int64,
    eps: tl.float64, clip: tl.float64,
    PIXELS: tl.constexpr, LANES: tl.constexpr, BLOCK: tl.constexpr, TILE: tl.constexpr,
    CHANNELS: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, COMPUTE: tl.constexpr,
    NAN_TO_ZERO: tl.constexpr, CHANNELS_LAST: tl.constexpr, IS_STRIDED: tl.constexpr,
):  # fmt: skip
    SIZE: tl.constexpr = HEIGHT * WIDTH
    plane = tl.program_id(0).to(tl.int64)
    image, channel = plane // CHANNELS, plane % CHANNELS
    row = image
    if p_index is not None:
        row = tl.load(p_index + image)
    # A row out of range is never read: an illegal access would cost the whole CUDA context.
    is_row = (row >= 0) & (row < rows)
    row = tl.where(is_row, row, 0)
    p_plane = p_images + (row * image_stride + channel * channel_stride)
    if p_mask is not None:
        p_mask += row * mask_image_stride + channel * mask_channel_stride
    if p_passes is not None:
        p_passes += plane * 4

    lane = tl.arange(0, LANES)
    a, n_a = _listed_values(
        p_plane, p_mask, p_pixels, lane, row_stride, column_stride,
        mask_row_stride, mask_column_stride, PIXELS, WIDTH, COMPUTE, NAN_TO_ZERO, IS_STRIDED,
    )  # fmt: skip
    b, n_b = _listed_values(
        p_plane, p_mask, p_pixels, lane + LANES, row_stride, column_stride,
        mask_row_stride, mask_column_stride, PIXELS, WIDTH, COMPUTE, NAN_TO_ZERO, IS_STRIDED,
    )  # fmt: skip
    c, n_c = _listed_values(
        p_plane, p_mask, p_pixels, lane + 2 * LANES, row_stride, column_stride,
        mask_row_stride, mask_column_stride, PIXELS, WIDTH, COMPUTE, NAN_TO_ZERO, IS_STRIDED,
    )  # fmt: skip
    median, mad = _median_mad(a, b, c, tl.sum(n_a + n_b + n_c), p_passes)
    scale = (mad.to(tl.float64) + eps).to(COMPUTE)
    nan: tl.constexpr = float("nan")
    tl.store(p_median + plane, tl.where(is_row, median, nan))
    if p_mad is not None:
        tl.store(p_mad + plane, tl.where(is_row, mad, nan))
    if p_scale is not None:
        tl.store(p_scale + plane, tl.where(is_row, scale, nan))

    if p_out is not None:
        # If the quotient cannot be subnormal, this product rounds to the same value.
        wide = scale.to(tl.float64)
        is_exact = (tl.abs(median) < float("inf")) & (scale < float("inf"))
        is_exact &= (tl.abs(median).to(tl.float64) >= wide * LEAST_MEDIAN) & (COMPUTE == tl.float32)
        inverse = tl.where(is_exact, 1.0 / wide, 0.0)
        # Every product with NaN is NaN, which is no NaN of the image and never becomes 0.
        inverse = tl.where(is_row, inverse, nan)
        limit = tl.full((), clip, COMPUTE)
        STEP: tl.constexpr = CHANNELS if CHANNELS_LAST else 1
        p_out += image * CHANNELS * SIZE + channel * (1 if CHANNELS_LAST else SIZE)
        if p_dihedral is None:
            store_straight(
                p_plane, p_out, row_stride, column_stride, median, scale, inverse, limit,
                SIZE, WIDTH, STEP, NAN_TO_ZERO, IS_STRIDED, BLOCK,
            )  # fmt: skip
        else:
            store_turned(
                p_plane, p_out, row_stride, column_stride, tl.load(p_dihedral + image).to(tl.int32),
                median, scale, inverse, limit, HEIGHT, STEP, NAN_TO_ZERO, IS_STRIDED, TILE,
            )  # fmt: skip


def constants(
    pixels: int,
    shape: tuple[int, int, int],
    compute: torch.dtype,
    nan_to_zero: bool,
    channels_last: bool,
    is_strided: bool,
) -> dict[str, Any]:
    """Return the compilation options: constants, warps, and no fused multiply-add.

    There is no autotuning: the number of warps follows from the registers that a
    footprint of ``pixels`` values of the dtype ``compute`` needs.
    """
    lanes = max(64, triton.next_power_of_2(-(-pixels // 3)))
    registers = 3 * lanes * compute.itemsize // 4
    warps = min(max(1, registers // (32 * REGISTERS_OF_VALUES)), 16)
    return {
        "PIXELS": pixels,
        "LANES": lanes,
        "BLOCK": 512 * warps,
        "TILE": min(32, triton.next_power_of_2(min(shape[1:]) // 2 + 1)),
        "CHANNELS": shape[0],
        "HEIGHT": shape[1],
        "WIDTH": shape[2],
        "COMPUTE": tl.float64 if compute == torch.float64 else tl.float32,
        "NAN_TO_ZERO": nan_to_zero,
        "CHANNELS_LAST": channels_last,
        "IS_STRIDED": is_strided,
        "num_warps": warps,
        "maxnreg": None if compute == torch.float64 else MOST_REGISTERS,
        "enable_fp_fusion": False,
    }


@lru_cache(maxsize=256)
def _rounded(value: float | None, compute: torch.dtype) -> float:
    """Return a limit as a number of the dtype of the computation, inf for None."""
    # NumPy rounds it: a tensor may be made on a device, and would be waited for.
    with np.errstate(over="ignore"):
        number = np.float64(math.inf if value is None else value)
        return float(number.astype(np.float64 if compute == torch.float64 else np.float32))


_BITS = {torch.bfloat16: torch.int16, torch.bool: torch.uint8}


def _raw(tensor: Tensor | None) -> Tensor | None:
    """View a tensor in a dtype that the kernel takes: bfloat16 as its bits, bool as bytes."""
    if tensor is None or tensor.dtype not in _BITS:
        return tensor
    return tensor.view(_BITS[tensor.dtype])


def _kind(tensor: Tensor | None) -> Any:
    return None if tensor is None else tensor.dtype


# Compiled kernels by all that their code depends on, with their constants. Triton's own cache
# looks at every argument, which takes the host twice as long.
_compiled: dict[tuple[Any, ...], tuple[Any, tuple[Any, ...]]] = {}


def launch(
    images: Tensor,
    mask: Tensor | None,
    pixels: Tensor,
    index: Tensor | None,
    dihedral: Tensor | None,
    out: Tensor | None,
    median: Tensor,
    mad: Tensor | None,
    scale: Tensor | None,
    eps: float,
    clip: float | None,
    nan_to_zero: bool,
    passes: Tensor | None = None,
) -> None:
    """Normalise M images; all tensors must be on one device and all arguments already checked.

    Parameters
    ----------
    images : (N, C, H, W) tensor
        float16, bfloat16, float32 or float64, with any strides.
    mask : (N, C, H, W) bool tensor, optional
        True is bad. Any strides, those of a broadcast included.
    pixels : (n,) int32 tensor
        Flat indices of the pixels that the statistics use, ascending, at most `MOST_PIXELS`.
    index : (M,) int64 tensor, optional
        Rows of ``images``; without it M is N. A row out of range gives NaN.
    dihedral : (M,) integer tensor, optional
        Dihedral element 0 to 7 for every image; images must then be square.
    out : (M, C, H, W) tensor, optional
        Contiguous or ``channels_last``, of any dtype that ``images`` may have.
    median : (M, C) tensor, contiguous
        float64 for float64 images, else float32.
    mad, scale : (M, C) tensors, contiguous, optional
        Of the same dtype.
    eps, clip, nan_to_zero
        Same as in `fastnorm.normalize_outer_annulus`.
    passes : (M, C, 2, 2) int32 tensor, optional
        Written: number of counting and bisecting passes of the median and of the MAD.
    """
    count, channels = median.shape
    rows, _, height, width = images.shape
    strides = images.stride()
    is_strided = strides[2] != width or strides[3] != 1
    is_last = out is not None and channels > 1 and not out.is_contiguous()
    arguments = (
        _raw(images), _raw(mask), pixels, index, dihedral, _raw(out), median, mad, scale, passes,
        rows, *strides, *((0, 0, 0, 0) if mask is None else mask.stride()),
        eps, _rounded(clip, median.dtype),
    )  # fmt: skip
    of_code = (
        pixels.shape[0], (channels, height, width), median.dtype, nan_to_zero, is_last, is_strided
    )  # fmt: skip
    key = of_code, (
        images.device, images.dtype, mask is None, index is None, _kind(dihedral), _kind(out),
        mad is None, scale is None, passes is None, pixels.data_ptr() % 16,
    )  # fmt: skip
    grid = (count * channels, 1, 1)
    if key in _compiled:
        kernel, values = _compiled[key]
        kernel[grid](*arguments, *values)
        return
    settings = constants(*of_code)
    kernel = _normalize_plane[grid](*arguments, **settings)
    if kernel is not None:  # as in Triton's interpreter
        _compiled[key] = kernel, tuple(v for name, v in settings.items() if name.isupper())
