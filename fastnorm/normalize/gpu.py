"""The entry point of the GPU backends, which checks tensors without waiting for the device.

A backend is a function ``launch``; see `fastnorm.kernels.triton_normalize.launch` for its
arguments. Triton's interpreter and Numba's simulator take CPU tensors.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fastnorm.annulus import Annulus
from fastnorm.dispatch import registry
from fastnorm.normalize import tensors
from fastnorm.normalize.eps_clip import check_eps_and_clip

MOST_PIXELS = 24_576
MOST_PLANES = 2**31 - 1


class Normalized(NamedTuple):
    """Results of a launch: ``out``, None for statistics only, and the (...) statistics."""

    out: Tensor | None
    median: Tensor
    mad: Tensor
    scale: Tensor


def normalize(
    images: Tensor,
    r_in: float,
    r_out: float,
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
    statistics_only: bool = False,
    backend: str | None = None,
) -> Normalized:
    """Normalise tensors on a GPU.

    Parameters
    ----------
    images : (..., H, W) tensor
        float16, bfloat16, float32 or float64.
    r_in, r_out : float
        Radii of the annulus in pixels.
    index : (N,) int64 tensor, optional
        Rows of ``images`` to gather.
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
    statistics_only : bool
        Compute the statistics only; ``out`` of the result is None.
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
        A value is out of range, shapes do not match, tensors are on different devices, the
        annulus has fewer than 100 or more than 24,576 pixels, or ``out`` cannot hold the result.
    BackendUnavailableError
        ``backend`` cannot run here, or no GPU backend can.
    """
    _check_images(images)
    launch = registry.choose(backend, "cuda")
    if images.device.type != "cuda" and not registry.takes_cpu_tensors(backend):
        raise ValueError(
            f"images is on {images.device}, but backend={backend!r} needs tensors on a CUDA "
            "device; pass images.cuda(), or backend=None for the CPU."
        )
    height, width = images.shape[-2:]
    pixels = _open_annulus(Annulus(r_in, r_out), images)
    compute = torch.float64 if images.dtype == torch.float64 else torch.float32
    limits = np.finfo(np.float64 if compute == torch.float64 else np.float32)
    eps, clip = check_eps_and_clip(eps, clip, limits)
    tensors.check_index(index, images)
    count = images.shape[0] if index is None else index.numel()
    tensors.check_dihedral(dihedral, images, count)
    tensors.check_channels_last(channels_last, images)
    expanded = tensors.open_mask(mask, images)

    shape = images.shape if index is None else torch.Size((count, *images.shape[1:]))
    lead = (1, 1) if images.ndim == 2 else (count, math.prod(images.shape[1:-2]))
    if not statistics_only:
        out = _open_output(out, images, shape, dtype, channels_last)
    statistics = [torch.empty(lead, dtype=compute, device=images.device) for _ in range(3)]
    if math.prod(lead) > 0:
        stack = images.detach().resolve_neg().contiguous()
        arguments = (
            stack.reshape(-1, lead[1], height, width),
            None if expanded is None else _open_planes(expanded, lead[1]),
            pixels,
            None if index is None else index.contiguous(),
            None if dihedral is None else dihedral.contiguous(),
            None if out is None else out.view(*lead, height, width),
            *statistics,
            eps,
            clip,
            nan_to_zero,
        )
        with _on_device(images):
            launch(*arguments)
    return Normalized(out, *(value.reshape(shape[:-2]) for value in statistics))


def _on_device(images: Tensor) -> AbstractContextManager[Any]:
    if images.device.type == "cuda":
        return torch.cuda.device(images.device)
    # NumPy then interprets the kernel, and would warn about valid IEEE arithmetic.
    return np.errstate(all="ignore")


def _check_images(images: Any) -> None:
    if not isinstance(images, Tensor):
        raise TypeError(
            f"images is of type {type(images).__name__}; a GPU backend needs a torch.Tensor."
        )
    if images.dtype not in tensors.FLOATS:
        raise TypeError(
            f"images has dtype {images.dtype}; expected float16, bfloat16, float32 or float64."
        )
    if images.layout != torch.strided:
        raise TypeError(f"images has layout {images.layout}; expected a dense tensor.")
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


def _open_annulus(annulus: Annulus, images: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    count = annulus.pixels(height, width).size
    annulus.warn_if_inside_galaxy(height, width)
    if count > MOST_PIXELS:
        raise ValueError(
            f"the annulus ({annulus.r_in}, {annulus.r_out}) has {count} pixels on {height} x "
            f"{width}; the GPU limit is {MOST_PIXELS}, enough for 65 to 90 % of the half-width of "
            "283 x 283. Choose a narrower annulus, or normalise on the CPU: images.cpu()."
        )
    return tensors.annulus_pixels(annulus, height, width, images.device, torch.int32)


def _open_planes(mask: Tensor, channels: int) -> Tensor:
    """Return the mask as (N, C, H, W), contiguous within a plane and broadcast over the others."""
    height, width = mask.shape[-2:]
    planes = mask.reshape(-1, channels, height, width)
    return planes if planes.stride()[2:] == (width, 1) else planes.contiguous()


def _open_output(
    out: Tensor | None,
    images: Tensor,
    shape: torch.Size,
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
    if not isinstance(out, Tensor) or out.shape != shape or out.dtype != dtype:
        raise ValueError(f"out must be a tensor of shape {tuple(shape)} and dtype {dtype}.")
    if out.device != images.device or not out.is_contiguous() or out.is_neg():
        raise ValueError(f"out must be a contiguous tensor on {images.device}.")
    if out.untyped_storage().data_ptr() == images.untyped_storage().data_ptr():
        raise ValueError("out shares memory with images, which must not change; give another out.")
    return out
