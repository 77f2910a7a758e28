"""Copies from the host to a device, during which the host does not wait for the device.

A copy from pinned memory returns at once; one from pageable memory may wait for all work that the
device has queued. PyTorch reuses pinned memory only after the copies from it are complete.
"""

from __future__ import annotations

import torch
from torch import Tensor


def stage(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Allocate host memory from which a tensor is to be copied to a device.

    Parameters
    ----------
    shape : tuple of int
        Shape of the tensor.
    dtype : torch.dtype
        Dtype of the tensor.
    device : torch.device
        Device that the tensor is for.

    Returns
    -------
    Tensor
        Uninitialised, on the CPU; pinned if the device is a GPU.
    """
    return torch.empty(shape, dtype=dtype, pin_memory=device.type == "cuda", device="cpu")


def pinned(tensor: Tensor) -> Tensor:
    """Copy a tensor in pageable memory to pinned memory; return any other as it is."""
    if tensor.device.type != "cpu" or tensor.is_pinned():
        return tensor
    return tensor.pin_memory()


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device; one on the host is copied from pinned memory without waiting."""
    if device.type == "cpu":
        return tensor.to(device)
    return pinned(tensor).to(device, non_blocking=True)
