"""Footprints: the pixels that the statistics use, as a ring, an ellipse or a boolean array."""

from __future__ import annotations

import math
import numbers
import sys
from collections.abc import Hashable
from dataclasses import astuple, dataclass
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from fastnorm.annulus import MINIMUM_PIXELS, Annulus, check_radii, read_only
from fastnorm.kinds import refuse_tensor_without_memory

EPS = float(np.finfo(np.float64).eps)
WIDEST_COMPARED = 1000.0
"""Largest outer radius in pixels of the annuli that `is_same` compares pixel by pixel."""


@runtime_checkable
class Footprint(Hashable, Protocol):
    """Pixels of an image of any size; hashable, equal if it has the same pixels on every size."""

    def pixels(self, height: int, width: int) -> NDArray[np.intp]:
        """Return the flat row-major indices of the pixels, ascending and read-only."""
        ...


@dataclass(frozen=True)
class EllipticalAnnulus:
    """The pixels between two concentric, similar ellipses around ``(H // 2, W // 2)``.

    A pixel belongs to it if ``r_in <= r < r_out`` with ``r = sqrt(u**2 + (v / q)**2)``, where
    ``u`` and ``v`` are its offsets along the major and the minor axis. With ``q = 1`` and
    ``phi = 0`` these are the pixels of `fastnorm.Annulus`.

    Parameters
    ----------
    r_in, r_out : float
        Semi-major axes in pixels. The outer ellipse is excluded.
    q : float
        Ratio of the minor to the major axis, above 0 and at most 1.
    phi : float
        Angle of the major axis in radians, from the direction of increasing column towards
        that of increasing row.

    Raises
    ------
    TypeError
        An argument is not a real number.
    ValueError
        A radius is negative or not finite, ``r_in >= r_out``, or ``q`` or ``phi`` is out of range.

    Examples
    --------
    >>> EllipticalAnnulus(32.5, 45.0, q=0.6, phi=0.5).pixels(101, 101).size
    1824
    """

    r_in: float
    r_out: float
    q: float
    phi: float

    def __post_init__(self) -> None:
        check_radii(self)
        for name, is_allowed, allowed in (
            ("q", lambda q: 0 < q <= 1, "above 0 and at most 1: the minor over the major axis"),
            ("phi", math.isfinite, "finite, in radians"),
        ):
            value = getattr(self, name)
            if not isinstance(value, numbers.Real) or isinstance(value, bool | np.bool_):
                raise TypeError(f"{name}={value!r} is not a number; it must be {allowed}.")
            if not is_allowed(float(value)):
                raise ValueError(f"{name}={value!r} is out of range; it must be {allowed}.")
            object.__setattr__(self, name, float(value))

    def contains(self, height: int, width: int) -> NDArray[np.bool_]:
        """Return a (height, width) bool array, True between the ellipses."""
        y = np.arange(height, dtype=np.float64)[:, None] - height // 2
        x = np.arange(width, dtype=np.float64)[None, :] - width // 2
        u = x * math.cos(self.phi) + y * math.sin(self.phi)
        v = y * math.cos(self.phi) - x * math.sin(self.phi)
        radius = np.sqrt(u**2 + (v / self.q) ** 2)
        return (radius >= self.r_in) & (radius < self.r_out)

    def pixels(self, height: int, width: int) -> NDArray[np.intp]:
        """Return the flat row-major indices of the pixels, ascending and read-only.

        Raises
        ------
        ValueError
            There are fewer than 100 pixels.
        """
        return _pixels_between(self, height, width)


@lru_cache(maxsize=64)
def _pixels_between(ellipses: EllipticalAnnulus, height: int, width: int) -> NDArray[np.intp]:
    pixels = np.flatnonzero(ellipses.contains(height, width))
    if pixels.size < MINIMUM_PIXELS:
        raise ValueError(
            f"{ellipses} holds {pixels.size} pixels of an image of {height} x {width}; its "
            f"statistics need at least {MINIMUM_PIXELS}. Give a wider annulus."
        )
    return read_only(pixels)


@dataclass(frozen=True)
class PixelFootprint:
    """Listed pixels of images of one size. Make one with `of_mask` or `of_pixels`."""

    height: int
    width: int
    listed: bytes  # int32 flat indices: bytes are hashable, and remember their hash

    @classmethod
    def of_mask(cls, mask: NDArray[np.bool_]) -> PixelFootprint:
        """Return the footprint of a (H, W) bool array: the pixels where it is True."""
        height, width = mask.shape
        return cls(height, width, np.flatnonzero(mask).astype(np.int32).tobytes())

    @classmethod
    def of_pixels(cls, pixels: NDArray[np.int32], height: int, width: int) -> PixelFootprint:
        """Return the footprint of ascending flat indices into images of (height, width).

        Parameters
        ----------
        pixels : (n,) int32 array
            Flat row-major indices.
        height, width : int
            Size of the images.
        """
        return cls(height, width, pixels.tobytes())

    def __repr__(self) -> str:
        return f"PixelFootprint({len(self.listed) // 4} pixels of {self.height} x {self.width})"

    def pixels(self, height: int, width: int) -> NDArray[np.intp]:
        """Return the flat row-major indices of the pixels, ascending and read-only.

        Raises
        ------
        ValueError
            The footprint is empty or for images of another size, or its indices are not
            ascending or lie outside of the image.
        """
        if (height, width) != (self.height, self.width):
            raise ValueError(
                f"footprint has shape ({self.height}, {self.width}), but the images are "
                f"{height} x {width}; give a footprint of the shape of an image."
            )
        return _listed_pixels(self)


@lru_cache(maxsize=64)
def _listed_pixels(footprint: PixelFootprint) -> NDArray[np.intp]:
    pixels = np.frombuffer(footprint.listed, np.int32).astype(np.intp)
    size = footprint.height * footprint.width
    if pixels.size == 0:
        raise ValueError(
            f"footprint is empty: no pixel of its {footprint.height} x {footprint.width} is True; "
            "the statistics need at least one."
        )
    if pixels[0] < 0 or pixels[-1] >= size or (np.diff(pixels) <= 0).any():
        raise ValueError(
            f"pixels must be ascending flat indices from 0 to {size - 1}, each once; they begin "
            f"with {pixels[:3].tolist()} and end with {pixels[-3:].tolist()}."
        )
    return read_only(pixels)


def is_same(
    first: Annulus | EllipticalAnnulus, second: Annulus | EllipticalAnnulus, rounding: float = EPS
) -> bool:
    """Tell whether two annuli are one: equal but for rounding, or of the same pixels.

    Parameters
    ----------
    first, second : Annulus or EllipticalAnnulus
        The annuli.
    rounding : float
        Largest relative difference that is rounding; that of float64 by default.
    """
    if type(first) is not type(second):
        return False
    pairs = list(zip(astuple(first), astuple(second), strict=True))
    if all(abs(a - b) <= rounding * max(1.0, abs(a), abs(b)) for a, b in pairs):
        return True
    widest = max(first.r_out, second.r_out)
    if widest > WIDEST_COMPARED or any(abs(a - b) > 1 for a, b in pairs):
        return False
    side = 2 * math.ceil(widest) + 3
    return np.array_equal(first.contains(side, side), second.contains(side, side))


def open_footprint(footprint: Any, images: Any = None) -> Footprint:
    """Check what a user gave as a footprint, and return it as one.

    Parameters
    ----------
    footprint : Annulus, EllipticalAnnulus or (H, W) bool array or tensor
        True marks the pixels that the statistics use.
    images : tensor, optional
        The images; a footprint that is a tensor must be on their device.

    Raises
    ------
    TypeError
        The footprint has another type or dtype.
    ValueError
        The array does not have two dimensions, or the tensor is on another device.
    """
    if isinstance(footprint, Annulus | EllipticalAnnulus | PixelFootprint):
        return footprint
    array = footprint
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(footprint, torch.Tensor):
        if isinstance(images, torch.Tensor) and footprint.device != images.device:
            raise ValueError(
                f"footprint is on {footprint.device} and images is on {images.device}; pass "
                "footprint.to(images.device)."
            )
        refuse_tensor_without_memory("footprint", footprint)
        array = footprint.detach().cpu().numpy()
    if not isinstance(array, np.ndarray) or array.dtype != np.bool_:
        found = (
            f"dtype {array.dtype}" if hasattr(array, "dtype") else f"type {type(array).__name__}"
        )
        raise TypeError(
            f"footprint has {found}; expected an Annulus, an EllipticalAnnulus, or a bool array "
            "(H, W) that is True on the pixels that the statistics use."
        )
    if array.ndim != 2:
        raise ValueError(
            f"footprint has shape {tuple(array.shape)}; expected (H, W), the shape of an image."
        )
    return PixelFootprint.of_mask(array)
