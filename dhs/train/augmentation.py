"""Augmentation of batches: for every cutout what `dhs.transforms.random_augment` does to it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dhs.transforms import AugmentConfig, random_augment


def sample_seed(seed: int, position: int, epoch: int, n: int) -> int:
    """Seed of one cutout in one epoch, as the existing datasets have it."""
    return (seed * 1_000_003 + position + epoch * n) & 0x7FFFFFFF


def is_dihedral(config: AugmentConfig) -> bool:
    """Whether nothing but flips and quarter turns is done, which the normaliser does itself."""
    return config.core_dropout_prob == 0 and config.az_shuffle_prob == 0


def dihedral_elements(
    seed: int, positions: NDArray[np.int64], epoch: int, n: int, config: AugmentConfig
) -> NDArray[np.int64]:
    """How `random_augment` flips and turns cutouts.

    Parameters
    ----------
    seed : int
    positions : (B,) int64
        In the dataset.
    epoch : int
    n : int
        Size of the dataset.
    config : AugmentConfig
        With flips and turns alone.

    Returns
    -------
    (B,) int64
        ``k + 4 * f``: reverse the columns if ``f``, then ``k`` quarter turns.
    """
    elements = np.empty(len(positions), np.int64)
    for i, position in enumerate(positions.tolist()):
        rng = np.random.default_rng(sample_seed(seed, position, epoch, n))
        flips, turns = 0, 0
        if config.hflip and rng.random() < 0.5:
            flips += 1
        if config.vflip and rng.random() < 0.5:
            # Reversed rows are a half turn after reversed columns.
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
    """Apply `random_augment` to every normalised cutout, one by one, on the CPU.

    Parameters
    ----------
    images : (B, C, H, W) tensor
    seed, positions, epoch, n, config
        As of `dihedral_elements`; any augmentation.

    Returns
    -------
    (B, C, H, W) tensor
        On the device and in the order of memory of ``images``.
    """
    stack = images.detach().cpu().numpy()
    turned = [
        random_augment(image, sample_seed(seed, position, epoch, n), config)
        for image, position in zip(stack, positions.tolist(), strict=True)
    ]
    return torch.empty_like(images).copy_(torch.from_numpy(np.stack(turned)))
