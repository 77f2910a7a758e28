"""Checks of what a layer is built with and called with, before an operator sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastnorm.kinds import refuse_special_tensor
from fastnorm.normalize.eps_clip import check_eps_and_clip
from fastnorm.normalize.tensors import FLOATS

_FLOATS = ", ".join(str(dtype) for dtype in FLOATS)


def check_settings(clip: Any, eps: Any, dtype: Any) -> None:
    """Refuse settings that no image could be normalised with.

    Parameters
    ----------
    clip, eps, dtype
        Same as in `fastnorm.FootprintNorm`.

    Raises
    ------
    TypeError
        ``clip`` or ``eps`` is not a number.
    ValueError
        ``clip`` or ``eps`` is out of range, or ``dtype`` is not a floating-point dtype of torch.
    """
    check_eps_and_clip(eps, clip, np.finfo(np.float64))
    if dtype is not None and dtype not in FLOATS:
        raise ValueError(
            f"dtype={dtype!r} is not a floating-point dtype of torch; expected None or one of "
            f"{_FLOATS}."
        )


def check_tensors(images: Any, index: Any, dihedral: Any, mask: Any) -> None:
    """Refuse arguments that are not tensors, and images of integers.

    Parameters
    ----------
    images, index, dihedral, mask
        Same as in `fastnorm.FootprintNorm.forward`.

    Raises
    ------
    TypeError
        One of them is not a tensor, or ``images`` is not floating-point.
    """
    if not isinstance(images, Tensor):
        raise TypeError(
            f"images has type {type(images).__name__}; expected a torch tensor (..., H, W)"
            f"{_instead(images)}."
        )
    # A compiler would add a guard for every check.
    if not torch.compiler.is_compiling():
        refuse_special_tensor("images", images)
    if images.dtype not in FLOATS:
        raise TypeError(
            f"images has dtype {images.dtype}; expected {_FLOATS}, in nanomaggies. Convert it, "
            "for example with images.float()."
        )
    for name, value in (("index", index), ("dihedral", dihedral), ("mask", mask)):
        if value is not None and not isinstance(value, Tensor):
            raise TypeError(
                f"{name} has type {type(value).__name__}; expected a torch tensor: "
                f"torch.as_tensor({name}, device=images.device)."
            )


def _instead(images: Any) -> str:
    if isinstance(images, np.ndarray):
        return ": torch.from_numpy(images)"
    if isinstance(images, Mapping) and images:
        return f"; give one entry, such as batch[{next(iter(images))!r}]"
    if isinstance(images, Sequence) and images and isinstance(images[0], Tensor):
        return ": torch.stack(images), or images[0] if the batch is a pair of images and labels"
    return ""
