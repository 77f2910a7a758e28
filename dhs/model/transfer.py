"""Batches that are copied to a device, and their results, while the host does not wait."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dhs.device.copies import to_device

BATCHES_PER_READ = {"cpu": 1, "cuda": 16}
"""Batches whose results are read back together. On a CPU there is nothing to wait for."""
MOST_BATCHES_QUEUED = 2

Stack = tuple[Tensor, Tensor | None]
"""Images and, or None, their mask."""


def sent_ahead(stacks: Iterable[Stack], device: torch.device) -> Iterator[Stack]:
    """Yield stacks on a device, each copied while the device works on the one before.

    The host waits only where two stacks are queued on the device, which limits the memory.

    Parameters
    ----------
    stacks : iterable of (Tensor, Tensor or None)
        Images and masks on the CPU.
    device : torch.device
        Device that uses them, in its current stream.

    Yields
    ------
    (Tensor, Tensor or None)
        Images and mask on the device.
    """
    if device.type == "cpu":
        yield from stacks
        return
    lane = Lane(device)
    for images, mask in stacks:
        lane.wait_for_room()
        yield lane.send(images, mask)
        lane.mark()


class Lane:
    """A stream of copies to a GPU, next to the stream that computes.

    Parameters
    ----------
    device : torch.device
        The GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._marks: deque[torch.cuda.Event] = deque()

    def send(self, images: Tensor, mask: Tensor | None) -> Stack:
        """Copy a stack; work that is queued from now on waits for the copy, but not the host."""
        working = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self._copies):
            there = to_device(images, self.device)
            bad = None if mask is None else to_device(mask, self.device)
        working.wait_stream(self._copies)
        for tensor in (there, bad):
            if tensor is not None:
                # Its memory belongs to the other stream, which must not reuse it too early.
                tensor.record_stream(working)
        return there, bad

    def mark(self) -> None:
        """Mark the end of the work on a stack."""
        self._marks.append(torch.cuda.current_stream(self.device).record_event())

    def wait_for_room(self) -> None:
        """Wait while the work on `MOST_BATCHES_QUEUED` stacks is unfinished."""
        while len(self._marks) >= MOST_BATCHES_QUEUED:
            self._marks.popleft().synchronize()


class Gathered:
    """Results of batches, which stay on their device until many are read at once.

    Parameters
    ----------
    out : (N, ...) float32 array
        Receives the results.
    device : torch.device
        Device of the results.
    """

    def __init__(self, out: NDArray[np.float32], device: torch.device) -> None:
        self._out, self._most = out, BATCHES_PER_READ[device.type]
        self._held: list[tuple[int, Tensor]] = []

    def add(self, start: int, rows: Tensor) -> None:
        """Keep the results of one batch, the first of which belongs to row ``start``."""
        self._held.append((start, rows.float()))
        if len(self._held) >= self._most:
            self.read()

    def read(self) -> None:
        """Write all results that are held to the array."""
        if not self._held:
            return
        values = torch.cat([rows for _, rows in self._held]).cpu().numpy()
        done = 0
        for start, rows in self._held:
            self._out[start : start + len(rows)] = values[done : done + len(rows)]
            done += len(rows)
        self._held.clear()
