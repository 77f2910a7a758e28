"""Cutouts from files, one at a time; what cannot be read is named, with the reason."""

from __future__ import annotations

import glob
import lzma
import math
import numbers
import os
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

BANDS = ("g", "r", "z")
SUFFIXES = (".npz", ".npy", ".fits", ".fits.gz", ".fit", ".fits.fz")
INSTALL_EXTRA = "pip install 'dhs-fastnorm[cli]'"

# What the zip, NumPy and FITS readers were seen to raise on bad bytes.
_BAD_BYTES: tuple[type[BaseException], ...] = (
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
    """

    id: str
    pixels: NDArray[np.float32]
    ra: float | None
    dec: float | None
    path: Path


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
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


def find_cutouts(paths: Iterable[str | Path], rejected: list[Rejected] | None = None) -> list[Path]:
    """List the cutout files among files, folders and patterns.

    Parameters
    ----------
    paths : iterable of str or Path
        Files, taken as they are; folders, searched to any depth for the
        suffixes in `SUFFIXES`, sorted; patterns such as ``"tile_*/*.npz"``.
    rejected : list, optional
        Where to append what leads to no file. Without it that is an error.

    Returns
    -------
    list of Path
        Each path once, in the order given.

    Raises
    ------
    CutoutError
        Without ``rejected``: a missing path, a pattern that matches nothing,
        or a folder without cutouts.
    """
    found: dict[Path, None] = {}
    for given in paths:
        matches = [Path(given)]
        if not os.path.lexists(given) and glob.has_magic(str(given)):
            matches = [Path(match) for match in sorted(glob.glob(str(given), recursive=True))]
            if not matches:
                reason = "the pattern matches no file; check it, and the folder it starts from."
                _reject(CutoutError(Path(given), reason), rejected)
        for path in matches:
            try:
                found.update(dict.fromkeys(_files_at(path, rejected)))
            except CutoutError as error:
                _reject(error, rejected)
    return list(found)


def read_cutouts(path: str | Path, rejected: list[Rejected] | None = None) -> Iterator[Cutout]:
    """Read the cutouts of one file, each when it is asked for.

    Parameters
    ----------
    path : str or Path
        ``.npz`` with the key ``cutout``, shape (rows, columns, 3); FITS whose
        first image is (3, rows, columns); ``.npy`` with (3, rows, columns) or a
        stack (N, 3, rows, columns). Bands are g, r, z, in nanomaggies.
    rejected : list, optional
        Where to append what cannot be read, to go on with the rest of the file
        where there is one. Without it that is an error.

    Yields
    ------
    Cutout

    Raises
    ------
    CutoutError
        Without ``rejected``: the file, or a cutout in it, cannot be used.
    ImportError
        astropy is missing, which FITS needs.
    """
    path = Path(path)
    try:
        suffix = _suffix(path)
        if suffix is None:
            raise CutoutError(path, f"of an unknown kind; allowed are {', '.join(SUFFIXES)}.")
        with _named(path):
            size = path.stat().st_size
        if not path.is_file():
            raise CutoutError(path, "not a regular file; allowed are files on disk.")
        if size == 0:
            raise CutoutError(path, "the file is empty (0 bytes); fetch or write it again.")
        if suffix == ".npy":
            yield from _read_npy(path, rejected)
        else:
            yield _read_npz(path) if suffix == ".npz" else _read_fits(path)
    except CutoutError as error:
        _reject(error, rejected)


def count_cutouts(path: Path) -> int:
    """How many cutouts a file should hold, from its header; 1 where that cannot be read."""
    if _suffix(path) == ".npy":
        try:
            with path.open("rb") as stream:
                shape, _, _ = _read_header(path, stream, os.fstat(stream.fileno()).st_size)
        except _BAD_BYTES:
            return 1
        return shape[0] if len(shape) == 4 else 1
    return 1


def _reject(error: CutoutError, rejected: list[Rejected] | None) -> None:
    if rejected is None:
        raise error
    rejected.append(Rejected(error.path, error.reason))


def _suffix(path: Path) -> str | None:
    name = path.name.lower()
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)


def _stem(path: Path) -> str:
    suffix = _suffix(path)
    return path.name[: -len(suffix)] if suffix else path.name


def _files_at(path: Path, rejected: list[Rejected] | None) -> list[Path]:
    def refuse(error: OSError) -> None:
        _reject(CutoutError(Path(error.filename), _reason_of(error)), rejected)

    with _named(path):
        if not path.exists():
            raise CutoutError(path, "there is no such file or folder; check the path.")
        if not path.is_dir():
            return [path]
    files = [
        Path(parent, name)
        for parent, _, names in os.walk(path, onerror=refuse)
        for name in names
        if _suffix(Path(name))
    ]
    if not files:
        raise CutoutError(path, f"the folder holds no file of {', '.join(SUFFIXES)}.")
    return sorted(files)


def _reason_of(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}."
    message = " ".join(str(error.args[0] if isinstance(error, KeyError) else error).split())
    return f"damaged, or not what its suffix says ({type(error).__name__}: {message})."


@contextmanager
def _named(path: Path, *more: type[BaseException]) -> Iterator[None]:
    """Turn what a reader raises on bad bytes into a `CutoutError` that names the file."""
    try:
        yield
    except CutoutError:
        raise
    except (*_BAD_BYTES, *more) as error:
        raise CutoutError(path, _reason_of(error)) from error


def _read_header(
    path: Path, stream: IO[bytes], size: int
) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, Fortran order and dtype; nothing is allocated before they fit the size."""
    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise CutoutError(path, f"of .npy version {version}; allowed are 1.0 and 2.0.")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, is_fortran, dtype = read(stream)
    if dtype.hasobject:
        raise CutoutError(path, "holds Python objects, which are never loaded; save numbers.")
    _check_floating(path, dtype)
    if min(shape, default=1) < 0:
        raise CutoutError(path, f"its header says shape {shape}, with a negative length.")
    expected = stream.tell() + math.prod(shape) * dtype.itemsize
    if expected != size:
        reason = (
            f"its header says shape {shape} of {dtype}, {expected} bytes in all, but it has "
            f"{size} bytes: cut short or damaged."
        )
        raise CutoutError(path, reason)
    return shape, is_fortran, dtype


def _check_floating(path: Path, dtype: np.dtype[Any]) -> None:
    if dtype.kind != "f":
        reason = (
            f"has dtype {dtype}; allowed are floating dtypes, in nanomaggies. Convert counts to "
            "fluxes first."
        )
        raise CutoutError(path, reason)


def _check_pixels(
    path: Path, pixels: NDArray[Any], where: str = "the cutout"
) -> NDArray[np.float32]:
    try:
        with np.errstate(over="raise"):
            result = np.ascontiguousarray(pixels, dtype=np.float32)
    except FloatingPointError:
        raise CutoutError(path, f"{where} holds values beyond the range of float32.") from None
    if np.isnan(result).all():
        raise CutoutError(path, f"every pixel of {where} is NaN: there is nothing to normalise.")
    return result


def _read_npz(path: Path) -> Cutout:
    with _named(path), zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        if "cutout" not in names:
            found = ", ".join(names[:5]) or "nothing"
            raise CutoutError(path, f"has no array 'cutout'; found {found}.")
        size = archive.getinfo("cutout.npy").file_size
        with archive.open("cutout.npy") as stream:
            shape, is_fortran, dtype = _read_header(path, stream, size)
            if len(shape) != 3 or shape[2] != len(BANDS) or 0 in shape:
                reason = (
                    f"'cutout' has shape {shape}; allowed is (rows, columns, 3) with bands "
                    "g, r, z last."
                )
                raise CutoutError(path, reason)
            flat = np.frombuffer(stream.read(size), dtype)
        image = flat.reshape(shape, order="F" if is_fortran else "C")
        identity = _npz_scalar(archive, "meta_galaxy_id")
        ra, dec = (_degrees(_npz_scalar(archive, f"meta_{name}")) for name in ("ra", "dec"))
    pixels = _check_pixels(path, image.transpose(2, 0, 1))
    return Cutout(str(identity or _stem(path)), pixels, ra, dec, path)


def _npz_scalar(archive: zipfile.ZipFile, name: str) -> object:
    if f"{name}.npy" not in archive.namelist():
        return None
    with archive.open(f"{name}.npy") as stream:
        array = npy.read_array(stream, allow_pickle=False)
    return array.item() if array.size == 1 else None


def _degrees(value: object) -> float | None:
    if isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def _read_fits(path: Path) -> Cutout:
    try:
        from astropy.io import fits
        from astropy.utils.exceptions import AstropyWarning
    except ImportError as error:
        raise ImportError(f"{path} needs astropy to be read: {INSTALL_EXTRA}") from error
    with (
        _named(path, AstropyWarning, fits.VerifyError),
        warnings.catch_warnings(),
        path.open("rb") as stream,
    ):
        # astropy only warns of a file cut short or of a wrong checksum.
        warnings.simplefilter("error", AstropyWarning)
        options = {"memmap": False, "checksum": True, "lazy_load_hdus": False}
        with fits.open(stream, **options) as units:
            image = next((unit for unit in units if unit.is_image and unit.shape), None)
            if image is None:
                raise CutoutError(path, "holds no image; allowed is one of (3, rows, columns).")
            if len(image.shape) != 3 or image.shape[0] != len(BANDS) or 0 in image.shape:
                reason = (
                    f"its first image has shape {image.shape}; allowed is (3, rows, columns) with "
                    "bands g, r, z first (NAXIS3)."
                )
                raise CutoutError(path, reason)
            data = image.data
            ra, dec = _fits_position(image.header)
            _check_floating(path, data.dtype)
            pixels = _check_pixels(path, data)
    return Cutout(_stem(path), pixels, ra, dec, path)


def _fits_position(header: Mapping[str, Any]) -> tuple[float | None, float | None]:
    ra, dec = _degrees(header.get("RA")), _degrees(header.get("DEC"))
    if ra is not None and dec is not None:
        return ra, dec
    axes = str(header.get("CTYPE1", ""))[:4], str(header.get("CTYPE2", ""))[:4]
    centre = (header["NAXIS1"] + 1) / 2, (header["NAXIS2"] + 1) / 2
    reference = _degrees(header.get("CRPIX1")), _degrees(header.get("CRPIX2"))
    # The reference point is the object's position only where it lies in the middle.
    is_centred = all(
        pixel is not None and abs(pixel - middle) <= 1
        for pixel, middle in zip(reference, centre, strict=True)
    )
    if axes == ("RA--", "DEC-") and is_centred:
        return _degrees(header.get("CRVAL1")), _degrees(header.get("CRVAL2"))
    return None, None


def _read_npy(path: Path, rejected: list[Rejected] | None) -> Iterator[Cutout]:
    with _named(path), path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        shape, is_fortran, dtype = _read_header(path, stream, size)
        if len(shape) not in (3, 4) or shape[-3] != len(BANDS) or 0 in shape:
            reason = (
                f"has shape {shape}; allowed are (3, rows, columns) and (N, 3, rows, columns) with "
                "bands g, r, z first."
            )
            raise CutoutError(path, reason)
        if is_fortran:
            raise CutoutError(path, "in Fortran order; save numpy.ascontiguousarray of it.")
        is_stack = len(shape) == 4
        cutout_bytes = math.prod(shape[-3:]) * dtype.itemsize
        for row in range(shape[0] if is_stack else 1):
            # Read, not mapped: a mapped file that shrinks would end the process.
            content = stream.read(cutout_bytes)
            if len(content) != cutout_bytes:
                left = os.fstat(stream.fileno()).st_size
                reason = f"shrank from {size} to {left} bytes while row {row} was read."
                raise CutoutError(path, reason)
            identity = f"{_stem(path)}[{row:06d}]" if is_stack else _stem(path)
            image = np.frombuffer(content, dtype).reshape(shape[-3:])
            try:
                pixels = _check_pixels(path, image, f"row {row}" if is_stack else "the cutout")
            except CutoutError as error:
                _reject(error, rejected)
                continue
            yield Cutout(identity, pixels, None, None, path)
