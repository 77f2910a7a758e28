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
    model.eval()
    count = len(data)
    logits = np.zeros(count, np.float32)
    with torch.inference_mode():
        for start in range(rank * batch_size, count, world * batch_size):
            wanted = np.arange(start, start + batch_size)
            images, mask = data.read(np.minimum(wanted, count - 1))
            bad = None if mask is None else mask.to(device)
            got = model(images.to(device), mask=bad)[: count - start].float().cpu().numpy()
            logits[start : start + batch_size] = got
            if progress is not None:
                progress(min(start + batch_size, count), count)
    return logits
