"""NumPy arrays and torch CPU tensors as stacks of planes.

The module uses torch only if the caller has imported it. NumPy has no bfloat16, so
such a tensor is stored as its int16 bit patterns.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnorm.kinds import refuse_tensor_without_memory
from fastnorm.normalize.mapped import map_one_file

_FLOATS = "float16, float32, float64"
_OVERLAP_WORK = 10_000


@dataclass(frozen=True)
class Stack:
    """The planes of an array (..., H, W) with any strides, numbered in row-major order."""

    array: NDArray[Any]
    is_bfloat16: bool = False

    @property
    def lead(self) -> tuple[int, ...]:
        return self.array.shape[:-2]

    @property
    def plane(self) -> tuple[int, int]:
        height, width = self.array.shape[-2:]
        return height, width

    @property
    def count(self) -> int:
        return math.prod(self.lead)

    def direct(self, dtype: np.dtype[Any]) -> NDArray[Any] | None:
        """Return all planes as (N, H, W) without a copy, or None if a backend needs a copy."""
        flags = self.array.flags
        if self.is_bfloat16 or self.array.dtype != dtype or not self.array.dtype.isnative:
            return None
        if not (flags.c_contiguous and flags.aligned):
            return None
        return self.array.reshape(self.count, *self.plane)

    def read(self, start: int, stop: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Copy planes to a contiguous array.

        Parameters
        ----------
        start, stop : int
            First plane, and the one after the last.
        dtype : dtype
            Dtype of the result.

        Returns
        -------
        (stop - start, H, W) array of ``dtype``
        """
        planes = self.array[self._index(start, stop)].reshape(-1, *self.plane)
        if self.is_bfloat16:
            bits: NDArray[np.uint32] = planes.astype(np.uint32) << np.uint32(16)
            return bits.view(np.float32)
        return np.ascontiguousarray(planes, dtype=dtype)

    def write(self, start: int, stop: int, planes: NDArray[Any]) -> None:
        """Overwrite planes, rounded to the dtype of the array.

        Parameters
        ----------
        start, stop : int
            First plane, and the one after the last.
        planes : (stop - start, H, W) array
            New values.
        """
        if self.is_bfloat16:
            torch = sys.modules["torch"]
            rounded = torch.from_numpy(planes).to(torch.bfloat16)
            planes = rounded.view(torch.int16).numpy()
        shape = (stop - start, *self.plane) if self.lead else self.plane
        with np.errstate(all="ignore"):
            self.array[self._index(start, stop)] = planes.reshape(shape)

    def _index(self, start: int, stop: int) -> tuple[Any, ...]:
        return np.unravel_index(np.arange(start, stop), self.lead) if self.lead else ()


def is_tensor(value: object) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _check_plain_array(name: str, value: object) -> None:
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(
            f"{name} is a numpy.ma.MaskedArray, whose mask would be lost; pass {name}.data and "
            f"mask=numpy.ma.getmaskarray({name})."
        )
    if type(value) not in (np.ndarray, np.memmap):
        raise TypeError(
            f"{name} is of type {type(value).__module__}.{type(value).__qualname__}; expected "
            "numpy.ndarray or torch.Tensor. Convert it first; note its unit and mask."
        )


def _check_tensor(name: str, value: Any) -> None:
    refuse_tensor_without_memory(name, value)
    if value.device.type != "cpu":
        raise ValueError(
            f"{name} is on {value.device}; expected the CPU, like images. Pass {name}.cpu()."
            if name != "images"
            else f"images is on {value.device}; expected the CPU or CUDA. Pass images.cpu()."
        )
    refuse_gradient(name, value)


def refuse_gradient(name: str, value: Any) -> None:
    """Raise an error if ``value`` requires a gradient, which the caller does not compute."""
    if is_tensor(value) and value.requires_grad and sys.modules["torch"].is_grad_enabled():
        layers = "use the layer fastnorm.OuterAnnulusNorm or fastnorm.FootprintNorm, which does, "
        raise ValueError(
            f"{name} requires a gradient, which this function does not compute; "
            f"{layers if name == 'images' else ''}pass {name}.detach(), or call it under "
            "torch.no_grad()."
        )


def as_numpy(name: str, value: Any) -> NDArray[Any]:
    """Return the array, or a view of the memory of a tensor; check the type, not the dtype."""
    if not is_tensor(value):
        _check_plain_array(name, value)
        array: NDArray[Any] = value
        return array
    _check_tensor(name, value)
    torch = sys.modules["torch"]
    tensor = value.detach().resolve_neg()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.view(torch.int16)
    try:
        view: NDArray[Any] = tensor.numpy()
    except TypeError:
        raise TypeError(
            f"{name} has dtype {value.dtype}, which NumPy does not support; expected {_FLOATS} or "
            "torch.bfloat16."
        ) from None
    return view


def _is_float(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "f" and dtype.itemsize <= 8


def _dtype_name(value: Any) -> str:
    return str(value.dtype).removeprefix("torch.")


def open_images(images: Any) -> Stack:
    """Check ``images`` and return it as a stack of planes."""
    array = as_numpy("images", images)
    is_bfloat16 = is_tensor(images) and _dtype_name(images) == "bfloat16"
    if not is_bfloat16 and not _is_float(array.dtype):
        raise TypeError(
            f"images has dtype {images.dtype}; expected {_FLOATS} or torch.bfloat16. "
            "Convert it, for example to float32."
        )
    if array.ndim < 2:
        raise ValueError(
            f"images has shape {tuple(array.shape)}; expected at least two dimensions, (..., H, W)."
        )
    return Stack(array, is_bfloat16)


def open_mask(mask: Any, shape: Sequence[int]) -> Stack | None:
    """Check ``mask`` and broadcast it to the shape of the images."""
    if mask is None:
        return None
    array = as_numpy("mask", mask)
    if array.dtype != np.bool_:
        raise TypeError(f"mask has dtype {mask.dtype}; expected bool, where True means bad.")
    try:
        return Stack(np.broadcast_to(array, tuple(shape)))
    except ValueError:
        raise ValueError(
            f"mask has shape {tuple(array.shape)}, which does not broadcast to the shape of "
            f"images, {tuple(shape)}."
        ) from None


def output_dtype(images: Any, dtype: Any) -> Any:
    """Return the dtype of the result, from the library of ``images``, in native byte order."""
    if is_tensor(images):
        torch = sys.modules["torch"]
        allowed = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
        result = images.dtype if dtype is None else dtype
        if result not in allowed:
            raise ValueError(
                f"dtype={dtype!r} is not a valid dtype for a torch tensor; expected None or one of "
                f"{', '.join(map(str, allowed))}."
            )
        return result
    try:
        result = np.dtype(images.dtype if dtype is None else dtype).newbyteorder("=")
    except TypeError:
        result = None
    if result is None or not _is_float(result):
        raise ValueError(
            f"dtype={dtype!r} is not a valid dtype for a NumPy array; expected None or one of "
            f"{_FLOATS}."
        )
    return result


def open_output(
    images: Any, stack: Stack, masks: Stack | None, dtype: Any, out: Any
) -> tuple[Any, Stack]:
    """Check ``out``, or create a new output.

    Parameters
    ----------
    images : array or tensor, shape (..., H, W)
        The images.
    stack : Stack
        Planes of ``images``.
    masks : Stack or None
        Planes of the mask.
    dtype : dtype or None
        Dtype of the result; None for that of ``images``.
    out : array or tensor, shape (..., H, W), or None
        Output of the caller; None to create one.

    Returns
    -------
    out : array or tensor, shape (..., H, W)
        The output to return to the caller.
    planes : Stack
        Planes of the output.

    Raises
    ------
    TypeError
        ``out`` is not an array or tensor like ``images``.
    ValueError
        ``dtype`` is not valid, or ``out`` has the wrong shape or dtype, cannot be written, or
        shares memory.
    """
    wanted = output_dtype(images, dtype)
    shape = stack.array.shape
    if out is None:
        if is_tensor(images):
            out = sys.modules["torch"].empty(shape, dtype=wanted, device=images.device)
        else:
            out = np.empty(shape, wanted)
        return out, Stack(as_numpy("out", out), _dtype_name(out) == "bfloat16")
    if is_tensor(out) != is_tensor(images):
        raise TypeError(
            f"out is of type {type(out).__qualname__} and images is of type "
            f"{type(images).__qualname__}; both must be NumPy arrays or both torch tensors."
        )
    if is_tensor(out):
        refuse_tensor_without_memory("out", out)
    if is_tensor(out) and out.is_neg():
        raise ValueError(
            "out is a negated view, which cannot be written; give a tensor that is not a view."
        )
    array = as_numpy("out", out)
    if tuple(array.shape) != tuple(shape):
        raise ValueError(
            f"out has shape {tuple(array.shape)}; expected the shape of images, {tuple(shape)}."
        )
    found = out.dtype if is_tensor(out) else out.dtype.newbyteorder("=")
    if found != wanted:
        raise ValueError(f"out has dtype {out.dtype}; expected {wanted}, the dtype of the result.")
    if not array.flags.writeable:
        raise ValueError("out is read-only; give an array that can be written.")
    for name, other in (("images", stack), ("mask", masks)):
        if other is not None and _overlap(array, other.array):
            raise ValueError(
                f"out shares memory with {name}, which must not change; give another out."
            )
        if other is not None and map_one_file(array, other.array):
            raise ValueError(
                f"out is mapped to the same part of a file as {name}, which must not change; give "
                "another out."
            )
    if _overlaps_itself(array):
        raise ValueError("out has elements that share memory; give an array without broadcasting.")
    return out, Stack(array, _dtype_name(out) == "bfloat16")


def _overlap(a: NDArray[Any], b: NDArray[Any]) -> bool:
    try:
        return np.shares_memory(a, b, max_work=_OVERLAP_WORK)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True


def _overlaps_itself(array: NDArray[Any]) -> bool:
    """Return whether two elements may share memory: a stride lies within the smaller ones."""
    reach = array.itemsize
    steps = zip(array.strides, array.shape, strict=True)
    for stride, length in sorted((abs(stride), length) for stride, length in steps if length > 1):
        if stride < reach:
            return True
        reach += stride * (length - 1)
    return False


def like_images(images: Any, values: NDArray[Any]) -> Any:
    """Return a NumPy result as an array or tensor, like ``images``."""
    return sys.modules["torch"].from_numpy(values) if is_tensor(images) else values
