"""Single- and multi-process training: process group, device and collective operations."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn


@dataclass(frozen=True)
class Processes:
    """A process in the group that trains together.

    Attributes
    ----------
    rank : int
        Number of this process, 0 to ``world - 1``.
    world : int
        Number of processes.
    device : torch.device
        Device of this process.
    """

    rank: int
    world: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def total(self, values: Tensor) -> Tensor:
        """Sum a tensor over all processes, in place."""
        if self.world > 1:
            distributed.all_reduce(values)
        return values

    def average_running_statistics(self, model: nn.Module) -> None:
        """Average the batch-norm statistics over all processes, in place."""
        if self.world == 1:
            return
        for buffer in model.buffers():
            if buffer.is_floating_point():
                self.total(buffer).div_(self.world)

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.world > 1:
            distributed.barrier()


@contextmanager
def processes(device: str) -> Iterator[Processes]:
    """Join the process group that ``torchrun`` started, or run as a single process.

    Parameters
    ----------
    device : str
        ``auto``, ``cpu``, ``cuda``, or one GPU such as ``cuda:1``.

    Yields
    ------
    Processes
        This process in its group.

    Raises
    ------
    ValueError
        The device is unknown or not available.
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
        raise ValueError(f"device={name!r} is not known; use auto, cpu, cuda or cuda:N.")
    if device.type == "cpu":
        return device
    if not is_there:
        raise ValueError(
            f"device={name!r} is not available: torch finds no CUDA device; use a machine with "
            "one, or --set train.device=cpu."
        )
    index = local if device.index is None and world > 1 else device.index or 0
    if index >= torch.cuda.device_count():
        raise ValueError(
            f"device={name!r} does not exist: torch finds {torch.cuda.device_count()} CUDA "
            f"devices, numbered from 0, and this process needs number {index}."
        )
    torch.cuda.set_device(index)
    # A resumed run must get the same algorithms.
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    return torch.device("cuda", index)
