"""Cutouts from FITS, as the Legacy Surveys write them: IMAGE, INVVAR and MASKBITS.

A pixel is bad in a band where its inverse variance is not above 0, where MASKBITS say so (see
`fastnorm.maskbits`), or where an extension MASK, as this package writes it, is not 0.
"""

from __future__ import annotations

import gzip
import io
import math
import os
import re
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnorm.cutout import (
    BANDS,
    INSTALL_EXTRA,
    Cutout,
    CutoutError,
    check_floating,
    check_mask,
    check_pixels,
    check_size,
    degrees,
    named,
)
from fastnorm.maskbits import MaskBits

NORMALISED = "ANNRIN"
"""The header card of an image that is normalised already."""
NOT_PIXELS = ("INVVAR", "MASKBITS", "MASK")
MOST_UNITS = 64
_one_at_a_time = threading.RLock()
CARD = 80
_MANY = rb"(?:Z?NAXIS|TFIELDS) *= *[+-]?\d{4,}"
_GZIP_MEMBER = b"\x1f\x8b\x08"
_PART, _STEP = 2**20, 2**16
NANOMAGGY = ("nanomaggy", "nanomaggies", "nmgy")


def read_fits(path: Path, stem: str, mask_bits: MaskBits) -> Cutout:
    """Read the image of a FITS file, and what else it says of its pixels.

    Parameters
    ----------
    path : Path
    stem : str
        The id.
    mask_bits : MaskBits
        Which of MASKBITS make a pixel bad.

    Returns
    -------
    Cutout

    Raises
    ------
    CutoutError
        There is no image of three bands g, r, z in nanomaggies, it is normalised already, or what
        goes with it does not fit it.
    ImportError
        astropy is missing.
    """
    with opened(path) as units:
        image = find_image(path, units)
        planes = band_planes(path, image)
        ra, dec = _position(image.header)
        data = image.data
        check_floating(path, data.dtype)
        pixels = check_pixels(path, data[planes])
        mask = bad_pixels(path, units, image, mask_bits)
        scale = _pixel_scale(image.header)
    return Cutout(stem, pixels, ra, dec, path, mask, scale)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a FITS file as an astropy ``HDUList``; every fault of it is a `CutoutError`."""
    try:
        from astropy.io import fits
        from astropy.utils.exceptions import AstropyWarning
    except ImportError as error:
        raise ImportError(f"{path} needs astropy to be read: {INSTALL_EXTRA}") from error
    # The last two astropy was seen to raise on headers that it does not understand.
    kinds = (AstropyWarning, RuntimeWarning, fits.VerifyError, AttributeError, AssertionError)
    with _one_at_a_time, named(path, *kinds), warnings.catch_warnings():
        # astropy only warns of a file cut short or of a wrong checksum; what is done with warnings
        # is of the whole process, so that another thread could undo it.
        warnings.simplefilter("error", AstropyWarning)
        # NumPy's, of sums with odd numbers of a header.
        warnings.simplefilter("error", RuntimeWarning)
        options = {"memmap": False, "checksum": True, "lazy_load_hdus": False}
        with fits.open(_content(path), **options) as units:
            if len(units) > MOST_UNITS:
                raise CutoutError(path, f"has {len(units)} units; allowed are {MOST_UNITS}.")
            yield units


def _content(path: Path) -> io.BytesIO:
    """All bytes, unpacked here: astropy would unpack whatever it recognises, of any size."""
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        check_size(path, "the file", size)
        content = stream.read(size)
    if content.startswith(_GZIP_MEMBER[:2]):
        content = _unpacked(path, content)
    if not content.startswith(b"SIMPLE"):
        reason = (
            "damaged, or not what its suffix says: it does not begin with SIMPLE, as FITS does."
        )
        raise CutoutError(path, reason)
    for found in re.finditer(_MANY, content):
        # Cards begin there. astropy would count as far as they say.
        if found.start() % CARD == 0:
            raise CutoutError(
                path, f"its card {found[0].decode()} says more than FITS allows, 999."
            )
    if b"ZCMPTYPE" in content:
        _check_tiles(path, content)
    return io.BytesIO(content)


def _check_tiles(path: Path, content: bytes) -> None:
    """Refuse tiles that unpack to more than any cutout: astropy would unpack each as a whole."""
    size, all_of_it = 0, memoryview(content)
    for found in re.finditer(_GZIP_MEMBER, content):
        unpacker = zlib.decompressobj(wbits=31)
        try:
            for start in range(found.start(), len(content), _STEP):
                packed: bytes | memoryview = all_of_it[start : start + _STEP]
                while packed and not unpacker.eof:
                    size += len(unpacker.decompress(packed, _PART))
                    check_size(path, "what it holds, unpacked,", size)
                    packed = unpacker.unconsumed_tail
                if unpacker.eof:
                    break
        except zlib.error:
            continue


def _unpacked(path: Path, content: bytes) -> bytes:
    result = io.BytesIO()
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
        while part := stream.read(_PART):
            check_size(path, "the file, unpacked,", result.tell() + len(part))
            result.write(part)
    return result.getvalue()


def find_image(path: Path, units: Any) -> Any:
    """The unit named IMAGE, or else the first image that is none of what goes with one."""
    images = [unit for unit in units if unit.is_image and unit.shape]
    called = [unit for unit in images if name_of(unit) == "IMAGE"]
    others = [unit for unit in images if name_of(unit) not in NOT_PIXELS]
    if not others:
        raise CutoutError(path, "holds no image; allowed is one of (3, rows, columns).")
    image = (called or others)[0]
    if NORMALISED in image.header:
        radii = image.header[NORMALISED], image.header.get("ANNROUT")
        raise CutoutError(
            path,
            f"is normalised already, with the annulus ({radii[0]}, {radii[1]}); give the original, "
            "in nanomaggies.",
        )
    _check_unit(path, image.header)
    check_size(path, "its image", math.prod(image.shape) * abs(image.header["BITPIX"]) // 8)
    return image


def name_of(unit: Any) -> str:
    """What a unit is: its name, or what the cutout service says in its place, in capitals."""
    return str(unit.header.get("EXTNAME") or unit.header.get("IMAGETYP", "")).strip().upper()


def _check_unit(path: Path, header: Any) -> None:
    unit = str(header.get("BUNIT", "")).strip()
    if unit and unit.lower() not in NANOMAGGY:
        raise CutoutError(
            path,
            f"is in {unit!r} (BUNIT); allowed is nanomaggy. Convert it: 1 nanomaggy is 3.631e-6 "
            "Jy, AB magnitude 22.5.",
        )


def band_planes(path: Path, image: Any) -> list[int]:
    """Which planes of an image, or of what goes with it, are g, r and z."""
    shape, bands = image.shape, str(image.header.get("BANDS", "")).strip()
    if len(shape) == 3 and 0 not in shape and bands and len(bands) == shape[0]:
        if any(bands.count(band) != 1 for band in BANDS):
            raise CutoutError(path, f"has the bands {bands!r}; needed are {', '.join(BANDS)}.")
        return [bands.index(band) for band in BANDS]
    if len(shape) != 3 or shape[0] != len(BANDS) or 0 in shape:
        reason = (
            f"its image has shape {shape}; allowed is (3, rows, columns) with bands g, r, z first "
            "(NAXIS3), or more bands named in the card BANDS."
        )
        raise CutoutError(path, reason)
    return list(range(len(BANDS)))


def bad_pixels(path: Path, units: Any, image: Any, mask_bits: MaskBits) -> NDArray[np.bool_] | None:
    """Bad pixels of g, r, z, (3, H, W); None where no unit of the file says anything of them."""
    shape = (len(BANDS), *image.shape[1:])
    found: list[NDArray[np.bool_]] = []
    if (invvar := beside(path, units, "INVVAR", image)) is not None:
        # Neither is a NaN above 0.
        found.append(~(invvar.data[band_planes(path, image)] > 0))
    if (bits := beside(path, units, "MASKBITS", image)) is not None:
        plane = bits.data[0] if bits.data.ndim == 3 else bits.data
        found.append(mask_bits.mask(plane))
    if (mask := beside(path, units, "MASK", image)) is not None:
        found.append(check_mask(path, mask.data, shape, "its unit MASK"))
    return np.logical_or.reduce(found) if found else None


def beside(path: Path, units: Any, name: str, image: Any) -> Any:
    """INVVAR, MASKBITS or MASK of an image, or None; its pixels are not read before they fit."""
    unit = next((unit for unit in units if unit.is_image and name_of(unit) == name), None)
    if unit is None:
        return None
    plane = image.shape[1:]
    allowed = {
        "INVVAR": [image.shape],
        "MASKBITS": [plane, (1, *plane)],
        "MASK": [plane, (len(BANDS), *plane)],
    }[name]
    if unit.shape not in allowed:
        shapes = " and ".join(map(str, allowed))
        raise CutoutError(path, f"{name} has shape {unit.shape}, its image allows {shapes}.")
    return unit


def _pixel_scale(header: Any) -> float | None:
    """Side of a pixel of equal area, arcsec; None where the header does not say it."""
    if not str(header.get("CTYPE1", "")).startswith("RA--"):
        return None
    if "CD1_1" in header:
        matrix, unsaid, step = "CD", (0.0, 0.0, 0.0, 0.0), 1.0
    else:
        matrix, unsaid = "PC", (1.0, 0.0, 0.0, 1.0)
        steps = [degrees(header.get(name, 1.0)) for name in ("CDELT1", "CDELT2")]
        step = math.prod(math.nan if value is None else value for value in steps)
    entries = zip(("1_1", "1_2", "2_1", "2_2"), unsaid, strict=True)
    a, b, c, d = (degrees(header.get(f"{matrix}{place}", value)) for place, value in entries)
    if a is None or b is None or c is None or d is None:
        return None
    scale = 3600 * math.sqrt(abs(step * (a * d - b * c)))
    return scale if math.isfinite(scale) and scale > 0 else None


def _position(header: Any) -> tuple[float | None, float | None]:
    ra, dec = degrees(header.get("RA")), degrees(header.get("DEC"))
    if ra is not None and dec is not None:
        return ra, dec
    axes = str(header.get("CTYPE1", ""))[:4], str(header.get("CTYPE2", ""))[:4]
    centre = (header["NAXIS1"] + 1) / 2, (header["NAXIS2"] + 1) / 2
    reference = degrees(header.get("CRPIX1")), degrees(header.get("CRPIX2"))
    # The reference point is the object's position only where it lies in the middle.
    is_centred = all(
        pixel is not None and abs(pixel - middle) <= 1
        for pixel, middle in zip(reference, centre, strict=True)
    )
    if axes == ("RA--", "DEC-") and is_centred:
        return degrees(header.get("CRVAL1")), degrees(header.get("CRVAL2"))
    return None, None
