"""Augmentation, exactly reproducible from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnorm.annulus import radius_map

FEWEST_SHUFFLED = 4


@dataclass(frozen=True)
class AugmentConfig:
    """What `random_augment` may do.

    Attributes
    ----------
    hflip, vflip : bool
        Reverse the columns, the rows, each with probability one half.
    rot90 : bool
        Turn by 0 to 3 quarter turns.
    core_dropout_prob : float
        Probability of setting the pixels with ``r < core_radius`` to 0.
    core_radius : float
        In pixels.
    az_shuffle_prob : float
        Probability of permuting the pixels within every ring of width one.
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


def random_augment(img3: NDArray[Any], seed: int, cfg: AugmentConfig) -> NDArray[Any]:
    """Flip, turn and corrupt one cutout, drawing from ``numpy.random.default_rng(seed)``.

    Parameters
    ----------
    img3 : (C, H, W) array
        Not modified.
    seed : int
        Of this sample and epoch.
    cfg : AugmentConfig

    Returns
    -------
    (C, H, W) array
        A new array; H and W are exchanged by an odd number of quarter turns.

    Notes
    -----
    The draws come in the order of the fields of `AugmentConfig`, each only if
    its flag is set or its probability above 0, so that a seed means the same in
    every program.
    """
    rng = np.random.default_rng(seed)
    if cfg.hflip and rng.random() < 0.5:
        img3 = img3[..., ::-1]
    if cfg.vflip and rng.random() < 0.5:
        img3 = img3[..., ::-1, :]
    if cfg.rot90:
        img3 = np.rot90(img3, k=int(rng.integers(0, 4)), axes=(-2, -1))
    out = img3.copy()
    radius = radius_map(*out.shape[-2:])
    if cfg.core_dropout_prob > 0 and rng.random() < cfg.core_dropout_prob:
        out[..., radius < cfg.core_radius] = 0
    if cfg.az_shuffle_prob > 0 and rng.random() < cfg.az_shuffle_prob:
        _shuffle_rings(out, radius, cfg.az_shuffle_rmax, int(rng.integers(0, 2**31 - 1)))
    return out


def _shuffle_rings(img3: NDArray[Any], radius: NDArray[np.float64], rings: int, seed: int) -> None:
    """Permute the pixels of every ring in place, alike in all bands."""
    rng = np.random.default_rng(seed)
    flat = img3.reshape(*img3.shape[:-2], -1)
    ring = np.floor(radius).astype(np.intp).reshape(-1)
    for k in range(rings):
        pixels = np.flatnonzero(ring == k)
        if pixels.size >= FEWEST_SHUFFLED:
            flat[..., pixels] = flat[..., rng.permutation(pixels)]
