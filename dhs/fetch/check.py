"""Checks that a file is the requested cutout."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dhs.constants import BANDS, PIXEL_SCALE
from dhs.fetch.client import BadAnswerError, NoDataError
from dhs.fetch.service import Service
from fastnorm.io import CutoutError, CutoutWarning, read_cutouts
from fastnorm.io.fits_warnings import damage_only

PIXELS_OFF = 0.5
SCALE_OFF = 0.01
MOST_SHOWN = 80


def check_cutout(path: Path, ra: float, dec: float, service: Service) -> None:
    """Read a file and compare it with the request.

    Parameters
    ----------
    path : Path
        File to check, with the suffix ``.fits``.
    ra, dec : float
        Requested position, degrees.
    service : Service
        Settings of the request.

    Raises
    ------
    BadAnswerError
        The file is damaged, has different bands, size, position or pixel scale, or lacks an HDU.
    NoDataError
        The file is the requested image, but every pixel is 0.
    """
    with _damage(path):
        _check(path, ra, dec, service)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def separation(ra1: float, dec1: float, ra2: float, dec2: float) -> float:
    """Compute the angular separation of two positions.

    Parameters
    ----------
    ra1, dec1, ra2, dec2 : float
        Coordinates of the two positions, degrees.

    Returns
    -------
    float
        Degrees.
    """
    from astropy.coordinates import angular_separation

    return math.degrees(angular_separation(*map(math.radians, (ra1, dec1, ra2, dec2))))


def _check(path: Path, ra: float, dec: float, service: Service) -> None:
    with path.open("rb") as stream:
        start = stream.read(MOST_SHOWN)
    if not start.startswith(b"SIMPLE"):
        raise BadAnswerError(
            f"is not a FITS file; it begins with {start.decode('ascii', 'replace')!r}."
        )
    try:
        [cutout] = read_cutouts(path)
    except CutoutError as error:
        raise BadAnswerError(error.reason) from error
    expected = (len(BANDS), service.size, service.size)
    if cutout.pixels.shape != expected:
        raise BadAnswerError(f"has shape {cutout.pixels.shape}; expected {expected}.")
    headers = _headers(path)
    _check_place(headers[0], ra, dec, service.size)
    if not service.images_only:
        _check_planes(headers, expected)
    if not cutout.pixels.any():
        raise NoDataError("no data at this position: every pixel is 0, as outside the footprint.")


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Turn any exception of astropy about a header, or a warning of damage, into one error."""
    # Whoever reads the file later gets the notice of what is unusual in it.
    try:
        with damage_only(path, is_quiet=True):
            warnings.simplefilter("ignore", CutoutWarning)
            yield
    except (BadAnswerError, NoDataError):
        raise
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise BadAnswerError(f"its header is damaged ({said}).") from error


def _headers(path: Path) -> list[Any]:
    """Return the headers of the images in a file."""
    from astropy.io import fits

    with path.open("rb") as stream, fits.open(stream, memmap=False) as units:
        return [unit.header for unit in units if unit.is_image and unit.shape]


def _check_place(header: Any, ra: float, dec: float, size: int) -> None:
    """Check the position of the image's centre and the pixel scale."""
    from astropy.wcs import WCS
    from astropy.wcs.utils import proj_plane_pixel_scales

    middle = (size - 1) / 2
    wcs = WCS(header, naxis=2)
    if not wcs.has_celestial:
        raise BadAnswerError("has no celestial WCS.")
    away = separation(ra, dec, *map(float, wcs.wcs_pix2world(middle, middle, 0))) * 3600
    scales = [float(scale) * 3600 for scale in proj_plane_pixel_scales(wcs)]
    # NaN fails these comparisons.
    if not away <= PIXELS_OFF * PIXEL_SCALE:
        raise BadAnswerError(f"its centre is {away:.3g} arcsec from the requested position.")
    if not all(abs(scale / PIXEL_SCALE - 1) <= SCALE_OFF for scale in scales):
        raise BadAnswerError(f"its pixels have sides of {scales} arcsec; expected {PIXEL_SCALE}.")


def _check_planes(headers: list[Any], expected: tuple[int, int, int]) -> None:
    """Check that INVVAR and MASKBITS exist with the right shapes."""
    # The service names its HDUs only by IMAGETYP.
    names = [str(header.get("EXTNAME") or header.get("IMAGETYP", "")).upper() for header in headers]
    for name, shape in (("INVVAR", expected), ("MASKBITS", expected[1:])):
        if name not in names:
            raise BadAnswerError(
                f"has no HDU {name}; to fetch images without it, use --images-only."
            )
        header = headers[names.index(name)]
        found = tuple(header[f"NAXIS{axis}"] for axis in range(header["NAXIS"], 0, -1))
        if found != shape:
            raise BadAnswerError(f"{name} has shape {found}; expected {shape}.")
