"""Checks of the promises that every reader of cutouts makes for any file."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np

from fastnorm.io import Cutout, CutoutError, CutoutWarning, Rejected, count_cutouts, read_cutouts
from tests.faults.fuzz.watch import require_one_line, watched

Outcome = tuple[list[Cutout], list[Rejected]]


def read(path: Path, content: bytes, unpacked: int = 0) -> Outcome:
    """Read a file with this content and check the outcome.

    Parameters
    ----------
    path : Path
        File to write and read.
    content : bytes
        Content of the file.
    unpacked : int
        Additional bytes that the content may expand to.
    """
    path.write_bytes(content)
    beside = os.listdir(path.parent)
    rejected: list[Rejected] = []
    with watched(len(content) + unpacked):
        cutouts = list(read_cutouts(path, rejected))
        count = count_cutouts(path)
    assert os.listdir(path.parent) == beside
    assert path.read_bytes() == content
    assert cutouts or rejected
    for cutout in cutouts:
        _require_sound(cutout, path)
    for item in rejected:
        assert item.path == path
        require_one_line(item.reason)
        assert "MemoryError" not in item.reason
    if len(cutouts) > 1 or not rejected:
        assert count == len(cutouts) + len(rejected)
    return cutouts, rejected


def reason_of(path: Path) -> str | None:
    """Return the reason why a file is rejected when no list collects rejects; None if read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CutoutWarning)
            list(read_cutouts(path))
    except CutoutError as error:
        caught = error
    else:
        return None
    assert str(caught) == f"{path}: {caught.reason}"
    return caught.reason


def _require_sound(cutout: Cutout, path: Path) -> None:
    pixels, mask = cutout.pixels, cutout.mask
    assert pixels.dtype == np.float32
    assert pixels.ndim == pixels.shape[0] == 3
    assert pixels.size
    assert pixels.flags.c_contiguous
    assert not np.isnan(pixels).all()
    assert cutout.path == path
    assert isinstance(cutout.id, str)
    assert cutout.id
    for degrees in (cutout.ra, cutout.dec):
        assert degrees is None or (isinstance(degrees, float) and np.isfinite(degrees))
    if mask is not None:
        assert mask.dtype == np.bool_
        assert mask.shape == pixels.shape
        assert mask.flags.c_contiguous
