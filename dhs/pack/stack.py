"""Rows of a stack of cutouts or masks on disk, read by number.

A memory map would be a little faster, but a file that becomes shorter under it ends the process
with SIGBUS, without a message. A read ends early, which is an error that names the file.
"""

from __future__ import annotations

import math
import os
import resource
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_kept: set[int] = set()
"""Descriptors that stay open between reads."""


def _close(descriptor: int) -> None:
    _kept.discard(descriptor)
    os.close(descriptor)


class StackFile:
    """A file of cutouts or masks, as a sequence of arrays.

    ``stack[k]`` is a copy of row k, ``stack[a:b]`` of several rows, and ``numpy.asarray(stack)`` of
    all. The file stays open, unless the process has many open already; threads and forks may share
    it. A pickled stack opens the file again.

    Parameters
    ----------
    path : Path
    dtype : numpy.dtype
    offset : int
        First byte of the pixels.
    shape : tuple of int
        (N, 3, H, W).

    Raises
    ------
    OSError
        On reading: the file cannot be read, or ends before the row.
    """

    def __init__(
        self, path: Path, dtype: np.dtype[Any], offset: int, shape: tuple[int, ...]
    ) -> None:
        self.path, self.dtype, self.offset, self.shape = path.absolute(), dtype, offset, shape
        self.row_bytes = math.prod(shape[1:]) * dtype.itemsize
        self._descriptor: int | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return StackFile, (self.path, self.dtype, self.offset, self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, rows: int | slice) -> NDArray[Any]:
        chosen = range(len(self))[rows]
        numbers = [chosen] if isinstance(chosen, int) else list(chosen)
        out = np.empty((len(numbers), *self.shape[1:]), self.dtype)
        self.read(numbers, out)
        return out[0] if isinstance(chosen, int) else out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError(f"{self.path} is a file: reading it makes a copy.")
        return self[:].astype(dtype or self.dtype, copy=False)

    def read(
        self, rows: Sequence[int], out: NDArray[Any], places: Sequence[int] | None = None
    ) -> None:
        """Copy rows into a stack.

        Parameters
        ----------
        rows : sequence of int
            Rows of this file, 0 to N - 1.
        out : (M, ...) contiguous array
            Rows of the size and dtype of this file's.
        places : sequence of int, optional
            Row of ``out`` for each row; by default 0, 1, ...
        """
        size, start = self.row_bytes, self.offset
        if not (out.size and len(rows)):
            return
        whole = memoryview(out.data).cast("B")
        descriptor, is_kept = self._open()
        try:
            for place, row in zip(places or range(len(rows)), rows, strict=True):
                part = whole[place * size : (place + 1) * size]
                found = os.preadv(descriptor, (part,), start + row * size)
                # A signal or a network file system may end a read early.
                while found < size:
                    more = os.preadv(descriptor, (part[found:],), start + row * size + found)
                    if not more:
                        raise OSError(
                            f"{self.path} ends before row {row} of {len(self)}: it became shorter "
                            "after it was opened. Restore it, and run the command again."
                        )
                    found += more
        except OSError as error:
            if error.errno is None:
                raise
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        finally:
            if not is_kept:
                os.close(descriptor)

    def _open(self) -> tuple[int, bool]:
        if self._descriptor is not None:
            return self._descriptor, True
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        # Half of the process's files are left to others.
        if len(_kept) < resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2:
            self._descriptor = descriptor
            _kept.add(descriptor)
            weakref.finalize(self, _close, descriptor)
            return descriptor, True
        return descriptor, False
