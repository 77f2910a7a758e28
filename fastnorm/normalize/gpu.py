"""The entry point of the GPU backends, which checks tensors without waiting for the device.

A backend is a function ``launch``; see `fastnorm.kernels.triton_normalize.launch` for its
arguments. Triton's interpreter and Numba's simulator take CPU tensors.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fastnorm.annulus import Annulus
from fastnorm.dispatch import registry
from fastnorm.dispatch.planes import Launch
from fastnorm.footprint import PixelFootprint, open_footprint
from fastnorm.kinds import flag, refuse_special_tensor
from fastnorm.normalize import tensors
from fastnorm.normalize.axes import check_fit
from fastnorm.normalize.eps_clip import check_eps_and_clip

MOST_PIXELS = 24_576
MOST_PLANES = 2**31 - 1
_LIMITS: dict[torch.dtype, np.finfo[Any]] = {
    torch.float32: np.finfo(np.float32),
    torch.float64: np.finfo(np.float64),
}


class Normalized(NamedTuple):
    """Results of a launch: the normalised images, and their (...) statistics."""

    out: Tensor
    median: Tensor
    scale: Tensor


def normalize(
    images: Tensor, footprint: Any, *, backend: str | None = None, **options: Any
) -> Normalized:
    """Normalise tensors on a GPU by the statistics of a footprint.

    Parameters
    ----------
    images : (..., H, W) tensor
        float16, bfloat16, float32 or float64.
    footprint : Annulus, EllipticalAnnulus or (H, W) bool array or tensor
        Pixels that the statistics use.
    backend : str, optional
        A name from `fastnorm.backends`; the first available by default.
    **options
        Same as in `normalize_pixels`.

    Returns
    -------
    Normalized

    Raises
    ------
    TypeError, ValueError, BackendUnavailableError
        Same as in `normalize_pixels`; or the footprint does not fit the images.
    """
    _check_images(images)
    pixels = _table(footprint, images)
    return normalize_pixels(images, pixels, backend=backend, **options)


def median_mad(
    images: Tensor, footprint: Any, *, mask: Tensor | None = None, backend: str | None = None
) -> tuple[Tensor, Tensor]:
    """Compute the statistics of a footprint on a GPU.

    Parameters
    ----------
    images, footprint, mask, backend
        Same as in `normalize`.

    Returns
    -------
    median, mad : (...) tensors

    Raises
    ------
    TypeError, ValueError, BackendUnavailableError
        Same as in `normalize`.
    """
    _check_images(images)
    launch = _choose(images, backend)
    pixels = _table(footprint, images)
    lead = _lead(images, None)
    median, mad = (_statistic(images, lead) for _ in range(2))
    if median.numel():
        _launch_on(
            images, launch, _planes(images, lead[1]), _mask_planes(mask, images, lead[1]), pixels,
            None, None, None, median, mad, None, 1.0, None, False,
        )  # fmt: skip
    return median.reshape(images.shape[:-2]), mad.reshape(images.shape[:-2])


def normalize_pixels(
    images: Tensor,
    pixels: Tensor,
    *,
    index: Tensor | None = None,
    dihedral: Tensor | None = None,
    mask: Tensor | None = None,
    eps: float = 1e-8,
    clip: float | None = None,
    nan_to_zero: bool = False,
    dtype: torch.dtype | None = None,
    channels_last: bool = False,
    out: Tensor | None = None,
    backend: str | None = None,
) -> Normalized:
    """Normalise tensors on a GPU by the statistics of listed pixels.

    It allocates its results and nothing else, copies nothing (except images with a negative
    bit, or with more than four dimensions and strides that no reshape can express), and reads
    no value, so that a CUDA graph can capture it.

    Parameters
    ----------
    images : (..., H, W) tensor
        float16, bfloat16, float32 or float64, with any strides: a crop of a stack is read in
        place.
    pixels : (n,) int32 tensor
        Flat indices of the pixels that the statistics use, ascending; see
        `fastnorm.normalize.tensors.device_pixels`.
    index : (N,) int64 tensor, optional
        Rows of ``images`` to gather. A row out of range gives planes of NaN, or, with
        ``FASTNORM_DEBUG=1`` or on a CPU, an error.
    dihedral : (N,) integer tensor, optional
        Dihedral element of every image, 0 to 7; see `fastnorm.layer.operator`.
    mask : bool tensor, broadcastable to ``images``, optional
        True is bad.
    eps : float
        Added to the MAD in float64.
    clip : float, optional
        Limit the result to ``[-clip, clip]``; NaN stays NaN.
    nan_to_zero : bool
        Replace NaN by 0 before the statistics and after the division.
    dtype : torch.dtype, optional
        Floating dtype of the result; that of ``images`` by default.
    channels_last : bool
        Store a new (N, C, H, W) result in ``torch.channels_last`` format.
    out : (..., H, W) tensor, optional
        Contiguous tensor for the result, which does not share memory with ``images``.
    backend : str, optional
        A name from `fastnorm.backends`; the first available by default.

    Returns
    -------
    Normalized

    Raises
    ------
    TypeError
        An argument has the wrong type or dtype.
    ValueError
        A value is out of range, shapes do not match, tensors are on different devices, there
        are no or more than 24,576 pixels, or ``out`` cannot hold the result.
    BackendUnavailableError
        ``backend`` cannot run here, or no GPU backend can.
    """
    _check_images(images)
    launch = _choose(images, backend)
    tensors.check_pixels(pixels, images)
    if not 0 < pixels.shape[0] <= MOST_PIXELS:
        raise ValueError(_wrong_count(pixels.shape[0], images))
    eps, clip = check_eps_and_clip(eps, clip, _LIMITS[tensors.computed_in(images.dtype)])
    nan_to_zero, channels_last = (
        flag("nan_to_zero", nan_to_zero),
        flag("channels_last", channels_last),
    )
    tensors.check_index(index, images)
    lead = _lead(images, index)
    tensors.check_dihedral(dihedral, images, lead[0])
    tensors.check_channels_last(channels_last, images)
    bad = _mask_planes(mask, images, lead[1], is_gathered=index is not None)
    shape = images.shape if index is None else (lead[0], *images.shape[1:])
    out = _open_output(out, images, shape, dtype, channels_last)
    median, scale = _statistic(images, lead), _statistic(images, lead)
    if median.numel():
        _launch_on(
            images, launch, _planes(images, lead[1]), bad, pixels,
            None if index is None else index.contiguous(),
            None if dihedral is None else dihedral.contiguous(),
            out if images.ndim == 4 else out.view(*lead, *shape[-2:]),
            median, None, scale, eps, clip, nan_to_zero,
        )  # fmt: skip
    if images.ndim == 4:
        return Normalized(out, median, scale)
    return Normalized(out, median.reshape(shape[:-2]), scale.reshape(shape[:-2]))


def _launch_on(images: Tensor, launch: Launch, *arguments: Any) -> None:
    if images.is_cuda:
        if images.get_device() == torch.cuda.current_device():
            launch(*arguments)
            return
        with torch.cuda.device(images.device):
            launch(*arguments)
    else:
        # NumPy then interprets the kernel, and would warn about valid IEEE arithmetic.
        with np.errstate(all="ignore"):
            launch(*arguments)


def _lead(images: Tensor, index: Tensor | None) -> tuple[int, int]:
    """Return the numbers of images and of planes of each in the result."""
    if images.ndim == 2:
        return 1, 1
    count = images.shape[0] if index is None else index.shape[0]
    return count, math.prod(images.shape[1:-2])


def _statistic(images: Tensor, lead: tuple[int, int]) -> Tensor:
    return torch.empty(lead, dtype=tensors.computed_in(images.dtype), device=images.device)


def _planes(images: Tensor, channels: int) -> Tensor:
    """Return the images as (N, C, H, W), as a view wherever strides allow it."""
    images = images.detach()
    if images.is_neg():
        images = images.resolve_neg()
    return images if images.ndim == 4 else images.reshape(-1, channels, *images.shape[-2:])


def _mask_planes(
    mask: Tensor | None, images: Tensor, channels: int, *, is_gathered: bool = False
) -> Tensor | None:
    expanded = tensors.open_mask(mask, images, is_gathered=is_gathered)
    if expanded is None or expanded.ndim == 4:
        return expanded
    return expanded.reshape(-1, channels, *expanded.shape[-2:])


def _check_images(images: Any) -> None:
    if not isinstance(images, Tensor):
        raise TypeError(
            f"images is of type {type(images).__name__}; a GPU backend needs a torch.Tensor."
        )
    refuse_special_tensor("images", images)
    if images.dtype not in tensors.FLOATS:
        raise TypeError(
            f"images has dtype {images.dtype}; expected float16, bfloat16, float32 or float64."
        )
    if images.ndim < 2:
        raise ValueError(
            f"images has shape {tuple(images.shape)}; expected two or more dimensions, (..., H, W)."
        )
    planes = math.prod(images.shape[:-2])
    if planes > MOST_PLANES or math.prod(images.shape[-2:]) > MOST_PLANES:
        raise ValueError(
            f"images has shape {tuple(images.shape)}; expected at most {MOST_PLANES} planes of "
            f"at most {MOST_PLANES} pixels. Pass it in parts."
        )


def _choose(images: Tensor, backend: str | None) -> Launch:
    launch = registry.choose(backend, "cuda")
    if images.device.type != "cuda" and not registry.takes_cpu_tensors(backend):
        raise ValueError(
            f"images is on {images.device}, but backend={backend!r} needs tensors on a CUDA "
            "device; pass images.cuda(), or backend=None for the CPU."
        )
    return launch


def _table(footprint: Any, images: Tensor) -> Tensor:
    """Return the pixels of a footprint on the device of the images, from the cache."""
    height, width = images.shape[-2:]
    opened = open_footprint(footprint, images)
    check_fit(opened, images)
    count = opened.pixels(height, width).size
    if isinstance(opened, Annulus):
        opened.warn_if_misplaced(height, width)
    if count > MOST_PIXELS:
        raise ValueError(_wrong_count(count, images))
    if isinstance(opened, PixelFootprint):
        # Every call may bring another array, and kept tables are never freed.
        return tensors.copied_pixels(opened, height, width, images.device)
    return tensors.device_pixels(opened, height, width, images.device)


def _wrong_count(count: int, images: Tensor) -> str:
    height, width = images.shape[-2:]
    return (
        f"the footprint has {count} pixels on {height} x {width}; the GPU takes 1 to "
        f"{MOST_PIXELS}, enough for 65 to 90 % of the half-width of 283 x 283. Choose a narrower "
        "annulus, or normalise on the CPU: images.cpu()."
    )


def _open_output(
    out: Tensor | None,
    images: Tensor,
    shape: tuple[int, ...],
    dtype: torch.dtype | None,
    channels_last: bool,
) -> Tensor:
    dtype = images.dtype if dtype is None else dtype
    if dtype not in tensors.FLOATS:
        raise ValueError(
            f"dtype={dtype!r} is not a valid dtype; expected None or one of "
            f"{', '.join(map(str, tensors.FLOATS))}."
        )
    layout = torch.channels_last if channels_last else torch.contiguous_format
    if out is None:
        return torch.empty(shape, dtype=dtype, device=images.device, memory_format=layout)
    if not isinstance(out, Tensor) or out.shape != tuple(shape) or out.dtype != dtype:
        raise ValueError(f"out must be a tensor of shape {tuple(shape)} and dtype {dtype}.")
    if out.device != images.device or not out.is_contiguous() or out.is_neg():
        raise ValueError(f"out must be a contiguous tensor on {images.device}.")
    if out.untyped_storage().data_ptr() == images.untyped_storage().data_ptr():
        raise ValueError("out shares memory with images, which must not change; give another out.")
    return out
