"""Batches of raw cutouts for training, read ahead by a thread and moved to the device."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dhs.data import LensDataset
from dhs.device.copies import pinned, stage, to_device
from dhs.train.augmentation import dihedral_elements, is_dihedral
from dhs.train.sampler import BatchSampler
from dhs.transforms import AugmentConfig


@dataclass(frozen=True)
class Batch:
    """The input of one micro-batch.

    Attributes
    ----------
    images : (B, C, H, W) float32 tensor
        Raw cutouts in nanomaggies. With ``index``, all N cutouts of the split.
    labels : (B,) float32 tensor
        0 or 1.
    weights : (B,) float32 tensor, or None
        Sample weights.
    dihedral : (B,) int64 tensor, or None
        Flips and quarter turns, see `dihedral_elements`. None without augmentation, or if the
        augmentation has other parts.
    mask : bool tensor like ``images``, or None
        True marks a bad pixel.
    index : (B,) int64 tensor, or None
        Rows of ``images`` that form the batch. None means all rows.
    positions : (B,) int64 array
        Positions of the cutouts in the dataset.
    """

    images: Tensor
    labels: Tensor
    weights: Tensor | None
    dihedral: Tensor | None
    mask: Tensor | None
    index: Tensor | None
    positions: NDArray[np.int64]

    def pinned(self) -> Batch:
        """Return this batch in pinned memory, so that `to` does not wait."""
        return self._each(pinned)

    def to(self, device: torch.device) -> Batch:
        """Return this batch on a device."""
        return self._each(lambda tensor: to_device(tensor, device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        tensors = {
            name: change(value) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return Batch(**(vars(self) | tensors))


class Batches:
    """The remaining batches of a sampler's epoch.

    Parameters
    ----------
    dataset : LensDataset
        Dataset to read from.
    sampler : BatchSampler
        Sampler of the positions. It advances when a batch is handed out, not when it is read.
    device : torch.device
        Device of the batches.
    augment : AugmentConfig, optional
        Augmentation that determines `Batch.dihedral`. Without it, `Batch.dihedral` is None.
    seed : int
        Random seed of the augmentation.
    resident : (Tensor, Tensor or None), optional
        Cutouts and masks on the device: the result of `LensDataset.resident`.
    prefetch : int
        Number of batches to read ahead, at least 1.

    Raises
    ------
    ValueError
        ``prefetch`` is below 1.
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
            raise ValueError(f"prefetch={prefetch} must be at least 1.")
        self._memory = _Memory(device)

    def __iter__(self) -> Generator[Batch]:
        """Yield batches, and raise here any error of the reading thread."""
        ahead, epoch = self.sampler.batches(), self.sampler.epoch
        pending: deque[Future[Batch]] = deque()

        def read_ahead(count: int) -> None:
            for positions in islice(ahead, count):
                pending.append(reader.submit(self._staged, positions, epoch))

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
        # Otherwise the thread pins memory on, and takes memory of, the first GPU.
        if self.device.type == "cuda" and self.device.index is not None:
            torch.cuda.set_device(self.device)

    def _staged(self, positions: NDArray[np.int64], epoch: int) -> Batch:
        batch = self._read(positions, epoch)
        return batch if self.device.type == "cpu" else batch.pinned()

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
    """A pool of image buffers, each reused once no tensor refers to it.

    Allocating fresh memory takes as long as the copy into it. For pinned memory, PyTorch's own
    allocator also reuses buffers, and it waits for pending copies to the GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._free: list[NDArray[np.float32]] = []

    def take(self, count: int, shape: tuple[int, ...]) -> Tensor:
        if self._device.type == "cuda":
            return stage((count, *shape), torch.float32, self._device)
        images = self._free.pop() if self._free else np.empty((count, *shape), np.float32)
        # The last buffer is the likeliest to be cached. The view lives as long as its tensors.
        lent = images.view()
        weakref.finalize(lent, self._free.append, images).atexit = False
        return torch.from_numpy(lent)
