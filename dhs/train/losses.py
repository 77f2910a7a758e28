"""Losses of training steps, which stay on the device until many are read at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

STEPS_PER_READ = {"cpu": 1, "cuda": 64}
"""Steps whose losses are read together. On a CPU there is nothing to wait for."""


class StepLosses(NamedTuple):
    """Losses of one step.

    ``step``: number of the step within its epoch, from 0. ``values``: loss of each micro-batch.
    ``positions``: positions in the dataset of the cutouts of each micro-batch.
    """

    step: int
    values: list[float]
    positions: Sequence[NDArray[np.int64]]


class Losses:
    """Losses that are not read yet.

    Parameters
    ----------
    device : torch.device
        Device that computes the losses.
    """

    def __init__(self, device: torch.device) -> None:
        self._most = STEPS_PER_READ[device.type]
        self._held: list[tuple[int, Tensor, Sequence[NDArray[np.int64]]]] = []

    @property
    def are_due(self) -> bool:
        """True if as many steps are held as are read together."""
        return len(self._held) >= self._most

    def add(
        self, step: int, losses: Sequence[Tensor], positions: Sequence[NDArray[np.int64]]
    ) -> None:
        """Keep the losses of one step.

        Parameters
        ----------
        step : int
            Number of the step within its epoch, from 0.
        losses : sequence of 0-d tensors
            Loss of each micro-batch.
        positions : sequence of (B,) int64 arrays
            Positions in the dataset of the cutouts of each micro-batch.
        """
        self._held.append((step, torch.stack(list(losses)), positions))

    def read(self) -> Iterator[StepLosses]:
        """Yield the losses of all steps that are held. The host waits for the device once."""
        held, self._held = self._held, []
        if held:
            values = torch.stack([losses for _, losses, _ in held]).tolist()
            for (step, _, positions), row in zip(held, values, strict=True):
                yield StepLosses(step, row, positions)
