"""Outer-annulus median, MAD and normalisation on a CUDA device, with Numba.

Each plane has one thread block. It gathers the annulus once into shared memory, as
integer keys in the order of the values, finds both medians there by counting, then
reads the plane again (from the cache) and writes the result.

The values equal the definition because the arithmetic is plain IEEE. Without fastmath
Numba rounds divisions correctly and keeps subnormals, and no product is added to
anything, so that the compiler has nothing to fuse.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from fastnorm.kernels.numba_cuda_select import (
    SCRATCH,
    SUM,
    clear,
    count,
    end_turn,
    middle_value,
    read_plane,
    read_shared,
    to_key,
    to_value,
)
from fastnorm.kernels.numba_cuda_shim import (
    SIMULATED,
    cuda,
    device,
    kernel,
    reason_unavailable,
    types,
)

__all__ = ["MOST_PIXELS", "SCRATCH", "compile_ptx", "launch", "reason_unavailable"]

MOST_PIXELS = 24_576
"""Largest number of annulus pixels in a plane: two counts share the bits of one int32."""

THREADS = 128
SHARED_BYTES = 48 * 1024  # default shared memory of a block on every device


@device
def load_plain(images: Any, i: Any) -> Any:
    return images[np.uint64(i)]  # a signed index costs a check for negative values


@device
def load_bfloat16(images: Any, i: Any) -> Any:
    return np.int32(np.int32(images[np.uint64(i)]) << np.int32(16)).view(np.float32)


@device
def store_plain(out: Any, i: Any, value: Any) -> None:
    out[np.uint64(i)] = value


@device
def store_float16(out: Any, i: Any, value: Any) -> None:
    out[np.uint64(i)] = np.float16(np.float32(value))


@device
def store_bfloat16(out: Any, i: Any, value: Any) -> None:
    bits = np.float32(value).view(np.int32)
    odd = (bits >> np.int32(16)) & np.int32(1)
    nearest = (bits + np.int32(0x7FFF) + odd) >> np.int32(16)
    out[np.uint64(i)] = np.int16(nearest) if value == value else np.int16(0x7FC0)


@device
def source_pixel(element: Any, row: Any, column: Any, plane: Any) -> Any:
    """Return the offset of the source pixel of (row, column) under a dihedral element."""
    width, row_stride, column_stride = plane
    for _ in range(element & 3):
        row, column = column, width - 1 - row
    if element & 4:
        column = width - 1 - column
    return row * row_stride + column * column_stride


@functools.cache
def build_kernel(real: Any, key: Any, load: Any, store: Any, resident: bool) -> Any:
    """Build the kernel for a pair of dtypes; ``resident`` if all keys fit in shared memory."""
    read = read_shared if resident else read_plane
    key_type = types.int32 if key is np.int32 else types.int64

    def normalize_planes(arrays: Any, sizes: Any, given: Any, eps: Any, clip: Any) -> None:
        images, mask, pixels, index, dihedral, out, median, mad, scale = arrays
        (
            rows, channels, height, width,
            image_stride, channel_stride, row_stride, column_stride,
            mask_image, mask_channel, mask_row, mask_column,
            out_image, out_channel, step,
        ) = sizes  # fmt: skip
        masked, indexed, turned, stored, with_mad, with_scale, nan_to_zero = given
        shared = cuda.shared.array(0, key_type)
        scratch, keys = shared[:SCRATCH], shared[SCRATCH:]
        lane, lanes = np.uint32(cuda.threadIdx.x), np.uint32(cuda.blockDim.x)
        pixel_count, ignored = np.uint32(pixels.size), key(np.iinfo(key).max)
        plane = np.int64(cuda.blockIdx.x)
        target, channel = plane // channels, plane % channels
        image = np.int64(index[target]) if indexed else target
        # A row out of range is never read: an illegal access would cost the whole CUDA context.
        is_row = image >= 0 and image < rows
        image = image if is_row else np.int64(0)
        start = image * image_stride + channel * channel_stride
        mask_start = image * mask_image + channel * mask_channel
        for_nan = real(0) if nan_to_zero else real(np.nan)
        strides = (np.uint32(width), row_stride, column_stride)
        bad = (mask, mask_start, mask_row, mask_column)
        place = (keys, real, load, images, start, pixels, bad, strides, masked, for_nan)

        clear(scratch, 0)
        cuda.syncthreads()
        source = place + (real(0), False)
        valid = np.int32(0)
        i = lane
        while i < pixel_count:
            found = read_plane(source, i)
            if resident:
                keys[i] = found
            valid = np.int32(valid + np.int32(found != ignored))
            i = np.uint32(i + lanes)
        cuda.atomic.add(scratch, SUM, key(valid))
        n, _, _, turn = end_turn(scratch, 0)

        middle, spread = real(0), real(0)
        annulus = (source, read, scratch, pixel_count)
        if n > 0:
            middle, turn = middle_value(annulus, n, real, turn)
        if middle != middle:
            middle = real(0)
        elif abs(middle) == real(np.inf):
            # |v - inf| is inf, or NaN if v is the same infinity.
            same = to_key(middle, key)
            below, up_to, turn = count(annulus, same, same, turn)
            spread = real(np.inf) if up_to - below < n else real(0)
        elif n > 0:
            i = lane
            while resident and i < pixel_count:
                if keys[i] != ignored:
                    keys[i] = to_key(abs(to_value(keys[i], real, key) - middle), key)
                i = np.uint32(i + lanes)
            cuda.syncthreads()
            annulus = (place + (middle, True), read, scratch, pixel_count)
            spread, turn = middle_value(annulus, n, real, turn)

        divisor = real(np.float64(spread) + eps)
        missing = real(np.nan)
        if lane == 0:
            median[plane] = middle if is_row else missing
            if with_mad:
                mad[plane] = spread if is_row else missing
            if with_scale:
                scale[plane] = divisor if is_row else missing
        if stored:
            limit = real(clip)
            element = np.int32(dihedral[target]) if turned else np.int32(0)
            turned_plane = (width, row_stride, column_stride)
            origin = source_pixel(element, 0, 0, turned_plane)
            down = source_pixel(element, 1, 0, turned_plane) - origin
            right = source_pixel(element, 0, 1, turned_plane) - origin
            first = start + origin
            to = target * out_image + channel * out_channel
            side, size = np.uint32(width), np.uint32(height * width)
            row, column = np.int32(lane // side), np.int32(lane % side)
            rows, columns = np.int32(lanes // side), np.int32(lanes % side)
            i = lane
            while i < size:
                value = real(load(images, first + (row * down + column * right)))
                value = value if value == value else for_nan
                value = (value - middle) / divisor
                value = value if value == value else for_nan
                value = limit if value > limit else value
                value = value if is_row else missing
                store(out, to + i * step, -limit if value < -limit else value)
                i = np.uint32(i + lanes)
                row, column = np.int32(row + rows), np.int32(column + columns)
                if column >= width:
                    row, column = np.int32(row + 1), np.int32(column - width)

    return kernel(normalize_planes)


def kernel_for(image_dtype: torch.dtype, out_dtype: torch.dtype, resident: bool) -> Any:
    double = image_dtype is torch.float64
    stores = {torch.bfloat16: store_bfloat16, torch.float16: store_float16}
    return build_kernel(
        np.float64 if double else np.float32,
        np.int64 if double else np.int32,
        load_bfloat16 if image_dtype is torch.bfloat16 else load_plain,
        stores.get(out_dtype, store_plain),
        resident,
    )


def compile_ptx(
    capability: tuple[int, int],
    image_dtype: torch.dtype,
    out_dtype: torch.dtype,
    *,
    resident: bool = True,
) -> str:
    """Compile the kernel to PTX for a compute capability; this needs no device."""
    from numba.cuda import dispatcher

    floats = {
        torch.float16: types.float16,
        torch.bfloat16: types.int16,
        torch.float32: types.float32,
        torch.float64: types.float64,
    }
    image, out = floats[image_dtype], floats[out_dtype]
    statistic = types.float64 if image_dtype is torch.float64 else types.float32
    dtypes = (image, types.boolean, types.int32, types.int64, types.int64, out, *(statistic,) * 3)
    signature = (
        types.Tuple([types.Array(dtype, 1, "C") for dtype in dtypes]),
        types.UniTuple(types.int64, 15),
        types.UniTuple(types.boolean, 7),
        types.float64,
        types.float64,
    )
    # Numba compiles device functions for the capability of the current device.
    current_device = dispatcher.get_current_device
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=capability)
    try:
        function = kernel_for(image_dtype, out_dtype, resident).py_func
        return str(cuda.compile_ptx(function, signature, cc=capability)[0])
    finally:
        dispatcher.get_current_device = current_device


def flat(tensor: torch.Tensor) -> Any:
    """Return the memory of a tensor, first to last element, as a Numba array without a copy."""
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    extent = 1 + sum((size - 1) * stride for size, stride in steps)
    memory = tensor.detach().as_strided((extent,), (1,))
    if memory.dtype is torch.bfloat16:
        memory = memory.view(torch.int16)
    return memory.numpy() if SIMULATED else cuda.as_cuda_array(memory, sync=False)


@contextmanager
def torch_stream(tensor: torch.Tensor) -> Iterator[Any]:
    """Make the device of a tensor current in Numba, and yield PyTorch's current stream on it."""
    if SIMULATED:
        yield 0
        return
    with cuda.gpus[tensor.get_device()]:
        yield cuda.external_stream(torch.cuda.current_stream(tensor.device).cuda_stream)


def launch(
    images: torch.Tensor,
    mask: torch.Tensor | None,
    pixels: torch.Tensor,
    index: torch.Tensor | None,
    dihedral: torch.Tensor | None,
    out: torch.Tensor | None,
    median: torch.Tensor,
    mad: torch.Tensor | None,
    scale: torch.Tensor | None,
    eps: float,
    clip: float | None,
    nan_to_zero: bool,
) -> None:
    """Normalise M images on PyTorch's current stream without waiting for the device.

    The function validates nothing and allocates no device memory. Annuli of more
    than 12,215 pixels (6,071 of float64) do not fit into shared memory. Every pass
    then reads them from the plane again, which is slower.

    Parameters
    ----------
    images : (N, C, H, W) float16, bfloat16, float32 or float64, of any strides
    mask : (N, C, H, W) bool, of any strides, or None
        True is bad: excluded from the statistics only.
    pixels : (n,) int32
        Flat indices of the annulus pixels, ascending, at most ``MOST_PIXELS``.
    index : (M,) int64, or None for all images
        Indices of the images to gather. One out of range gives NaN.
    dihedral : (M,) integer, or None
        Element ``k + 4 f`` of the dihedral group: before the store the columns are
        reversed if ``f``, then the image is turned by `numpy.rot90` with ``k``.
    out : (M, C, H, W) of any of the four dtypes, contiguous or channels-last, or None
        None computes the statistics only.
    median : (M, C) float32 (float64 for float64 images), contiguous
    mad, scale : the same, or None
    eps : float
        Added to the MAD in float64.
    clip : float or None
    nan_to_zero : bool
        NaN becomes 0 before the statistics and after the division.
    """
    planes = median.numel()
    if planes == 0:
        return
    rows, channels, height, width = images.shape
    itemsize = 8 if images.dtype is torch.float64 else 4
    resident = (SCRATCH + pixels.numel()) * itemsize <= SHARED_BYTES
    shared_bytes = (SCRATCH + pixels.numel() * resident) * itemsize
    given = tuple(tensor is not None for tensor in (mask, index, dihedral, out, mad, scale))
    # Missing arguments are replaced by any tensor on the device.
    mask = pixels.view(1, 1, 1, -1) if mask is None else mask
    index = pixels if index is None else index
    dihedral = pixels if dihedral is None else dihedral
    out = images if out is None else out
    mad = median if mad is None else mad
    scale = median if scale is None else scale
    tensors = (images, mask, pixels, index, dihedral, out, median, mad, scale)
    # A dimension of size 1 may have any stride.
    step = out.stride(3 if width > 1 else 2)
    strides = (*images.stride(), *mask.stride(), *out.stride()[:2], step)
    sizes = (rows, channels, height, width, *strides)
    function = kernel_for(images.dtype, out.dtype, resident)
    with torch_stream(images) as stream:
        with warnings.catch_warnings():
            # Numba warns about fewer than 128 blocks, but small batches are valid.
            warnings.simplefilter("ignore", cuda.core.errors.NumbaPerformanceWarning)
            launcher = function[planes, THREADS, stream, shared_bytes]
        arrays = tuple(flat(tensor) for tensor in tensors)
        limit = math.inf if clip is None else float(clip)
        launcher(arrays, sizes, (*given, nan_to_zero), float(eps), limit)
