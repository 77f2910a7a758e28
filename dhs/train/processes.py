"""One process or many: what `torchrun` started, and what the processes do together."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn


@dataclass(frozen=True)
class Processes:
    """Which process this is, of how many, and on which device."""

    rank: int
    world: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def total(self, values: Tensor) -> Tensor:
        """Sum over all processes, in place."""
        if self.world > 1:
            distributed.all_reduce(values)
        return values

    def average_running_statistics(self, model: nn.Module) -> None:
        """Give every process the mean of the batch-norm statistics."""
        if self.world == 1:
            return
        for buffer in model.buffers():
            if buffer.is_floating_point():
                self.total(buffer).div_(self.world)

    def wait(self) -> None:
        if self.world > 1:
            distributed.barrier()


@contextmanager
def processes(device: str) -> Iterator[Processes]:
    """Join the processes that ``torchrun`` started, or be the only one.

    Parameters
    ----------
    device : str
        ``auto``, ``cpu``, ``cuda``, or one GPU as ``cuda:1``.

    Raises
    ------
    ValueError
        The device is not there.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    rank, local = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
    chosen = _device(device, local, world)
    if world == 1:
        yield Processes(0, 1, chosen)
        return
    distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Processes(rank, world, chosen)
    finally:
        distributed.destroy_process_group()


def _device(name: str, local: int, world: int) -> torch.device:
    is_there = torch.cuda.is_available()
    if name == "auto":
        name = "cuda" if is_there else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device={name!r} is not known; allowed are auto, cpu, cuda and cuda:N.")
    if device.type == "cpu":
        return device
    if not is_there:
        raise ValueError(
            f"device={name!r} is asked for, but torch sees no CUDA device; use a machine with "
            "one, or --set train.device=cpu."
        )
    index = local if device.index is None and world > 1 else device.index or 0
    if index >= torch.cuda.device_count():
        raise ValueError(
            f"device={name!r}: torch sees {torch.cuda.device_count()} CUDA devices; number "
            f"{index} is none of them."
        )
    torch.cuda.set_device(index)
    # A run that goes on has to find the same algorithms.
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    return torch.device("cuda", index)
