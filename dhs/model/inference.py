"""Compute the logits of many cutouts in batches of equal size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dhs.model.transfer import Gathered, sent_ahead


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
    gathered = Gathered(logits, device)
    run_batches(
        model, data, batch_size, device, gathered.add, rank=rank, world=world, progress=progress
    )
    gathered.read()
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

    On a GPU, a batch is copied while the model works on the one before, and the host waits for
    the device only where two batches are queued.

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
        cutouts, without those of the copies, on the device. A GPU may still be computing them.
    rank : int
        Number of this process, from 0.
    world : int
        Number of processes. Each process takes every ``world``-th batch.
    progress : function, optional
        Called after each batch with the number of cutouts done and the total.
    """
    model.eval()
    count = len(data)
    starts = range(rank * batch_size, count, world * batch_size)
    stacks = (
        data.read(np.minimum(np.arange(start, start + batch_size), count - 1)) for start in starts
    )
    with torch.inference_mode():
        for start, (images, mask) in zip(starts, sent_ahead(stacks, device), strict=True):
            keep(start, model(images, mask=mask)[: count - start])
            if progress is not None:
                progress(min(start + batch_size, count), count)
