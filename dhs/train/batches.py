"""Batches for a training: read ahead by a thread, raw, and on their device."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dhs.data import LensDataset
from dhs.train.augmentation import dihedral_elements, is_dihedral
from dhs.train.sampler import BatchSampler
from dhs.transforms import AugmentConfig


@dataclass(frozen=True)
class Batch:
    """What a step of a training takes.

    Attributes
    ----------
    images : (B, C, H, W) float32 tensor
        Raw; or all that there are, if ``index`` says which.
    labels : (B,) float32 tensor
    weights : (B,) float32 tensor, or None
    dihedral : (B,) int64 tensor, or None
        How to flip and turn; None without augmentation, or where that is not all of it.
    mask : bool tensor like ``images``, or None
        True means bad.
    index : (B,) int64 tensor, or None
    positions : (B,) int64 array
        In the dataset.
    """

    images: Tensor
    labels: Tensor
    weights: Tensor | None
    dihedral: Tensor | None
    mask: Tensor | None
    index: Tensor | None
    positions: NDArray[np.int64]

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        if device.type == "cpu":
            return self
        tensors = {
            name: value.to(device, non_blocking=True)
            for name, value in vars(self).items()
            if isinstance(value, Tensor)
        }
        return Batch(**(vars(self) | tensors))


class Batches:
    """What is left of a sampler's epoch, as batches.

    Parameters
    ----------
    dataset : LensDataset
    sampler : BatchSampler
        Moved on when a batch is given out, not when it is read.
    device : torch.device
    augment : AugmentConfig, optional
        What `Batch.dihedral` follows from; without it there is none.
    seed : int
        Of the augmentation.
    resident : (Tensor, Tensor or None), optional
        The cutouts and masks on the device, as of `LensDataset.resident`.
    prefetch : int
        Batches to read ahead, at least 1.
    """

    def __init__(
        self,
        dataset: LensDataset,
        sampler: BatchSampler,
        *,
        device: torch.device,
        augment: AugmentConfig | None = None,
        seed: int = 0,
        resident: tuple[Tensor, Tensor | None] | None = None,
        prefetch: int = 2,
    ) -> None:
        self.dataset, self.sampler, self.device = dataset, sampler, device
        self.augment, self.seed, self.resident, self.prefetch = augment, seed, resident, prefetch
        if prefetch < 1:
            raise ValueError(f"prefetch={prefetch} is not at least 1.")
        self._memory = _Memory(is_pinned=device.type == "cuda")

    def __iter__(self) -> Generator[Batch]:
        """Give out batches; an error of the reading thread is raised here."""
        ahead, epoch = self.sampler.batches(), self.sampler.epoch
        pending: deque[Future[Batch]] = deque()

        def read_ahead(count: int) -> None:
            for positions in islice(ahead, count):
                pending.append(reader.submit(self._read, positions, epoch))

        with ExitStack() as exits:
            reader = ThreadPoolExecutor(1, "dhs-batches", self._start_reader)
            exits.callback(reader.shutdown, cancel_futures=True)
            read_ahead(self.prefetch)
            while pending:
                batch = pending.popleft().result()
                read_ahead(1)
                self.sampler.given_out += 1
                yield batch.to(self.device)
                del batch

    def _start_reader(self) -> None:
        # Or else the thread would pin memory, and hold some, on the first GPU.
        if self.device.type == "cuda" and self.device.index is not None:
            torch.cuda.set_device(self.device)

    def _read(self, positions: NDArray[np.int64], epoch: int) -> Batch:
        data, dihedral = self.dataset, None
        if self.augment is not None and is_dihedral(self.augment):
            elements = dihedral_elements(self.seed, positions, epoch, len(data), self.augment)
            dihedral = torch.from_numpy(elements)
        labels = torch.from_numpy(data.labels[positions])
        weights = None if data.weights is None else torch.from_numpy(data.weights[positions])
        if self.resident is not None:
            images, mask = self.resident
            index = torch.from_numpy(positions)
            return Batch(images, labels, weights, dihedral, mask, index, positions)
        images, mask = data.read(positions, out=self._memory.take(len(positions), data.shape))
        return Batch(images, labels, weights, dihedral, mask, None, positions)


class _Memory:
    """Memory for images, given again when no tensor refers to it any more.

    Fresh memory costs as much as what is copied into it. PyTorch's own pinned memory is kept for
    reuse as well, and knows of copies to a GPU that are not done yet.
    """

    def __init__(self, is_pinned: bool) -> None:
        self._is_pinned = is_pinned
        self._free: list[NDArray[np.float32]] = []

    def take(self, count: int, shape: tuple[int, ...]) -> Tensor:
        if self._is_pinned:
            return torch.empty((count, *shape), pin_memory=True)
        images = self._free.pop() if self._free else np.empty((count, *shape), np.float32)
        # The last one used is the likeliest in the cache. A view lives as long as tensors on it.
        lent = images.view()
        weakref.finalize(lent, self._free.append, images).atexit = False
        return torch.from_numpy(lent)
