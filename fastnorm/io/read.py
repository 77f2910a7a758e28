"""Readers of cutout files, one cutout at a time; unreadable files are reported with a reason."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from fastnorm.io.cutout import Cutout, CutoutError, Rejected, named, reason_of
from fastnorm.io.fits_files import read_fits
from fastnorm.io.maskbits import MaskBits
from fastnorm.io.numpy_files import count_npy, read_npy, read_npz
from fastnorm.paths import local_path, require_file

FITS_SUFFIXES = (".fits", ".fits.gz", ".fit", ".fits.fz")
SUFFIXES = (".npz", ".npy", *FITS_SUFFIXES)


def find_cutouts(paths: Iterable[str | Path], rejected: list[Rejected] | None = None) -> list[Path]:
    """List the cutout files among files, folders and patterns.

    Parameters
    ----------
    paths : iterable of str or Path
        Files, which are not checked; folders, searched to any depth for the
        suffixes in `SUFFIXES`, sorted; patterns such as ``"tile_*/*.npz"``.
    rejected : list, optional
        List to append unusable paths to. Without it they are errors.

    Returns
    -------
    list of Path
        Each path once, in the order given.

    Raises
    ------
    CutoutError
        Without ``rejected``: a path does not exist, a pattern matches nothing,
        or a folder has no cutouts.
    ValueError
        A path is an address.
    """
    found: dict[Path, None] = {}
    for given in paths:
        matches = [local_path(given)]
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


def read_cutouts(
    path: str | Path,
    rejected: list[Rejected] | None = None,
    *,
    mask_bits: MaskBits = MaskBits(),  # noqa: B008
) -> Iterator[Cutout]:
    """Read the cutouts of one file lazily.

    Parameters
    ----------
    path : str or Path
        ``.npz`` with the key ``cutout``, shape (rows, columns, 3), and optionally
        ``mask``; FITS with an image of (3, rows, columns), and optionally INVVAR
        and MASKBITS, see `fastnorm.io.fits_files`; ``.npy`` with (3, rows, columns)
        or a stack (N, 3, rows, columns). Bands are g, r, z, in nanomaggies.
    rejected : list, optional
        List to append unreadable cutouts to; reading continues with the rest of
        the file. Without it they are errors.
    mask_bits : MaskBits
        Bits of MASKBITS that make a pixel bad.

    Yields
    ------
    Cutout

    Raises
    ------
    CutoutError
        Without ``rejected``: the file, or a cutout in it, is not usable, or its
        claimed size is above `fastnorm.io.cutout.MOST_BYTES`.
    ValueError
        ``path`` is an address.
    ImportError
        The file is FITS and astropy is not installed.
    """
    path = local_path(path)
    try:
        suffix = _suffix(path)
        if suffix is None:
            raise CutoutError(
                path, f"has an unknown suffix; expected one of {', '.join(SUFFIXES)}."
            )
        with named(path):
            require_file(path)
            size = path.stat().st_size
        if size == 0:
            raise CutoutError(path, "the file is empty (0 bytes); fetch or write it again.")
        if suffix == ".npy":
            yield from read_npy(path, stem_of(path), rejected)
        elif suffix == ".npz":
            yield read_npz(path, stem_of(path))
        else:
            yield read_fits(path, stem_of(path), mask_bits)
    except CutoutError as error:
        _reject(error, rejected)


def count_cutouts(path: Path) -> int:
    """Return the number of cutouts in a file from its header, or 1 if it cannot be read."""
    return count_npy(path) if _suffix(path) == ".npy" else 1


def _reject(error: CutoutError, rejected: list[Rejected] | None) -> None:
    if rejected is None:
        raise error
    rejected.append(Rejected(error.path, error.reason))


def _suffix(path: Path) -> str | None:
    name = path.name.lower()
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)


def stem_of(path: Path) -> str:
    """Return the name of a file without its suffix, if that is in `SUFFIXES`."""
    suffix = _suffix(path)
    return path.name[: -len(suffix)] if suffix else path.name


def _files_at(path: Path, rejected: list[Rejected] | None) -> list[Path]:
    def refuse(error: OSError) -> None:
        _reject(CutoutError(Path(error.filename), reason_of(error)), rejected)

    with named(path):
        if not path.exists():
            raise CutoutError(path, "does not exist; check the path.")
        if not path.is_dir():
            return [path]
    files = [
        Path(parent, name)
        for parent, _, names in os.walk(path, onerror=refuse)
        for name in names
        if _suffix(Path(name))
    ]
    if not files:
        raise CutoutError(path, f"the folder has no file with a suffix of {', '.join(SUFFIXES)}.")
    return sorted(files)
