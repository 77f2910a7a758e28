"""Compute the logits of many cutouts in batches of equal size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class Rows(Protocol):
    """A source of raw cutouts by position, such as `dhs.data.LensDataset`."""

    def __len__(self) -> int: ...

    def read(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor | None]: ...


def logits_of(
    model: nn.Module,
    data: Rows,
    batch_size: int,
    device: torch.device,
    *,
    rank: int = 0,
    world: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Run a lens finder over a dataset, and return the logits.

    The last bits of a logit depend on the batch size. The last batch is therefore filled with
    copies of its last cutout, and the logits of the copies are dropped.

    Parameters
    ----------
    model : nn.Module
        A `dhs.model.LensFinder` on ``device``. It is switched to evaluation mode.
    data : Rows
        Source of the cutouts.
    batch_size : int
        Cutouts per forward pass.
    device : torch.device
        Device of the model.
    rank : int
        Number of this process, from 0.
    world : int
        Number of processes. Each process takes every ``world``-th batch.
    progress : function, optional
        Called after each batch with the number of cutouts done and the total.

    Returns
    -------
    (N,) float32 array
        Logits; 0 for the batches of other processes.
    """
    logits = np.zeros(len(data), np.float32)

    def keep(start: int, got: Tensor) -> None:
        logits[start : start + len(got)] = got.float().cpu().numpy()

    run_batches(model, data, batch_size, device, keep, rank=rank, world=world, progress=progress)
    return logits


def run_batches(
    model: nn.Module,
    data: Rows,
    batch_size: int,
    device: torch.device,
    keep: Callable[[int, Tensor], None],
    *,
    rank: int = 0,
    world: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Run a lens finder over a dataset, and pass the logits of each batch to a function.

    Parameters
    ----------
    model : nn.Module
        A `dhs.model.LensFinder` on ``device``. It is switched to evaluation mode.
    data : Rows
        Source of the cutouts.
    batch_size : int
        Cutouts per forward pass; see `logits_of` for the last batch.
    device : torch.device
        Device of the model.
    keep : function
        Called after each batch with the position of its first cutout and the logits of its
        cutouts, without those of the copies.
    rank : int
        Number of this process, from 0.
    world : int
        Number of processes. Each process takes every ``world``-th batch.
    progress : function, optional
        Called after each batch with the number of cutouts done and the total.
    """
    model.eval()
    count = len(data)
    with torch.inference_mode():
        for start in range(rank * batch_size, count, world * batch_size):
            wanted = np.arange(start, start + batch_size)
            images, mask = data.read(np.minimum(wanted, count - 1))
            bad = None if mask is None else mask.to(device)
            keep(start, model(images.to(device), mask=bad)[: count - start])
            if progress is not None:
                progress(min(start + batch_size, count), count)
