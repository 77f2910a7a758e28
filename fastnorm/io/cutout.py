"""A cutout, the ways in which a file can fail to give one, and what every reader checks."""

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
from fastnorm.text import one_line

BANDS = ("g", "r", "z")
INSTALL_EXTRA = "pip install 'dhs-fastnorm[cli]'"

MOST_BYTES = 256 * 2**20
"""Of the pixels of one cutout, 2,000 times what 101 x 101 pixels take; larger ones are not read."""


# What the zip, NumPy and FITS readers were seen to raise on bad bytes.
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
    """One object seen in three bands.

    Attributes
    ----------
    id : str
        From the file where it says so, else its name without the suffix.
    pixels : (3, H, W) float32
        Bands g, r, z in nanomaggies.
    ra, dec : float or None
        Position in degrees, where it is known.
    path : Path
        The file that it was read from.
    mask : (3, H, W) bool, or None
        True is bad; None where the file says nothing of bad pixels.
    pixel_scale : float or None
        Arcsec per pixel, where the file says it.
    """

    id: str
    pixels: NDArray[np.float32]
    ra: float | None
    dec: float | None
    path: Path
    mask: NDArray[np.bool_] | None = None
    pixel_scale: float | None = None


@dataclass(frozen=True)
class Rejected:
    """A path that gave no cutout, and why."""

    path: Path
    reason: str


class CutoutError(ValueError):
    """No cutout can be had from a path.

    Attributes
    ----------
    path : Path
    reason : str
        One line, whatever the file holds that it quotes.
    """

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = one_line(reason)
        super().__init__(f"{path}: {self.reason}")


def reason_of(error: BaseException) -> str:
    """Say in one sentence why a file could not be read."""
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}."
    said = str(error.args[0] if isinstance(error, KeyError) else error)
    # The same file gives the same reason, wherever in memory it was read.
    message = one_line(re.sub(r" at 0x[0-9a-f]+", "", said))
    return f"damaged, or not what its suffix says ({type(error).__name__}: {message})."


@contextmanager
def named(path: Path, *more: type[BaseException]) -> Iterator[None]:
    """Turn what a reader raises on bad bytes into a `CutoutError` that names the file."""
    try:
        yield
    except CutoutError:
        raise
    except (*BAD_BYTES, *more) as error:
        raise CutoutError(path, reason_of(error)) from error


def check_size(path: Path, what: str, size: int, most: int = MOST_BYTES) -> None:
    """Refuse, before it is read, what claims to be larger than any cutout."""
    if size > most:
        raise CutoutError(
            path, f"{what} takes {size:,} bytes; at most {most:,} are read. Is it a cutout?"
        )


def check_floating(path: Path, dtype: np.dtype[Any]) -> None:
    """Refuse what cannot be fluxes."""
    if dtype.kind != "f":
        reason = (
            f"has dtype {dtype}; allowed are floating dtypes, in nanomaggies. Convert counts to "
            "fluxes first."
        )
        raise CutoutError(path, reason)


def check_pixels(
    path: Path, pixels: NDArray[Any], where: str = "the cutout"
) -> NDArray[np.float32]:
    """Pixels as float32 in C order, some of which are numbers."""
    try:
        with np.errstate(over="raise"):
            result = np.ascontiguousarray(pixels, dtype=np.float32)
    except FloatingPointError:
        raise CutoutError(path, f"{where} holds values beyond the range of float32.") from None
    if np.isnan(result).all():
        raise CutoutError(path, f"every pixel of {where} is NaN: there is nothing to normalise.")
    return result


def too_few_good(
    images: NDArray[Any], mask: NDArray[np.bool_] | None, annulus: Annulus
) -> str | None:
    """Say of the first image, if there is one, whose mask leaves too little of the annulus.

    The median of nothing is 0 and so is its MAD, so that every pixel would come out at the limit.
    An image that is 0, as the survey fills what it did not see, stays 0, and is no fault.

    Parameters
    ----------
    images : (..., H, W)
    mask : (..., H, W) bool, or None
        True is bad.
    annulus : Annulus
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
        f"{name}: {good[few[0]]} of {int(ring.sum()):,} pixels of the annulus ({annulus.r_in}, "
        f"{annulus.r_out}) are good; {MINIMUM_PIXELS} are needed to normalise by. Its mask covers "
        "the sky: leave it out, or mask fewer bits."
    )


def check_good_pixels(
    path: Path, pixels: NDArray[np.float32], mask: NDArray[np.bool_] | None
) -> None:
    """Refuse a cutout whose mask leaves too little of the default annulus."""
    annulus = Annulus.default(*pixels.shape[1:])
    if annulus.pixel_count(*pixels.shape[1:]) < MINIMUM_PIXELS:
        return
    if (fault := too_few_good(pixels, mask, annulus)) is not None:
        raise CutoutError(path, fault)


def check_mask(
    path: Path, mask: NDArray[Any], shape: tuple[int, ...], what: str
) -> NDArray[np.bool_]:
    """A mask with bands first, one plane or one per band, as booleans of the shape of the pixels.

    Parameters
    ----------
    path : Path
        The cutout.
    mask : (H, W) or (3, H, W), bool, or integers 0 and 1
    shape : (3, H, W)
        Of the pixels.
    what : str
        Names the mask in messages.
    """
    is_flag = mask.dtype == bool or (mask.dtype.kind in "iu" and np.isin(mask, (0, 1)).all())
    if not is_flag:
        reason = f"{what} has dtype {mask.dtype}; allowed are bool, or 0 and 1 (1 is bad)."
        raise CutoutError(path, reason)
    if mask.shape not in (shape, shape[1:]):
        reason = f"{what} has shape {mask.shape} (bands first), its pixels {shape}."
        raise CutoutError(path, reason)
    return np.ascontiguousarray(np.broadcast_to(mask.astype(bool), shape))


def degrees(value: object) -> float | None:
    """A finite number, or None."""
    if isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None
