"""Splits into training and validation, which keep neighbours on the sky together."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

SPLITS = ("train", "val", "test")
NSIDE = 128
"""HEALPix resolution of the pixels that are never divided, 0.46 degrees on a side."""


def assign_splits(
    ids: Sequence[str] | NDArray[np.str_],
    ra: ArrayLike | None,
    dec: ArrayLike | None,
    *,
    train_fraction: float = 0.7,
    seed: int = 42,
) -> NDArray[np.str_]:
    """Assign every cutout to ``train`` or ``val`` by its position on the sky.

    All cutouts in a HEALPix pixel (nside 128, nested; Gorski et al. 2005) go into the same
    split. A cutout without a position is assigned by its id. The draw is a hash of the pixel (or
    id) and the seed, so a split does not depend on the other cutouts or on their order.

    Parameters
    ----------
    ids : (N,) sequence of str
        Ids of the cutouts.
    ra, dec : (N,) array, optional
        Degrees; NaN where unknown.
    train_fraction : float
        Fraction of the pixels that go into ``train``, in (0, 1).
    seed : int
        Random seed.

    Returns
    -------
    (N,) array of str
        ``"train"`` or ``"val"``.

    Raises
    ------
    ValueError
        The fraction is out of range, or the arrays have different lengths.
    """
    if not 0 < train_fraction < 1:
        raise ValueError(f"train_fraction={train_fraction!r} is not between 0 and 1.")
    number, groups = pd.factorize(_groups(ids, ra, dec))
    is_train = np.array([_draw(seed, group) < train_fraction for group in groups], bool)
    return np.where(is_train[number], "train", "val")


def find_leaks(
    ids: Sequence[str] | NDArray[np.str_],
    ra: ArrayLike | None,
    dec: ArrayLike | None,
    split: Sequence[str] | NDArray[np.str_],
) -> list[str]:
    """Find the ids and HEALPix pixels that are in two splits.

    Parameters
    ----------
    ids : (N,) sequence of str
        Ids of the cutouts.
    ra, dec : (N,) array, optional
        Degrees; NaN where unknown.
    split : (N,) sequence of str
        Split of every cutout.

    Returns
    -------
    list of str
        One human-readable line per leak.
    """
    groups = _groups(ids, ra, dec)
    leaks = []
    for keys in (np.asarray(ids, str).astype(object), groups):
        pairs = pd.DataFrame({"key": keys, "split": np.asarray(split, str)}).drop_duplicates()
        several = pairs[pairs.duplicated("key", keep=False)]
        for key, found in several.groupby("key", sort=True)["split"]:
            what = key if key.startswith("HEALPix") else f"id {key}"
            leaks.append(f"{what} is in {' and '.join(sorted(found))}")
    return list(dict.fromkeys(leaks))


def _groups(
    ids: Sequence[str] | NDArray[np.str_], ra: ArrayLike | None, dec: ArrayLike | None
) -> NDArray[np.object_]:
    groups = np.asarray(ids, str).astype(object)
    if ra is None or dec is None:
        return groups
    longitude, latitude = np.asarray(ra, float), np.asarray(dec, float)
    if not longitude.shape == latitude.shape == groups.shape:
        raise ValueError(
            f"ids, ra and dec have the shapes {groups.shape}, {longitude.shape} and "
            f"{latitude.shape}; all three must be equal."
        )
    is_known = np.isfinite(longitude) & np.isfinite(latitude)
    if is_known.any():
        from astropy import units
        from astropy_healpix import HEALPix

        pixels = HEALPix(nside=NSIDE, order="nested").lonlat_to_healpix(
            longitude[is_known] * units.deg, latitude[is_known] * units.deg
        )
        groups[is_known] = [f"HEALPix {pixel}" for pixel in pixels]
    return groups


def _draw(seed: int, group: str) -> float:
    digest = hashlib.blake2b(f"{seed}:{group}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
