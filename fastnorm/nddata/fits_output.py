"""Normalisation of FITS files, which keeps the header and the other HDUs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import fastnorm
from fastnorm.annulus import Annulus
from fastnorm.atomic import atomic_path
from fastnorm.io.cutout import CutoutError, too_few_good
from fastnorm.io.fits_files import FitsImage, name_of, read_image, tidy_bands
from fastnorm.io.fits_open import opened
from fastnorm.io.fits_warnings import damage_only, legible
from fastnorm.io.maskbits import MaskBits
from fastnorm.normalize.flat import named_bands
from fastnorm.paths import local_path
from fastnorm.reference import scale_of
from fastnorm.text import ascii_only

if TYPE_CHECKING:
    from astropy.io.fits import ImageHDU

EPS = 1e-8
UNSCALED = ("IVAR", "WEIGHT", "WHT", "ERR", "ERROR", "SIGMA", "STD", "VAR", "VARIANCE", "RMS")
"""Names of HDUs whose values would be wrong next to a normalised image."""


class NormalizedFile(NamedTuple):
    """Height and width of a normalised image in pixels, the annulus of its statistics, flat bands.

    ``flat_bands``: names of the bands whose MAD is 0, such as ``g, z``; see
    `fastnorm.normalize.flat`.
    """

    size: tuple[int, int]
    annulus: Annulus
    flat_bands: str


def normalize_file(
    path: str | Path,
    out: str | Path,
    annulus: Annulus | None = None,
    *,
    clip: float | None = None,
    nan_to_zero: bool = False,
    mask_bits: MaskBits = MaskBits(),  # noqa: B008
    backend: str | None = None,
) -> NormalizedFile:
    """Normalise the image of a FITS file and write it to a new file.

    The header, including the WCS, and all other HDUs are kept, with three exceptions. INVVAR and
    astropy's UNCERT are scaled with the image, independently of ``clip``. MASK marks the pixels
    that were excluded from the statistics (1 is bad). The image keeps only the bands g, r and z.
    Radii, medians and scales are cards of the image; see `fastnorm.nddata.convert.cards`.

    Parameters
    ----------
    path : str or Path
        FITS file; see `fastnorm.io.read_cutouts`.
    out : str or Path
        ``.fits`` file to write; it appears when it is complete.
    annulus : Annulus, optional
        65 to 90 % of the half-width by default, (32.5, 45.0) for 101 x 101 pixels.
    clip : float, optional
        Limit the result to ``[-clip, clip]``; NaN stays NaN.
    nan_to_zero : bool
        Replace NaN by 0 before the statistics and after the division. Otherwise NaN pixels are
        bad.
    mask_bits : MaskBits
        Bits of MASKBITS that make a pixel bad.
    backend : str, optional
        A name from `fastnorm.backends`; the fastest available by default.

    Returns
    -------
    NormalizedFile
        Size of the image, the annulus that was used, and the flat bands.

    Raises
    ------
    CutoutError
        The file is not usable, or too few annulus pixels are good.
    ValueError
        ``out`` is ``path``, or an argument is invalid; see `fastnorm.normalize_outer_annulus`.
    OSError
        ``out`` cannot be written.
    """
    from astropy.io import fits

    from fastnorm.nddata import convert

    path, out = local_path(path), local_path(out)
    if os.path.realpath(path) == os.path.realpath(out):
        raise ValueError(f"out={str(out)!r} is the input and would be replaced; name another file.")
    with opened(path) as units:
        image = read_image(path, units, mask_bits)
        _refuse_unscaled(path, units)
        kept = [(name_of(unit), _own(unit)) for unit in units if unit is not image.unit]
        place = units.index(image.unit)
        header = legible(path, image.unit.header)
    mask = image.mask
    if not nan_to_zero and np.isnan(image.pixels).any():
        mask = np.isnan(image.pixels) | (False if mask is None else mask)
    used = annulus or Annulus.default(*image.pixels.shape[1:])
    if (fault := too_few_good(image.pixels, mask, used)) is not None:
        raise CutoutError(path, fault)
    result, median, scale = fastnorm.normalize_outer_annulus(
        image.pixels,
        used.r_in,
        used.r_out,
        mask=mask,
        eps=EPS,
        clip=clip,
        nan_to_zero=nan_to_zero,
        backend=backend,
        return_stats=True,
    )
    # The notice of what is unusual in the header was given when the file was read.
    with damage_only(path, is_quiet=True):
        done = _with_header(image.unit, header, result)
        for card, value in convert.cards(used, clip, nan_to_zero, median, scale).items():
            done.header[card] = (value, convert.COMMENTS[card.rstrip("123")])
        done.header["BUNIT"] = ("", "MAD of the outer annulus, not times 1.4826")
        # These cards describe the original values.
        for card in ("DATAMIN", "DATAMAX"):
            done.header.remove(card, ignore_missing=True)
        name = ascii_only(path.name)
        done.header.add_history(f"normalised by fastnorm {fastnorm.__version__} from {name}")
        written = [_scaled(path, name, unit, image, scale) for name, unit in kept if name != "MASK"]
        written.insert(place, done)
        if mask is not None:
            flags = fits.ImageHDU(mask.astype(np.uint8), name="MASK")
            flags.header["MASKBITS"] = str(mask_bits)
            written.append(flags)
        # Cards that FITS does not allow are written as they were read.
        verify = "silentfix+ignore"
        with atomic_path(out) as temporary:
            fits.HDUList(written).writeto(temporary, checksum=True, output_verify=verify)
    flat = named_bands(np.asarray(scale) == scale_of(scale.dtype.type(0), EPS))
    return NormalizedFile(image.pixels.shape[1:], used, flat)


def _refuse_unscaled(path: Path, units: Any) -> None:
    for unit in units:
        if (name := name_of(unit)) in UNSCALED:
            raise CutoutError(
                path,
                f"has an HDU {name}, which would be wrong next to the normalised image; rename it "
                "to INVVAR if it is the inverse variance, or remove it.",
            )


def _own(unit: Any) -> Any:
    """Return a copy of an HDU that does not need the open file."""
    if unit.is_image:
        return unit.copy()
    # Copying a table HDU would lose the data in its heap.
    info = unit.fileinfo()
    info["file"].seek(info["hdrLoc"])
    content = info["file"].read(info["datLoc"] - info["hdrLoc"] + info["datSpan"])
    return type(unit).fromstring(content)


def _scaled(path: Path, name: str, unit: Any, image: FitsImage, scale: NDArray[Any]) -> Any:
    """Return an HDU for the normalised image: INVVAR and UNCERT scaled, others unchanged."""
    from fastnorm.nddata.convert import POWERS

    if name == "INVVAR" and image.invvar is not None:
        values, power = image.invvar, POWERS["InverseVariance"]
    elif name == "UNCERT":
        kind = str(unit.header.get("UTYPE", "StdDevUncertainty"))
        if kind not in POWERS or unit.shape != image.unit.shape:
            raise CutoutError(
                path,
                f"has an uncertainty (UNCERT) of type {kind} and shape {unit.shape}; expected "
                f"one of {', '.join(POWERS)}, with the shape of the image.",
            )
        values, power = unit.data[image.planes], POWERS[kind]
    else:
        return unit
    done = _with_header(
        unit, legible(path, unit.header), values * scale.astype(np.float64)[:, None, None] ** power
    )
    done.header["BUNIT"] = ("", "of the normalised image")
    return done


def _with_header(unit: Any, header: Any, data: NDArray[Any]) -> ImageHDU:
    """Return an uncompressed HDU of the kind of another, with a header and new g, r, z pixels."""
    from astropy.io import fits

    kind = fits.PrimaryHDU if isinstance(unit, fits.PrimaryHDU) else fits.ImageHDU
    tidy_bands(header)
    return kind(np.ascontiguousarray(data, np.float32), header)
