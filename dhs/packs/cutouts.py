"""One cutout, with its mask, from the files that a row of a manifest names."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastnorm.io import CutoutError, count_cutouts, read_cutouts


class Layout(NamedTuple):
    """What all cutouts of a pack have in common, and the file that it was learned from.

    ``plane``: rows and columns. ``has_masks``: each cutout has a mask.
    """

    plane: tuple[int, int]
    has_masks: bool
    model: str


class MaskedCutout(NamedTuple):
    """Pixels (3, H, W) float32, a mask of that shape or None, and what the file says of ra, dec."""

    pixels: NDArray[np.float32]
    mask: NDArray[np.bool_] | None
    ra: float | None
    dec: float | None


def read_cutout(folder: Path, cutout: str, mask: str | None) -> MaskedCutout:
    """Read the only cutout of a file, and its mask: from another file, or from its own ``.npz``.

    Parameters
    ----------
    folder : Path
        Where relative paths start.
    cutout, mask : str
        Files; without ``mask`` an array ``mask`` beside the cutout is one.

    Returns
    -------
    MaskedCutout

    Raises
    ------
    CutoutError
        A file gives no cutout, several, or no mask that fits.
    """
    path = folder / cutout
    count = count_cutouts(path)
    if count > 1:
        reason = f"holds {count} cutouts, but a row of a manifest names one; save each on its own."
        raise CutoutError(path, reason)
    (found,) = read_cutouts(path)
    own = _own_mask(path)
    if mask is not None and own is not None:
        raise CutoutError(path, "has an array 'mask' and a mask_path; leave one out.")
    if mask is not None:
        try:
            own = _load(folder / mask)
        except CutoutError as error:
            raise CutoutError(path, f"its mask {mask} {error.reason}") from error
    return MaskedCutout(found.pixels, _fitted(own, found.pixels, path, mask), found.ra, found.dec)


def check_layout(found: MaskedCutout, layout: Layout, path: Path) -> None:
    """Raise a CutoutError if a cutout is unlike the others of its pack."""
    plane = found.pixels.shape[1:]
    if plane != layout.plane:
        sizes = [" x ".join(map(str, sides)) for sides in (plane, layout.plane)]
        reason = f"has {sizes[0]} pixels, {layout.model} has {sizes[1]}; a pack has one size."
        raise CutoutError(path, reason)
    if (found.mask is not None) != layout.has_masks:
        have = ("no mask", "one") if layout.has_masks else ("a mask", "none")
        reason = f"has {have[0]}, {layout.model} has {have[1]}; all need a mask, or none has one."
        raise CutoutError(path, reason)


def _own_mask(path: Path) -> NDArray[Any] | None:
    if not path.name.lower().endswith(".npz"):
        return None
    with zipfile.ZipFile(path) as archive:
        if "mask.npy" not in archive.namelist():
            return None
    try:
        return _load(path)
    except CutoutError as error:
        raise CutoutError(path, f"its array 'mask' {error.reason}") from error


def _load(path: Path) -> NDArray[Any]:
    """The array ``mask`` of an ``.npz``, with bands last; or a ``.npy``, with bands first."""
    try:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.ndarray):
            with loaded:
                mask: NDArray[Any] = loaded["mask"]
            return mask.transpose(2, 0, 1) if mask.ndim == 3 else mask
    # NumPy and zipfile raise a dozen kinds of errors on bad bytes.
    except Exception as error:
        why = (isinstance(error, OSError) and error.strerror) or f"{type(error).__name__}: {error}"
        raise CutoutError(path, f"cannot be read: {why}.") from error
    return np.asarray(loaded)


def _fitted(
    mask: NDArray[Any] | None, pixels: NDArray[np.float32], path: Path, name: str | None
) -> NDArray[np.bool_] | None:
    if mask is None:
        return None
    what = "its array 'mask'" if name is None else f"its mask {name}"
    is_flag = mask.dtype == bool or (mask.dtype.kind in "iu" and np.isin(mask, (0, 1)).all())
    if not is_flag:
        reason = f"{what} has dtype {mask.dtype}; allowed are bool, or 0 and 1 (1 is bad)."
        raise CutoutError(path, reason)
    if mask.shape not in (pixels.shape, pixels.shape[1:]):
        reason = f"{what} has shape {mask.shape} (bands first), its pixels {pixels.shape}."
        raise CutoutError(path, reason)
    return np.ascontiguousarray(np.broadcast_to(mask.astype(bool), pixels.shape))
