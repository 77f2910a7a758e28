"""The cutouts that a command takes from its paths; unusable ones are rejected with a reason."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fastnorm.terminal import fail

if TYPE_CHECKING:
    from fastnorm.annulus import Annulus
    from fastnorm.io import Cutout, Rejected
    from fastnorm.io.maskbits import MaskBits


def find_files(paths: list[str], out: Path, rejected: list[Rejected]) -> list[Path]:
    """List the files of paths, and fail if ``out`` is one of them.

    Parameters
    ----------
    paths : list of str
        Files, folders and patterns.
    out : Path
        File that the command will write.
    rejected : list of Rejected
        List to append unusable paths to.
    """
    from fastnorm.io import find_cutouts

    files = find_cutouts(paths, rejected)
    # Path.resolve raises an error for a link to itself.
    if os.path.realpath(out) in {os.path.realpath(path) for path in files}:
        fail(f"--out {out} is one of the input files and would replace it; name another file.")
    return files


def read_files(
    files: Iterable[Path],
    rejected: list[Rejected],
    advance: Callable[[int], None],
    mask_bits: MaskBits,
) -> Iterator[Cutout]:
    """Read cutouts.

    Parameters
    ----------
    files : iterable of Path
        Files to read.
    rejected : list of Rejected
        List to append unusable cutouts to.
    advance : function
        Called with the number of cutouts that are done.
    mask_bits : MaskBits
        MASKBITS that make a pixel of a FITS file bad.
    """
    from fastnorm.io import count_cutouts, read_cutouts

    for path in files:
        expected = count_cutouts(path)
        for cutout in read_cutouts(path, rejected, mask_bits=mask_bits):
            yield cutout
            advance(1)
            expected -= 1
        advance(max(expected, 0))


def with_annulus(
    cutouts: Iterable[Cutout], given: Annulus | None, rejected: list[Rejected]
) -> Iterator[Cutout]:
    """Yield the cutouts that have the annulus; fail if a given annulus fits none of them.

    Parameters
    ----------
    cutouts : iterable of Cutout
        Cutouts to choose from.
    given : Annulus or None
        The annulus; None for that of each size.
    rejected : list of Rejected
        List to append the others to.
    """
    from fastnorm.annulus import Annulus

    is_any, fault = False, ""
    for cutout in cutouts:
        plane = cutout.pixels.shape[1:]
        try:
            (given or Annulus.default(*plane)).pixels(*plane)
        except ValueError as error:
            fault = str(error)
            _reject_once(cutout, fault, rejected)
            continue
        is_any = True
        yield cutout
    if given is not None and fault and not is_any:
        fail(fault)


def of_one_shape(cutouts: Iterable[Cutout], rejected: list[Rejected]) -> Iterator[Cutout]:
    """Yield the cutouts that have the shape of the first, and reject the others."""
    first: Cutout | None = None
    for cutout in cutouts:
        first = first or cutout
        if cutout.pixels.shape == first.pixels.shape:
            yield cutout
            continue
        reason = (
            f"has shape {cutout.pixels.shape}, but the first cutout, {first.path}, has "
            f"{first.pixels.shape}; a stack takes one shape."
        )
        _reject_once(cutout, reason, rejected)


def _reject_once(cutout: Cutout, reason: str, rejected: list[Rejected]) -> None:
    """Reject a cutout, unless the last one, of the same file, was rejected for this reason."""
    from fastnorm.io import Rejected

    refused = Rejected(cutout.path, reason)
    if not rejected or rejected[-1] != refused:
        rejected.append(refused)
