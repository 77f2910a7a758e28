"""Augment batches exactly as `dhs.transforms.random_augment` augments single cutouts."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dhs.transforms import AugmentConfig, random_augment


def sample_seed(seed: int, position: int, epoch: int, n: int) -> int:
    """Return the seed of one cutout in one epoch, by the formula of the published pipeline.

    Parameters
    ----------
    seed : int
        Random seed of the training.
    position : int
        Position of the cutout in the dataset.
    epoch : int
        Epoch, counted from 0.
    n : int
        Number of cutouts in the dataset.

    Returns
    -------
    int
        31-bit seed.
    """
    return (seed * 1_000_003 + position + epoch * n) & 0x7FFFFFFF


def is_dihedral(config: AugmentConfig) -> bool:
    """Return whether the augmentation has only flips and quarter turns.

    The normaliser applies those itself.
    """
    return config.core_dropout_prob == 0 and config.az_shuffle_prob == 0


def dihedral_elements(
    seed: int, positions: NDArray[np.int64], epoch: int, n: int, config: AugmentConfig
) -> NDArray[np.int64]:
    """Return the flips and quarter turns that `random_augment` draws for each cutout.

    Parameters
    ----------
    seed : int
        Random seed of the training.
    positions : (B,) int64 array
        Positions of the cutouts in the dataset.
    epoch : int
        Epoch, counted from 0.
    n : int
        Number of cutouts in the dataset.
    config : AugmentConfig
        Augmentation with flips and quarter turns only.

    Returns
    -------
    (B,) int64 array
        ``k + 4 * f``: reverse the columns if ``f`` is 1, then apply ``k`` quarter turns.
    """
    elements = np.empty(len(positions), np.int64)
    for i, position in enumerate(positions.tolist()):
        rng = np.random.default_rng(sample_seed(seed, position, epoch, n))
        flips, turns = 0, 0
        if config.hflip and rng.random() < 0.5:
            flips += 1
        if config.vflip and rng.random() < 0.5:
            # Reversing the rows equals reversing the columns, then a half turn.
            flips, turns = flips + 1, 2
        if config.rot90:
            turns += int(rng.integers(0, 4))
        elements[i] = turns % 4 + 4 * (flips % 2)
    return elements


def augment_batch(
    images: Tensor,
    seed: int,
    positions: NDArray[np.int64],
    epoch: int,
    n: int,
    config: AugmentConfig,
) -> Tensor:
    """Apply `random_augment` to each normalised cutout, one at a time, on the CPU.

    Parameters
    ----------
    images : (B, C, H, W) tensor
        Normalised cutouts, on any device.
    seed : int
        Random seed of the training.
    positions : (B,) int64 array
        Positions of the cutouts in the dataset.
    epoch : int
        Epoch, counted from 0.
    n : int
        Number of cutouts in the dataset.
    config : AugmentConfig
        Any augmentation.

    Returns
    -------
    (B, C, H, W) tensor
        On the same device and in the same memory format as ``images``.
    """
    stack = images.detach().cpu().numpy()
    turned = [
        random_augment(image, sample_seed(seed, position, epoch, n), config)
        for image, position in zip(stack, positions.tolist(), strict=True)
    ]
    return torch.empty_like(images).copy_(torch.from_numpy(np.stack(turned)))
