"""Readers of ``.npz`` and ``.npy`` cutouts, which check sizes before they allocate memory."""

from __future__ import annotations

import io
import math
import os
import struct
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from fastnorm.io.cutout import (
    BAD_BYTES,
    BANDS,
    MOST_BYTES,
    Cutout,
    CutoutError,
    Rejected,
    check_floating,
    check_good_pixels,
    check_mask,
    check_pixels,
    check_size,
    degrees,
    named,
)
from fastnorm.paths import open_file

MOST_HEADER_BYTES = 2**16
"""Largest ``.npy`` header in bytes; headers of cutouts have 128."""
MOST_SCALAR_BYTES = 2**16
"""Largest ``.npz`` entry of one value in bytes."""
MOST_DIRECTORY_BYTES = 2**20
"""Largest ``.npz`` directory in bytes."""
MOST_ENTRIES = 4096
"""Largest number of entries in an ``.npz``."""
_ZIP = b"PK\x03\x04"


def read_npz(path: Path, stem: str) -> Cutout:
    """Read the arrays ``cutout`` (rows, columns, 3) and, if present, ``mask``.

    ``stem`` is the id if the file has no ``meta_galaxy_id``.
    """
    with named(path), open_file(path) as stream, _archive(path, stream) as archive:
        names = archive.namelist()
        if "cutout.npy" not in names:
            found = ", ".join(name.removesuffix(".npy") for name in names[:5]) or "nothing"
            raise CutoutError(path, f"has no array 'cutout'; found {found}.")
        image = _entry(path, archive, "cutout")
        if image.ndim != 3 or image.shape[2] != len(BANDS) or not image.size:
            reason = (
                f"'cutout' has shape {image.shape}; expected (rows, columns, 3) with bands "
                "g, r, z last."
            )
            raise CutoutError(path, reason)
        check_floating(path, image.dtype)
        pixels = check_pixels(path, image.transpose(2, 0, 1))
        mask = None
        if "mask.npy" in names:
            given = _entry(path, archive, "mask")
            given = given.transpose(2, 0, 1) if given.ndim == 3 else given
            mask = check_mask(path, given, pixels.shape, "its array 'mask'")
            check_good_pixels(path, pixels, mask)
        identity = _scalar(path, archive, "meta_galaxy_id")
        ra, dec = (degrees(_scalar(path, archive, f"meta_{name}")) for name in ("ra", "dec"))
    return Cutout(str(identity or stem), pixels, ra, dec, path, mask)


def read_arrays(path: Path, stream: IO[bytes]) -> dict[str, NDArray[Any]]:
    """Read every array of an ``.npz`` from a stream, by name.

    Raises
    ------
    CutoutError
        The stream, which messages call ``path``, is not an ``.npz`` of plain arrays.
    """
    with named(path), _archive(path, stream) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        return {name: _entry(path, archive, name).copy() for name in names}


def read_npy(path: Path, stem: str, rejected: list[Rejected] | None) -> Iterator[Cutout]:
    """Read one cutout (3, rows, columns), or the rows of a stack, lazily.

    Parameters
    ----------
    path : Path
        The file.
    stem : str
        Id of a single cutout; rows of a stack append their number to it.
    rejected : list or None
        List to append unusable rows to; None to raise an error instead.

    Yields
    ------
    Cutout

    Raises
    ------
    CutoutError
        The file is not usable, or a row is not and ``rejected`` is None.
    """
    with named(path), open_file(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        shape, is_fortran, dtype = read_header(path, stream, size)
        if len(shape) not in (3, 4) or shape[-3] != len(BANDS) or 0 in shape:
            reason = (
                f"has shape {shape}; expected (3, rows, columns) or (N, 3, rows, columns) with "
                "bands g, r, z first."
            )
            raise CutoutError(path, reason)
        if is_fortran:
            raise CutoutError(
                path, "is in Fortran order; save numpy.ascontiguousarray(array) instead."
            )
        check_floating(path, dtype)
        is_stack = len(shape) == 4
        cutout_bytes = math.prod(shape[-3:]) * dtype.itemsize
        check_size(path, "one cutout in it", cutout_bytes)
        for row in range(shape[0] if is_stack else 1):
            # Do not map the file: if a mapped file shrinks, the process crashes.
            content = stream.read(cutout_bytes)
            if len(content) != cutout_bytes:
                left = os.fstat(stream.fileno()).st_size
                reason = f"shrank from {size} to {left} bytes while row {row} was read."
                raise CutoutError(path, reason)
            identity = f"{stem}[{row:06d}]" if is_stack else stem
            image = np.frombuffer(content, dtype).reshape(shape[-3:])
            try:
                pixels = check_pixels(path, image, f"row {row}" if is_stack else "the cutout")
            except CutoutError as error:
                if rejected is None:
                    raise
                rejected.append(Rejected(error.path, error.reason))
                continue
            yield Cutout(identity, pixels, None, None, path, row=row if is_stack else None)


def count_npy(path: Path) -> int:
    """Return the number of cutouts in the header of a ``.npy``, or 1 if it cannot be read."""
    try:
        with open_file(path) as stream:
            shape, _, _ = read_header(path, stream, os.fstat(stream.fileno()).st_size)
    except BAD_BYTES:
        return 1
    return shape[0] if len(shape) == 4 else 1


def load_mask(path: Path) -> NDArray[Any]:
    """Read the array ``mask`` of an ``.npz``, with bands last, or a ``.npy``, with bands first.

    Returns
    -------
    array
        The mask with bands first, of any shape and dtype.

    Raises
    ------
    CutoutError
        The mask cannot be read, or is larger than any mask.
    """
    with named(path), open_file(path) as stream:
        if cast(io.BufferedReader, stream).peek(1).startswith(b"P"):
            with _archive(path, stream) as archive:
                if "mask.npy" not in archive.namelist():
                    raise CutoutError(path, "has no array 'mask'.")
                mask = _entry(path, archive, "mask")
            return mask.transpose(2, 0, 1) if mask.ndim == 3 else mask
        size = os.fstat(stream.fileno()).st_size
        check_size(path, "the file", size)
        return _array(path, stream, size)


def read_header(
    path: Path, stream: IO[bytes], size: int
) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read an ``.npy`` header and check it against the size of the array.

    Parameters
    ----------
    path : Path
        The file, for messages.
    stream : binary file
        Stream at the start of the array.
    size : int
        Size of the header and the data in bytes.

    Returns
    -------
    shape : tuple of int
    is_fortran : bool
        Whether the array is in Fortran order.
    dtype : numpy.dtype

    Raises
    ------
    CutoutError
        The header is not allowed, or does not match ``size``.
    """
    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise CutoutError(path, f"has .npy version {version}; expected (1, 0) or (2, 0).")
    # Check the length here: NumPy reads the whole header before it checks the length.
    width = 2 if version == (1, 0) else 4
    length = stream.read(width)
    if len(length) < width:
        raise CutoutError(path, "is cut short: it ends within its header.")
    (count,) = struct.unpack("<H" if width == 2 else "<I", length)
    check_size(path, "its header", count, MOST_HEADER_BYTES)
    text = io.BytesIO(length + stream.read(count))
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    # Python warns of escapes that it does not know, and NumPy of headers of Python 2.
    with warnings.catch_warnings(action="ignore"):
        shape, is_fortran, dtype = read(text)
    if dtype.hasobject:
        raise CutoutError(path, "contains Python objects, which are never loaded; save numbers.")
    if min(shape, default=1) < 0:
        raise CutoutError(path, f"its header states shape {shape}, with a negative length.")
    expected = len(npy.magic(*version)) + width + count + math.prod(shape) * dtype.itemsize
    if expected != size:
        reason = (
            f"its header states shape {shape} and dtype {dtype}, {expected} bytes in total, but "
            f"there are {size} bytes: it is cut short or damaged."
        )
        raise CutoutError(path, reason)
    return shape, is_fortran, dtype


class _Frugal:
    """A file that reads at most ``most`` bytes at once."""

    def __init__(self, path: Path, stream: IO[bytes]) -> None:
        self._path, self._stream = path, stream
        self.seek, self.tell, self.seekable = stream.seek, stream.tell, stream.seekable
        self.most = MOST_DIRECTORY_BYTES

    def read(self, size: int = -1) -> bytes:
        check_size(self._path, "a part of it", size, self.most)
        return self._stream.read(size)


@contextmanager
def _archive(path: Path, stream: IO[bytes]) -> Iterator[zipfile.ZipFile]:
    """Open an archive, and reject a directory of millions of entries."""
    if stream.read(len(_ZIP)) != _ZIP:
        reason = "is damaged, or its content does not match its suffix: it does not begin with PK."
        raise CutoutError(path, reason)
    frugal = _Frugal(path, stream)
    with zipfile.ZipFile(cast(IO[bytes], frugal)) as archive:
        frugal.most = MOST_BYTES
        names = archive.namelist()
        if len(names) > MOST_ENTRIES:
            raise CutoutError(
                path, f"has {len(names):,} entries; at most {MOST_ENTRIES:,} are allowed."
            )
        arrays = Counter(name.removesuffix(".npy") for name in names)
        twice = [name for name, count in arrays.items() if count > 1]
        if twice:
            raise CutoutError(path, f"has {twice[0]!r} more than once; keep one.")
        for entry in archive.infolist():
            # The others are unpacked whole before their size is known: 2 kB can be gigabytes.
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise CutoutError(
                    path,
                    f"its entry {entry.filename!r} is compressed by method {entry.compress_type}; "
                    "expected those of numpy.savez and numpy.savez_compressed, 0 and 8.",
                )
        yield archive


def _array(path: Path, stream: IO[bytes], size: int) -> NDArray[Any]:
    shape, is_fortran, dtype = read_header(path, stream, size)
    expected = math.prod(shape) * dtype.itemsize
    content = stream.read(expected)
    if len(content) != expected:
        raise CutoutError(
            path, f"has {len(content)} of {expected} bytes: it is cut short or damaged."
        )
    return np.frombuffer(content, dtype).reshape(shape, order="F" if is_fortran else "C")


def _entry(
    path: Path, archive: zipfile.ZipFile, name: str, most: int | None = None
) -> NDArray[Any]:
    """Read an array of an archive, after a check of its claimed size."""
    size = archive.getinfo(f"{name}.npy").file_size
    check_size(path, f"its array {name!r}", size, *(() if most is None else (most,)))
    try:
        # Data beyond the claimed size is not unpacked.
        with archive.open(f"{name}.npy") as stream:
            return _array(path, stream, size)
    except CutoutError as error:
        raise CutoutError(path, f"its array {name!r}: {error.reason}") from error


def _scalar(path: Path, archive: zipfile.ZipFile, name: str) -> object:
    if f"{name}.npy" not in archive.namelist():
        return None
    array = _entry(path, archive, name, MOST_SCALAR_BYTES)
    return array.item() if array.size == 1 else None
