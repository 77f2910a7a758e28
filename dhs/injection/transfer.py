"""Tables of an injection, copied to a device while the host does not wait for it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dhs.device.copies import stage, to_device

ALIGNMENT = 32
"""Tables start at multiples of this many values, because Triton compiles one kernel for aligned
pointers and more for others."""


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
    buffer = stage((ends[-1],), torch.float32, device)
    values = buffer.numpy()
    for place, table in zip(places, tables, strict=True):
        np.copyto(values[place].reshape(table.shape), table, "same_kind")
    there = to_device(buffer, device)
    return [there[place].view(table.shape) for place, table in zip(places, tables, strict=True)]
