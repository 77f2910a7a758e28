"""Checks of torch tensors that do not wait for a device, and index tables that stay on it."""

from __future__ import annotations

import os
from functools import lru_cache

import torch
from torch import Tensor

from fastnorm.annulus import Annulus

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


def open_mask(mask: Tensor | None, images: Tensor) -> Tensor | None:
    """Check ``mask`` and broadcast it to the shape of the images without a copy."""
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
        ) from None


@lru_cache(maxsize=64)
def annulus_pixels(
    annulus: Annulus, height: int, width: int, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """Return the flat indices of the annulus pixels, ascending, as a cached tensor.

    Parameters
    ----------
    annulus : Annulus
        The annulus.
    height, width : int
        Size of a plane in pixels.
    device : torch.device
        Device of the result.
    dtype : torch.dtype
        Integer dtype of the result.

    Returns
    -------
    (n,) tensor

    Raises
    ------
    ValueError
        The annulus has fewer than 100 pixels.
    """
    # Inference tensors cannot be saved for a gradient, so create a normal tensor in any mode.
    with torch.inference_mode(False):
        return torch.from_numpy(annulus.pixels(height, width).copy()).to(device, dtype)


@lru_cache(maxsize=64)
def _sources(side: int, device: torch.device) -> Tensor:
    """Return the source of every pixel, (8, side * side), for every dihedral element."""
    with torch.inference_mode(False):
        pixels = torch.arange(side * side, device=device).reshape(side, side)
        kinds = (pixels, pixels.flip(-1))
        turned = [kinds[d // 4].rot90(d % 4, (-2, -1)).flatten() for d in range(8)]
        return torch.stack(turned)


def turn(images: Tensor, dihedral: Tensor) -> Tensor:
    """Apply to every image of (N, ..., H, H) its dihedral element."""
    sources = _sources(images.shape[-1], images.device)[dihedral.long()]
    sources = sources.reshape(-1, *[1] * (images.ndim - 3), sources.shape[-1])
    planes = images.flatten(-2)
    return planes.gather(-1, sources.expand(planes.shape)).reshape(images.shape)


def turn_each(images: Tensor, dihedral: Tensor) -> Tensor:
    """Do the same as `turn` outside of graphs, with copies, which are faster on a CPU."""
    out = torch.empty_like(images)
    for target, image, element in zip(out, images, dihedral.tolist(), strict=True):
        flipped = image.flip(-1) if element >= 4 else image
        target.copy_(flipped.rot90(element % 4, (-2, -1)))
    return out


def turn_back(images: Tensor, dihedral: Tensor) -> Tensor:
    """Undo `turn`: a flip is its own inverse, and so is a flip followed by a turn."""
    return turn(images, torch.where(dihedral < 4, (4 - dihedral) % 4, dihedral))
