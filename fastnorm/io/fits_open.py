"""Safe opening of FITS files: sizes are bounded, and every fault is reported."""

from __future__ import annotations

import gzip
import io
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from fastnorm.io.cutout import INSTALL_EXTRA, CutoutError, check_size, named
from fastnorm.io.fits_units import check_units
from fastnorm.io.fits_warnings import check_headers, damage_only
from fastnorm.paths import open_file

CARD = 80
# Patterns that start with letters are fast to find.
_MANY = (rb"NAXIS *= *[+-]?\d{4,}", rb"TFIELDS *= *[+-]?\d{4,}")
_GZIP_MEMBER = b"\x1f\x8b\x08"
_PART, _STEP = 2**20, 2**12
_MOST_LOOKS = 16


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a FITS file as an astropy ``HDUList``, and raise every fault as a `CutoutError`."""
    try:
        from astropy.io import fits
        from astropy.utils.exceptions import AstropyWarning
    except ImportError as error:
        raise ImportError(f"{path} needs astropy to be read: {INSTALL_EXTRA}") from error
    # astropy raises the last two, and those of its compiled part, on headers that it does not
    # understand.
    kinds = (AstropyWarning, RuntimeWarning, fits.VerifyError, AttributeError, AssertionError)
    # astropy only warns of truncated files and wrong checksums.
    with named(path, *kinds, *_of_compiled_part()), damage_only(path):
        try:
            stream = _content(path)
            check_units(path, stream.getvalue())
            options = {"memmap": False, "checksum": True, "lazy_load_hdus": False}
            with fits.open(stream, **options) as units:
                check_headers(path, units)
                yield units
        except AstropyWarning as warning:
            if "verification failed" not in str(warning):
                raise
            raise CutoutError(
                path,
                "was changed after it was written, or is damaged: a checksum in it does not match. "
                "If you changed it, run `fitscheck --write` to update the checksums.",
            ) from warning


def _of_compiled_part() -> tuple[type[Exception], ...]:
    """Return the exception of astropy's unpacking of tiles, which is not a public name."""
    try:
        from astropy.io.fits.hdu.compressed._compression import CfitsioException
    except ImportError:
        return ()
    return (CfitsioException,)


def _content(path: Path) -> io.BytesIO:
    """Read and unpack a file here, because astropy would unpack files of any size."""
    with open_file(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        check_size(path, "the file", size)
        content = stream.read(size)
    if content.startswith(_GZIP_MEMBER[:2]):
        content = _unpacked(path, content)
    if not content.startswith(b"SIMPLE"):
        reason = (
            "is damaged, or its content does not match its suffix: it does not begin with SIMPLE, "
            "as FITS files do."
        )
        raise CutoutError(path, reason)
    _check_counts(path, content)
    if b"ZCMPTYPE" in content:
        _check_tiles(path, content)
    return io.BytesIO(content)


def _check_counts(path: Path, content: bytes) -> None:
    """Reject cards with more axes or fields than FITS allows, which astropy would loop over."""
    for found in chain.from_iterable(re.finditer(pattern, content) for pattern in _MANY):
        start = found.start() - (content[found.start() - 1 : found.start()] == b"Z")
        # Only matches at the start of a card count.
        if start % CARD == 0:
            said = content[start : found.end()].decode()
            raise CutoutError(path, f"its card {said} is above the FITS limit of 999.")


def _check_tiles(path: Path, content: bytes) -> None:
    """Reject tiles that unpack to more than any cutout, because astropy unpacks them whole."""
    size, looked_at, all_of_it = 0, 0, memoryview(content)
    for found in re.finditer(_GZIP_MEMBER, content):
        unpacker = zlib.decompressobj(wbits=31)
        try:
            for start in range(found.start(), len(content), _STEP):
                packed: bytes | memoryview = all_of_it[start : start + _STEP]
                # Headers of gzip can have names of any length, in which others can begin.
                looked_at += len(packed)
                if looked_at > _PART + _MOST_LOOKS * len(content):
                    raise CutoutError(path, "has too many beginnings of gzip data.")
                while packed and not unpacker.eof:
                    size += len(unpacker.decompress(packed, _PART))
                    check_size(path, "its unpacked content", size)
                    packed = unpacker.unconsumed_tail
                if unpacker.eof:
                    break
        except zlib.error:
            continue


def _unpacked(path: Path, content: bytes) -> bytes:
    result = io.BytesIO()
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
        while part := stream.read(_PART):
            check_size(path, "the unpacked file", result.tell() + len(part))
            result.write(part)
    return result.getvalue()
