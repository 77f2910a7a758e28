"""The annulus: two radii, the pixels between them, and the checks of both."""

from __future__ import annotations

import math
import numbers
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

MINIMUM_PIXELS = 100
"""Fewest annulus pixels that the statistics need."""


class AnnulusWarning(UserWarning):
    """The annulus lies inside the galaxy, or in the corners of the image alone.

    Examples
    --------
    A warning can be made an error, so that no result of the legacy annulus is taken for another.

    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", AnnulusWarning)
    ...     LEGACY_ANNULUS.warn_if_misplaced(101, 101)
    Traceback (most recent call last):
    fastnorm.annulus.AnnulusWarning: the annulus (r_in, r_out) = (20.0, 32.0) ends at 64 % of ...
    """


def radius_map(height: int, width: int) -> NDArray[np.float64]:
    """Return the distance of every pixel from the centre pixel.

    Parameters
    ----------
    height, width : int
        Image size in pixels.

    Returns
    -------
    (height, width) float64
        ``sqrt((row - height // 2)**2 + (column - width // 2)**2)``, in pixels.
    """
    rows = np.arange(height, dtype=np.float64)[:, None] - height // 2
    columns = np.arange(width, dtype=np.float64)[None, :] - width // 2
    return np.sqrt(rows**2 + columns**2)


def check_radii(annulus: Any) -> None:
    """Check ``r_in`` and ``r_out`` of a frozen dataclass, and make them floats.

    Raises
    ------
    TypeError
        A radius is not a real number.
    ValueError
        A radius is negative or not finite, or ``r_in >= r_out``.
    """
    for name in ("r_in", "r_out"):
        radius = getattr(annulus, name)
        if not isinstance(radius, numbers.Real) or isinstance(radius, bool | np.bool_):
            raise TypeError(
                f"{name}={radius!r} is not a number; give the radius in pixels as a float."
            )
        try:
            value = float(radius)
        except OverflowError:
            value = math.inf
        if not math.isfinite(value) or value < 0:
            raise ValueError(
                f"{name}={radius!r} must be finite and not negative; give the radius in pixels."
            )
        object.__setattr__(annulus, name, value)
    if annulus.r_in >= annulus.r_out:
        raise ValueError(
            f"r_in={annulus.r_in} is not below r_out={annulus.r_out}: the annulus is empty. "
            "Give the inner radius first."
        )


@dataclass(frozen=True)
class Annulus:
    """The pixels with ``r_in <= r < r_out`` around the centre pixel ``(H // 2, W // 2)``.

    Parameters
    ----------
    r_in, r_out : float
        Radii in pixels. The outer radius is excluded.

    Raises
    ------
    TypeError
        A radius is not a real number.
    ValueError
        A radius is negative or not finite, or ``r_in >= r_out``.

    Examples
    --------
    >>> Annulus.default(101, 101)
    Annulus(r_in=32.5, r_out=45.0)
    >>> Annulus(32.5, 45).pixel_count(101, 101)
    3036
    >>> r_in, r_out = Annulus.default(64, 64)  # or a call with *Annulus.default(64, 64)
    """

    r_in: float
    r_out: float

    def __post_init__(self) -> None:
        check_radii(self)

    @classmethod
    def default(cls, height: int, width: int) -> Annulus:
        """Return the corrected annulus, 65 to 90 % of the half-width ``min(height, width)//2``."""
        half_width = min(height, width) // 2
        return cls(0.65 * half_width, 0.90 * half_width)

    @classmethod
    def given_or(
        cls,
        r_in: float | None,
        r_out: float | None,
        default: Callable[[], Annulus],
        names: tuple[str, str] = ("r_in", "r_out"),
        missing: tuple[object, ...] = (None,),
    ) -> Annulus:
        """Return the annulus of two radii, or the default if neither is given.

        Parameters
        ----------
        r_in, r_out : float or None
            Radii in pixels.
        default : function
            Returns the annulus if neither is given.
        names : (str, str)
            Names of the radii, for the message.
        missing : tuple
            Values that stand for a radius that is not given.

        Raises
        ------
        TypeError, ValueError
            One radius is given without the other, or the radii are not a valid annulus.
        """
        if r_in in missing and r_out in missing:
            return default()
        if r_in is None or r_out is None or r_in in missing or r_out in missing:
            raise ValueError(
                f"{names[0]}={r_in!r} and {names[1]}={r_out!r}: give both radii, or neither for "
                "the default."
            )
        return cls(r_in, r_out)

    def __str__(self) -> str:
        return f"({self.r_in:g}, {self.r_out:g})"

    def __iter__(self) -> Iterator[float]:
        return iter((self.r_in, self.r_out))

    def contains(self, height: int, width: int) -> NDArray[np.bool_]:
        """Return a (height, width) bool array, True on the annulus, however few pixels it has."""
        radius = radius_map(height, width)
        return (radius >= self.r_in) & (radius < self.r_out)

    def mask(self, height: int, width: int) -> NDArray[np.bool_]:
        """Return a (height, width) bool array that is True on the annulus.

        Raises
        ------
        ValueError
            The annulus has fewer than 100 pixels.
        """
        mask = self.contains(height, width)
        count = int(np.count_nonzero(mask))
        if count < MINIMUM_PIXELS:
            raise ValueError(
                f"the annulus (r_in, r_out) = ({self.r_in}, {self.r_out}) holds {count} pixels of "
                f"an image of {height} x {width}; its statistics need at least {MINIMUM_PIXELS}. "
                f"Annulus.default({height}, {width}) fits images from 18 x 18 up."
            )
        return mask

    def pixel_count(self, height: int, width: int) -> int:
        """Return the number of pixels in the annulus, which may be below 100 or 0."""
        return int(np.count_nonzero(self.contains(height, width)))

    def pixels(self, height: int, width: int) -> NDArray[np.intp]:
        """Return the flat row-major indices of the annulus pixels, sorted and read-only.

        Raises
        ------
        ValueError
            The annulus has fewer than 100 pixels.
        """
        return _pixels(self, height, width)

    def is_inside_galaxy(self, height: int, width: int) -> bool:
        """Return whether it ends below 70 % of the half-width, for images of over 64 rows."""
        half_width = min(height, width) // 2
        return height > 64 and half_width > 0 and self.r_out / half_width < 0.70

    def is_in_corners(self, height: int, width: int) -> bool:
        """Return whether the image ends before the inner radius, so that only corners are left."""
        side = min(height, width)
        return side >= 18 and self.r_in >= side / 2

    def warn_if_misplaced(self, height: int, width: int) -> None:
        """Issue an `AnnulusWarning` if the annulus lies inside the galaxy, or in corners alone."""
        half_width = min(height, width) // 2
        if self.is_inside_galaxy(height, width):
            where = (
                f"ends at {100 * self.r_out / half_width:.0f} % of the half-width of a {height} x "
                f"{width} image: inside the galaxy, not on the sky. The corrected annulus is"
            )
        elif self.is_in_corners(height, width):
            where = (
                f"begins beyond the sides of a {height} x {width} image, so that only its corners "
                "count. The annulus that fits is"
            )
        else:
            return
        default = Annulus.default(height, width)
        warnings.warn(
            f"the annulus (r_in, r_out) = ({self.r_in}, {self.r_out}) {where} "
            f"({default.r_in}, {default.r_out}). Results of the two must never be mixed.",
            AnnulusWarning,
            stacklevel=frames_to_caller(),
        )


LEGACY_ANNULUS = Annulus(20.0, 32.0)
"""Annulus of the published models: right for 64 x 64 pixels, wrong for 101 x 101."""


@lru_cache(maxsize=64)
def _pixels(annulus: Annulus, height: int, width: int) -> NDArray[np.intp]:
    return read_only(np.flatnonzero(annulus.mask(height, width)))


def read_only(pixels: NDArray[np.intp]) -> NDArray[np.intp]:
    """Forbid writing to a new array, which many callers will share."""
    pixels.flags.writeable = False
    return pixels


def frames_to_caller() -> int:
    """Return the stack level, seen from the caller, of the first frame of a user.

    Frames of this project and of torch, which calls its layers, are none.
    """
    level = 1
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_ours(frame.f_globals.get("__name__", "")):
        frame = frame.f_back
        level += 1
    return level


def _is_ours(module: str) -> bool:
    # Our context managers run in frames of contextlib.
    return module.partition(".")[0] in ("fastnorm", "dhs", "contextlib", "torch")
