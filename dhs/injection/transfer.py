"""Transfers of an injection between the host and a device, during which the host does not wait.

A copy from pinned memory returns at once; one from pageable memory may wait for all work that the
device has queued. PyTorch reuses pinned memory only after the copies from it are complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ALIGNMENT = 32
"""Tables start at multiples of this many values, because Triton compiles one kernel for aligned
pointers and more for others."""


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device; one on the host is copied from pinned memory without waiting."""
    if device.type == "cpu" or tensor.device.type != "cpu":
        return tensor.to(device)
    source = tensor if tensor.is_pinned() else tensor.pin_memory()
    return source.to(device, non_blocking=True)


def send(tables: Sequence[NDArray[Any]], device: torch.device) -> list[Tensor]:
    """Copy tables of numbers to a device, all in one copy from one pinned buffer.

    Parameters
    ----------
    tables : sequence of arrays
        Real numbers, of any shapes.
    device : torch.device
        Device to copy to.

    Returns
    -------
    list of Tensor
        The tables in float32, which are parts of one buffer on the device.
    """
    ends = [0, *accumulate(-(-table.size // ALIGNMENT) * ALIGNMENT for table in tables)]
    places = [slice(start, start + table.size) for start, table in zip(ends, tables, strict=False)]
    buffer = torch.empty(ends[-1], pin_memory=device.type == "cuda")
    values = buffer.numpy()
    for place, table in zip(places, tables, strict=True):
        np.copyto(values[place].reshape(table.shape), table, "same_kind")
    there = to_device(buffer, device)
    return [there[place].view(table.shape) for place, table in zip(places, tables, strict=True)]
