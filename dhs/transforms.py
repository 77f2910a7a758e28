"""Augmentation that a seed reproduces exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnorm.annulus import radius_map
from fastnorm.kinds import flag

FEWEST_SHUFFLED = 4


@dataclass
class AugmentConfig:
    """Settings of `random_augment`, which existing scripts change by assignment.

    Attributes
    ----------
    hflip, vflip : bool
        Reverse the columns and the rows, each with probability one half.
    rot90 : bool
        Rotate by 0 to 3 quarter turns.
    core_dropout_prob : float
        Probability of setting the pixels with ``r < core_radius`` to 0.
    core_radius : float
        Radius of the core in pixels.
    az_shuffle_prob : float
        Probability of permuting the pixels within each ring, one pixel wide.
    az_shuffle_rmax : int
        Rings ``k <= r < k + 1`` for ``k`` below this are permuted.
    """

    hflip: bool = True
    vflip: bool = True
    rot90: bool = True
    core_dropout_prob: float = 0.0
    core_radius: float = 5.0
    az_shuffle_prob: float = 0.0
    az_shuffle_rmax: int = 32

    def __post_init__(self) -> None:
        for name in ("hflip", "vflip", "rot90"):
            flag(name, getattr(self, name))


def random_augment(img3: NDArray[Any], seed: int, cfg: AugmentConfig) -> NDArray[np.float32]:
    """Flip, rotate and corrupt one cutout with ``numpy.random.default_rng(seed)``.

    Parameters
    ----------
    img3 : (C, H, W) array
        Cutout; it is not modified.
    seed : int
        Seed of this cutout and epoch.
    cfg : AugmentConfig
        Settings.

    Returns
    -------
    (C, H, W) float32 array
        New array, in the byte order of the machine. An odd number of quarter turns swaps H and W.

    Notes
    -----
    The draws follow the order of the fields of `AugmentConfig`. A draw happens only if its flag is
    set or its probability is above 0, so a seed has the same result in every program.
    """
    rng = np.random.default_rng(seed)
    if cfg.hflip and rng.random() < 0.5:
        img3 = img3[..., ::-1]
    if cfg.vflip and rng.random() < 0.5:
        img3 = img3[..., ::-1, :]
    if cfg.rot90:
        img3 = np.rot90(img3, k=int(rng.integers(0, 4)), axes=(-2, -1))
    out = _float32(img3)
    radius = radius_map(*out.shape[-2:])
    if cfg.core_dropout_prob > 0 and rng.random() < cfg.core_dropout_prob:
        out[..., radius < cfg.core_radius] = 0
    if cfg.az_shuffle_prob > 0 and rng.random() < cfg.az_shuffle_prob:
        _shuffle_rings(out, radius, cfg.az_shuffle_rmax, int(rng.integers(0, 2**31 - 1)))
    return out


def azimuthal_shuffle(img3: NDArray[Any], seed: int, rmax: int = 32) -> NDArray[np.float32]:
    """Permute the pixels within each ring, one pixel wide, the same way in all bands.

    Parameters
    ----------
    img3 : (C, H, W) array
        Cutout; it is not modified.
    seed : int
        Seed of ``numpy.random.default_rng``.
    rmax : int
        Rings ``k <= r < k + 1`` for ``k`` below this are permuted, if they have 4 pixels or more.

    Returns
    -------
    (C, H, W) float32 array
        New array.
    """
    out = _float32(img3)
    _shuffle_rings(out, radius_map(*out.shape[-2:]), rmax, seed)
    return out


def _float32(img3: NDArray[Any]) -> NDArray[np.float32]:
    """Return a contiguous copy, with values beyond float32 as infinity."""
    with np.errstate(over="ignore"):
        return np.array(img3, dtype=np.float32, order="C")


def _shuffle_rings(img3: NDArray[Any], radius: NDArray[np.float64], rings: int, seed: int) -> None:
    """Permute the pixels of each ring in place, the same way in all bands."""
    rng = np.random.default_rng(seed)
    flat = img3.reshape(*img3.shape[:-2], -1)
    ring = np.floor(radius).astype(np.intp).reshape(-1)
    for k in range(rings):
        pixels = np.flatnonzero(ring == k)
        if pixels.size >= FEWEST_SHUFFLED:
            flat[..., pixels] = flat[..., rng.permutation(pixels)]
