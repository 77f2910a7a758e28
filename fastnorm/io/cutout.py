"""The class of a cutout, the errors of bad files, and the checks that all readers share."""

from __future__ import annotations

import lzma
import math
import numbers
import re
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnorm.annulus import MINIMUM_PIXELS, Annulus
from fastnorm.extras import how_to_install
from fastnorm.paths import NotAFileError
from fastnorm.text import one_line

BANDS = ("g", "r", "z")
INSTALL_EXTRA = how_to_install("cli")

MOST_BYTES = 256 * 2**20
"""Largest size of the pixels of one cutout, 2,000 times that of 3 x 101 x 101 pixels."""


# Exceptions that the zip, NumPy and FITS readers raise on bad bytes.
BAD_BYTES: tuple[type[BaseException], ...] = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    SyntaxError,
    MemoryError,
    OverflowError,
    RuntimeError,
    struct.error,
    tokenize.TokenError,
    lzma.LZMAError,
    zlib.error,
    zipfile.BadZipFile,
)


@dataclass(frozen=True, eq=False)
class Cutout:
    """An image of one object in three bands.

    Attributes
    ----------
    id : str
        Identifier from the file if it has one, else the file name without the suffix.
    pixels : (3, H, W) float32
        Bands g, r, z in nanomaggies.
    ra, dec : float or None
        Position in degrees, if known.
    path : Path
        The file that the cutout comes from.
    mask : (3, H, W) bool, or None
        True is bad; None if the file has no information on bad pixels.
    pixel_scale : float or None
        Arcsec per pixel, if the file has it.
    row : int or None
        Row in the file, from 0, if the file is a stack.
    """

    id: str
    pixels: NDArray[np.float32]
    ra: float | None
    dec: float | None
    path: Path
    mask: NDArray[np.bool_] | None = None
    pixel_scale: float | None = None
    row: int | None = None


@dataclass(frozen=True)
class Rejected:
    """A path without a usable cutout, and the reason."""

    path: Path
    reason: str


class CutoutError(ValueError):
    """A path has no usable cutout.

    Attributes
    ----------
    path : Path
        The file or folder.
    reason : str
        One printable line, even if it quotes the file.
    """

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = one_line(reason)
        super().__init__(f"{path}: {self.reason}")


class CutoutWarning(UserWarning):
    """A file is unusual in a way that changes neither its pixels nor its coordinates.

    Attributes
    ----------
    path : Path
        The file.
    reason : str
        One printable line.
    """

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = one_line(reason)
        super().__init__(f"{path}: {self.reason}")


def reason_of(error: BaseException) -> str:
    """Describe in one sentence why a file could not be read."""
    if isinstance(error, NotAFileError):
        return error.reason
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}."
    said = str(error.args[0] if isinstance(error, KeyError) else error)
    # Remove memory addresses, so that the same file always has the same reason.
    message = one_line(re.sub(r" at 0x[0-9a-f]+", "", said))
    return (
        f"is damaged, or its content does not match its suffix ({type(error).__name__}: {message})."
    )


@contextmanager
def named(path: Path, *more: type[BaseException]) -> Iterator[None]:
    """Convert exceptions that readers raise on bad bytes to a `CutoutError` with the path."""
    try:
        yield
    except CutoutError:
        raise
    except (*BAD_BYTES, *more) as error:
        raise CutoutError(path, reason_of(error)) from error


def check_size(path: Path, what: str, size: int, most: int = MOST_BYTES) -> None:
    """Raise an error if a size in a file exceeds that of any cutout, before reading.

    Parameters
    ----------
    path : Path
        The file.
    what : str
        Names the object in the message.
    size : int
        Claimed size in bytes.
    most : int
        Largest allowed size in bytes.

    Raises
    ------
    CutoutError
        ``size`` is above ``most``.
    """
    if size > most:
        raise CutoutError(
            path, f"{what} takes {size:,} bytes; at most {most:,} are read. Is it a cutout?"
        )


def check_floating(path: Path, dtype: np.dtype[Any]) -> None:
    """Raise a `CutoutError` if the dtype cannot represent fluxes."""
    if dtype.kind != "f":
        reason = (
            f"has dtype {dtype}; expected a floating-point dtype, in nanomaggies. Convert counts "
            "to fluxes first."
        )
        raise CutoutError(path, reason)


def check_pixels(
    path: Path, pixels: NDArray[Any], where: str = "the cutout"
) -> NDArray[np.float32]:
    """Convert pixels to float32 in C order.

    Parameters
    ----------
    path : Path
        The file.
    pixels : array of any shape
        Floating values.
    where : str
        Names the pixels in messages.

    Returns
    -------
    float32 array of the same shape

    Raises
    ------
    CutoutError
        A value is beyond the range of float32, or every pixel is NaN.
    """
    try:
        with np.errstate(over="raise"):
            result = np.ascontiguousarray(pixels, dtype=np.float32)
    except FloatingPointError:
        raise CutoutError(path, f"{where} has values beyond the range of float32.") from None
    if np.isnan(result).all():
        raise CutoutError(path, f"every pixel of {where} is NaN: there is nothing to normalise.")
    return result


def too_few_good(
    images: NDArray[Any], mask: NDArray[np.bool_] | None, annulus: Annulus
) -> str | None:
    """Describe the first image whose mask leaves too few good pixels in the annulus.

    With no good pixel the median and MAD are 0, so that every pixel would be at the clip limit.
    An image of zeros, with which the survey fills unobserved areas, stays 0 and is accepted.

    Parameters
    ----------
    images : (..., H, W) array
        Images in nanomaggies.
    mask : (..., H, W) bool, or None
        True is bad.
    annulus : Annulus
        Pixels that the statistics use.

    Returns
    -------
    str or None
        The problem; None if all images have enough good pixels.

    Raises
    ------
    ValueError
        The annulus has fewer than 100 pixels on the images.
    """
    if mask is None:
        return None
    *lead, height, width = images.shape
    ring = annulus.mask(height, width)
    good = (ring & ~mask).sum(axis=(-2, -1)).ravel()
    is_empty = ~np.nan_to_num(images).any(axis=(-2, -1)).ravel()
    few = np.flatnonzero((good < MINIMUM_PIXELS) & ~is_empty)
    if not few.size:
        return None
    name = BANDS[few[0]] if lead == [len(BANDS)] else f"image {few[0]}"
    return (
        f"{name}: {good[few[0]]} of {int(ring.sum()):,} pixels in the annulus "
        f"({annulus.r_in}, {annulus.r_out}) are good; at least {MINIMUM_PIXELS} are needed. The "
        "mask covers the sky: omit it, or use fewer mask bits."
    )


def check_good_pixels(
    path: Path, pixels: NDArray[np.float32], mask: NDArray[np.bool_] | None
) -> None:
    """Raise an error if the mask leaves too few good pixels in the default annulus.

    Parameters
    ----------
    path : Path
        The file.
    pixels : (3, H, W) float32
        Bands g, r, z in nanomaggies.
    mask : (3, H, W) bool, or None
        True is bad.

    Raises
    ------
    CutoutError
        A band has fewer than 100 good pixels in the annulus.
    """
    if mask is None:
        return
    try:
        annulus = Annulus.default(*pixels.shape[1:])
    except ValueError as error:
        raise CutoutError(path, f"has {pixels.shape[1:]} pixels: {error}") from error
    if annulus.pixel_count(*pixels.shape[1:]) < MINIMUM_PIXELS:
        return
    if (fault := too_few_good(pixels, mask, annulus)) is not None:
        raise CutoutError(path, fault)


def check_mask(
    path: Path, mask: NDArray[Any], shape: tuple[int, ...], what: str
) -> NDArray[np.bool_]:
    """Check a mask and broadcast it to the shape of the pixels.

    Parameters
    ----------
    path : Path
        The file of the cutout.
    mask : (H, W) or (3, H, W), bool, or integers 0 and 1
        True or 1 is bad.
    shape : (3, H, W)
        Shape of the pixels.
    what : str
        Names the mask in messages.

    Returns
    -------
    (3, H, W) bool array

    Raises
    ------
    CutoutError
        The mask has a different dtype or shape.
    """
    is_flag = mask.dtype == bool or (mask.dtype.kind in "iu" and np.isin(mask, (0, 1)).all())
    if not is_flag:
        reason = f"{what} has dtype {mask.dtype}; expected bool, or integers 0 and 1 (1 is bad)."
        raise CutoutError(path, reason)
    if mask.shape not in (shape, shape[1:]):
        reason = f"{what} has shape {mask.shape} (bands first), but the pixels have {shape}."
        raise CutoutError(path, reason)
    return np.ascontiguousarray(np.broadcast_to(mask.astype(bool), shape))


def degrees(value: object) -> float | None:
    """Return a finite real number as a float, and None for everything else."""
    if isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None
