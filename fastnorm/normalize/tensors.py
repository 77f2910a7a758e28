"""Checks of torch tensors that do not wait for a device, and index tables that stay on it."""

from __future__ import annotations

import os
from functools import cache
from hashlib import sha256

import numpy as np
import torch
from torch import Tensor

from fastnorm.annulus import Annulus
from fastnorm.footprint import Footprint, PixelFootprint

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def may_look(tensor: Tensor) -> bool:
    """Return whether values may be checked: on the CPU, or if ``FASTNORM_DEBUG=1`` is set.

    Reading values on a GPU waits for all work queued before.
    """
    return tensor.device.type == "cpu" or os.environ.get("FASTNORM_DEBUG") == "1"


def check_index(index: Tensor | None, images: Tensor) -> None:
    """Raise an error if ``index`` is not a list of rows of ``images``."""
    if index is None:
        return
    if index.dtype != torch.int64 or index.ndim != 1:
        raise TypeError(
            f"index has dtype {index.dtype} and shape {tuple(index.shape)}; expected int64 (N,)."
        )
    if images.ndim < 3:
        raise ValueError(
            f"index needs images of shape (N, ..., H, W), but images has {tuple(images.shape)}."
        )
    _check_device("index", index, images)
    count = images.shape[0]
    if count == 0 and index.shape[0]:
        raise ValueError(f"index has {index.shape[0]} rows, but images has none.")
    if may_look(index):
        wrong = index[(index < 0) | (index >= count)]
        if wrong.numel():
            raise ValueError(f"index contains {wrong[0].item()}; expected 0 to {count - 1}.")


def check_dihedral(dihedral: Tensor | None, images: Tensor, count: int) -> None:
    """Raise an error unless ``dihedral`` has one element of the group per image.

    Parameters
    ----------
    dihedral : (N,) integer tensor or None
        Dihedral element of every image, 0 to 7.
    images : (..., H, W) tensor
        The images, before the gather.
    count : int
        Number of images, after the gather.

    Raises
    ------
    TypeError
        The dtype is not an integer.
    ValueError
        The shape or an element is wrong, the images are not square, or the devices differ.
    """
    if dihedral is None:
        return
    if dihedral.is_floating_point() or dihedral.is_complex() or dihedral.dtype == torch.bool:
        raise TypeError(f"dihedral has dtype {dihedral.dtype}; expected integers.")
    if tuple(dihedral.shape) != (count,) or images.ndim < 3:
        raise ValueError(
            f"dihedral has shape {tuple(dihedral.shape)}; expected one element for each of the "
            f"{count} images of shape {tuple(images.shape[1:])}."
        )
    if images.shape[-1] != images.shape[-2]:
        raise ValueError(f"dihedral needs square images, but these are {tuple(images.shape[-2:])}.")
    _check_device("dihedral", dihedral, images)
    if may_look(dihedral):
        wrong = dihedral[(dihedral < 0) | (dihedral > 7)]
        if wrong.numel():
            raise ValueError(f"dihedral contains {wrong[0].item()}; expected 0 to 7.")


def check_channels_last(channels_last: bool, images: Tensor) -> None:
    if channels_last and images.ndim != 4:
        raise ValueError(
            f"channels_last=True needs images of shape (N, C, H, W), but images has "
            f"{tuple(images.shape)}."
        )


def _check_device(name: str, tensor: Tensor, images: Tensor) -> None:
    if tensor.device != images.device:
        raise ValueError(
            f"{name} is on {tensor.device} and images is on {images.device}; pass "
            f"{name}.to(images.device)."
        )


def open_mask(mask: Tensor | None, images: Tensor, *, is_gathered: bool = False) -> Tensor | None:
    """Check ``mask`` and broadcast it to the shape of the images without a copy.

    Parameters
    ----------
    mask : (..., H, W) bool tensor, or None
    images : (..., H, W) tensor
    is_gathered : bool
        Whether an index selects images, for the message.

    Returns
    -------
    tensor of the shape of ``images``, or None

    Raises
    ------
    TypeError, ValueError
        The dtype, the device or the shape does not fit.
    """
    if mask is None:
        return None
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        found = f"dtype {mask.dtype}" if hasattr(mask, "dtype") else f"type {type(mask).__name__}"
        raise TypeError(f"mask has {found}; expected a bool tensor, where True is bad.")
    _check_device("mask", mask, images)
    try:
        return mask.expand(images.shape)
    except RuntimeError:
        raise ValueError(
            f"mask has shape {tuple(mask.shape)}, which does not broadcast to the shape of "
            f"images, {tuple(images.shape)}."
            + " index selects rows of the mask as well: give that of all images."
            * is_gathered
        ) from None


@cache
def device_pixels(footprint: Footprint, height: int, width: int, device: torch.device) -> Tensor:
    """Return the flat indices of the pixels of a footprint as a tensor that stays on its device.

    Tables are kept for the life of the process: a captured CUDA graph holds their addresses.

    Parameters
    ----------
    footprint : Footprint
        An annulus or another footprint.
    height, width : int
        Size of a plane in pixels.
    device : torch.device
        Device of the result.

    Returns
    -------
    (n,) int32 tensor

    Raises
    ------
    ValueError
        The footprint does not fit the planes.
    RuntimeError
        A CUDA graph is being captured, which the copy to the device would break.
    """
    return copied_pixels(footprint, height, width, device)


def copied_pixels(footprint: Footprint, height: int, width: int, device: torch.device) -> Tensor:
    """Return the same table as `device_pixels`, in a tensor that is not kept.

    Parameters
    ----------
    footprint, height, width, device
        Same as in `device_pixels`.

    Returns
    -------
    (n,) int32 tensor

    Raises
    ------
    ValueError, RuntimeError
        Same as in `device_pixels`.
    """
    pixels = footprint.pixels(height, width).astype(np.int32)
    if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        raise RuntimeError(
            f"the pixels of {footprint} on {height} x {width} are not on {device} yet, and cannot "
            "be copied while a CUDA graph is captured; call the layer once on such images before."
        )
    # Inference tensors cannot be saved for a gradient, and tensors of a transform of torch.func die
    # with it, so create a normal tensor in any mode.
    with torch.inference_mode(False), torch._C._DisableFuncTorch():
        return torch.from_numpy(pixels).to(device)


_footprints: dict[str, Footprint] = {}


def remember(footprint: Footprint) -> str:
    """Keep a footprint for `constant_pixels`, and return its key."""
    key = str(footprint)
    if isinstance(footprint, PixelFootprint):
        key += f" {sha256(footprint.listed).hexdigest()}"
    _footprints[key] = footprint
    return key


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def constant_pixels(key: str, height: int, width: int, device: torch.device) -> Tensor:
    """Return the table of `device_pixels`; compilers call this while they trace, not in a graph.

    Parameters
    ----------
    key : str
        From `remember`: compilers take text as a constant, but not every object.
    height, width, device
        Same as in `device_pixels`.

    Returns
    -------
    (n,) int32 tensor

    Warns
    -----
    fastnorm.AnnulusWarning
        The footprint is an annulus inside the galaxy.
    """
    footprint = _footprints[key]
    if isinstance(footprint, Annulus):
        footprint.warn_if_misplaced(height, width)
    # Fake tensors, or those of a graph that is being traced, must not be kept.
    if torch._C._len_torch_dispatch_stack():
        return torch.tensor(footprint.pixels(height, width), dtype=torch.int32, device=device)
    if torch._C._is_tracing():
        return copied_pixels(footprint, height, width, device)
    return device_pixels(footprint, height, width, device)


def check_pixels(pixels: Tensor, images: Tensor) -> None:
    """Raise an error if ``pixels`` is not a table like that of `device_pixels`.

    Raises
    ------
    TypeError
        It is not one-dimensional and int32.
    ValueError
        It is on another device than ``images``.
    """
    if pixels.dtype != torch.int32 or pixels.ndim != 1:
        raise TypeError(
            f"pixels has dtype {pixels.dtype} and shape {tuple(pixels.shape)}; expected int32 (n,)."
        )
    _check_device("pixels", pixels, images)


def computed_in(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of the computation for images of a dtype: float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def turn_back(images: Tensor, dihedral: Tensor) -> Tensor:
    """Undo `turn` for every image of (N, ..., H, H), with no table that would have to stay."""
    side = images.shape[-1]
    turns, is_flipped = dihedral.long() % 4, dihedral >= 4
    is_transposed = turns % 2 == 1
    # As in the kernel: `turn` moves pixel (row, column) to corner + row * down + column * right.
    down = torch.where(is_transposed, 1, side) * torch.where(turns >= 2, -1, 1)
    right = torch.where(is_transposed, side, 1)
    right = right * torch.where(((turns == 1) | (turns == 2)) != is_flipped, -1, 1)
    corner = (side - 1) * (torch.where(down < 0, -down, 0) + torch.where(right < 0, -right, 0))
    step = torch.arange(side, device=images.device)
    places = corner[:, None, None] + step[:, None] * down[:, None, None]
    places = (places + step * right[:, None, None]).flatten(-2)
    places = places.reshape(-1, *[1] * (images.ndim - 3), side * side)
    planes = images.flatten(-2)
    return planes.gather(-1, places.expand(planes.shape)).reshape(images.shape)


def turn(images: Tensor, dihedral: Tensor) -> Tensor:
    """Apply to every image of (N, ..., H, H) its dihedral element."""
    # A flip is its own inverse, and so is a flip followed by a turn.
    return turn_back(images, torch.where(dihedral < 4, (4 - dihedral) % 4, dihedral))


def turn_each(images: Tensor, dihedral: Tensor) -> Tensor:
    """Do the same as `turn` outside of graphs, with copies, which are faster on a CPU."""
    out = torch.empty_like(images)
    for target, image, element in zip(out, images, dihedral.tolist(), strict=True):
        flipped = image.flip(-1) if element >= 4 else image
        target.copy_(flipped.rot90(element % 4, (-2, -1)))
    return out
