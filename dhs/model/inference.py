"""Logits of many cutouts, in batches of one size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class Rows(Protocol):
    """What gives raw cutouts by their positions, as `dhs.data.LensDataset` does."""

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
    """Run a lens finder over a dataset.

    A network's last bits change with the size of the batch, so the last batch is filled up with
    repetitions of its last cutout, whose logits are dropped.

    Parameters
    ----------
    model : nn.Module
        A `dhs.model.LensFinder` on ``device``; it is put into evaluation mode.
    data : Rows
    batch_size : int
    device : torch.device
    rank, world : int
        This process takes every ``world``-th batch; the logits of the others are 0.
    progress : function, optional
        Called with how many cutouts are done and how many there are.

    Returns
    -------
    (N,) float32
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
    """Run a lens finder over a dataset, and hand on the logits of each batch.

    Parameters
    ----------
    keep : function
        Called after each batch with the position of its first cutout and its logits, those of the
        repetitions left out.
    model, data, batch_size, device, rank, world, progress
        As of `logits_of`.
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
