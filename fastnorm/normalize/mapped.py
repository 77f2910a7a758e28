"""Arrays that lie in different places in memory, but in the same part of a file."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_MAPS = Path("/proc/self/maps")
LEAST_BYTES = 2**18
"""Arrays of foreign memory, as of tensors, are looked up from this size: a look takes 2 ms."""


class _Part(NamedTuple):
    """Bytes ``start`` to ``stop`` of the file ``file``; writing to it changes the file or not."""

    file: object
    start: int
    stop: int
    is_shared: bool


def map_one_file(out: NDArray[Any], other: NDArray[Any]) -> bool:
    """Return whether writing to ``out`` changes a part of a file that ``other`` is mapped to.

    Parameters
    ----------
    out, other : array

    Returns
    -------
    bool
        False for tensors of less than `LEAST_BYTES` that were made of a memory map, which cannot
        be told from others at a price that fits their size.
    """
    if not (_may_be_mapped(out) and _may_be_mapped(other)):
        return False
    written, read = _parts([out, other])
    return any(
        a.is_shared and a.file == b.file and a.start < b.stop and b.start < a.stop
        for a in written
        for b in read
    )


def _owner(array: NDArray[Any]) -> Any:
    base: Any = array
    while isinstance(base, np.ndarray) and base.base is not None:
        base = base.base
    return base.obj if isinstance(base, memoryview) else base


def _may_be_mapped(array: NDArray[Any]) -> bool:
    owner = _owner(array)
    if isinstance(owner, np.ndarray):  # allocated by NumPy
        return False
    return isinstance(owner, mmap.mmap) or array.nbytes >= LEAST_BYTES


def _bounds(array: NDArray[Any]) -> tuple[int, int]:
    """Return the addresses of the first byte, and of the one after the last."""
    first = last = array.ctypes.data
    for stride, length in zip(array.strides, array.shape, strict=True):
        step = stride * max(0, length - 1)
        first, last = first + min(step, 0), last + max(step, 0)
    return first, last + array.itemsize


def _parts(arrays: list[NDArray[Any]]) -> list[list[_Part]]:
    """Return the parts of files that each array is mapped to."""
    if not _MAPS.exists():
        return [_parts_by_name(array) for array in arrays]
    found: list[list[_Part]] = [[] for _ in arrays]
    bounds = [_bounds(array) for array in arrays]
    for line in _MAPS.read_bytes().splitlines():
        place, rights, offset, device, inode, *_ = line.split(maxsplit=5)
        if inode == b"0":
            continue
        start, stop = (int(each, 16) for each in place.split(b"-"))
        for parts, (first, last) in zip(found, bounds, strict=True):
            if first < stop and start < last:
                shift = int(offset, 16) - start
                inside = (max(first, start) + shift, min(last, stop) + shift)
                parts.append(_Part((device, inode), *inside, is_shared=rights.endswith(b"s")))
    return found


def _parts_by_name(array: NDArray[Any]) -> list[_Part]:
    """Do the same for maps of NumPy, where the system does not list what is mapped."""
    base: Any = array
    while isinstance(base.base, np.ndarray):
        base = base.base
    if not isinstance(base, np.memmap) or base.filename is None:
        return []
    state = os.stat(base.filename)
    shift = base.offset - base.ctypes.data
    first, last = _bounds(array)
    is_shared = base.mode in ("r+", "w+")
    return [_Part((state.st_dev, state.st_ino), first + shift, last + shift, is_shared)]
