"""Batches for a training: read ahead by a thread, raw, and on their device."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dhs.augmentation import dihedral_elements, is_dihedral
from dhs.data import LensDataset
from dhs.sampler import BatchSampler
from dhs.transforms import AugmentConfig

_END = object()


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
        How to flip and turn; None where that is not all of the augmentation.
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
    seed : int
        Of the augmentation.
    resident : (Tensor, Tensor or None), optional
        The cutouts and masks on the device, as of `LensDataset.resident`.
    prefetch : int
        Batches to read ahead.
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

    def __iter__(self) -> Generator[Batch]:
        """Give out batches; an error of the reading thread is raised here."""
        ready: queue.Queue[object] = queue.Queue(self.prefetch)
        is_closed = threading.Event()
        # Looked at here: what the sampler gives out moves on while the thread reads ahead.
        ahead, epoch = list(self.sampler.batches()), self.sampler.epoch

        def put(item: object) -> bool:
            while not is_closed.is_set():
                try:
                    ready.put(item, timeout=0.1)
                except queue.Full:
                    continue
                return True
            return False

        def read() -> None:
            try:
                for positions in ahead:
                    if not put(self._read(positions, epoch)):
                        return
                put(_END)
            except BaseException as error:
                put(error)

        thread = threading.Thread(target=read, name="dhs-batches", daemon=True)
        thread.start()
        try:
            while True:
                item = ready.get()
                if item is _END:
                    return
                if isinstance(item, BaseException):
                    raise item
                assert isinstance(item, Batch)
                self.sampler.given_out += 1
                yield item.to(self.device)
        finally:
            is_closed.set()
            thread.join()

    def _read(self, positions: NDArray[np.int64], epoch: int) -> Batch:
        data, dihedral = self.dataset, None
        if self.augment is None or is_dihedral(self.augment):
            config = self.augment or AugmentConfig(hflip=False, vflip=False, rot90=False)
            elements = dihedral_elements(self.seed, positions, epoch, len(data), config)
            dihedral = torch.from_numpy(elements)
        labels = torch.from_numpy(data.labels[positions])
        weights = None if data.weights is None else torch.from_numpy(data.weights[positions])
        if self.resident is not None:
            images, mask = self.resident
            index = torch.from_numpy(positions)
            return Batch(images, labels, weights, dihedral, mask, index, positions)
        images, mask = data.read(positions)
        if self.device.type == "cuda":
            images = images.pin_memory()
        return Batch(images, labels, weights, dihedral, mask, None, positions)
