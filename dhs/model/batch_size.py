"""Where and in which batches a network is run: chosen once, then recorded."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

DEVICES = ("auto", "cpu", "cuda")
MOST = {"cpu": 16, "cuda": 1024}
SHARE_OF_FREE_MEMORY = 0.25


def choose_device(name: str) -> torch.device:
    """The device of a name.

    Parameters
    ----------
    name : {"auto", "cpu", "cuda"}
        The first is CUDA where torch sees a device.

    Raises
    ------
    ValueError
        The name is another, or there is no such device.
    """
    if name not in DEVICES:
        raise ValueError(f"device={name!r} is not known; allowed are {', '.join(DEVICES)}.")
    has_cuda = torch.cuda.is_available()
    if name == "cuda" and not has_cuda:
        raise ValueError(
            "device='cuda' is asked for, but torch sees no CUDA device; use a machine with one, or "
            "device='cpu'."
        )
    return torch.device("cuda" if has_cuda and name != "cpu" else "cpu")


def describe_device(device: torch.device) -> str:
    """All of a device that the last bits of a logit may depend on."""
    if device.type == "cuda":
        return f"cuda, {torch.cuda.get_device_name(device)}"
    return f"cpu, {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"


def choose_batch_size(models: Iterable[nn.Module], size: int, device: torch.device) -> int:
    """The largest batch that leaves most of the memory free: a power of two.

    Parameters
    ----------
    models : iterable of LensFinder
        On ``device``, in evaluation mode; they run one after the other.
    size : int
        Side of the cutouts in pixels.
    device : torch.device

    Returns
    -------
    int
        1 to 16 on a CPU, 1 to 1024 on CUDA.
    """
    needed = max(activation_bytes(model, size, device) for model in models)
    allowed = SHARE_OF_FREE_MEMORY * free_bytes(device)
    batch = MOST[device.type]
    while batch > 1 and batch * needed > allowed:
        batch //= 2
    return batch


def activation_bytes(model: nn.Module, size: int, device: torch.device) -> int:
    """Bytes of all that the layers give for one cutout, which is more than is held at a time."""
    total = 0

    def add(module: nn.Module, inputs: object, output: object) -> None:
        nonlocal total
        if isinstance(output, Tensor):
            total += output.nbytes

    leaves = [module for module in model.modules() if next(module.children(), None) is None]
    handles = [module.register_forward_hook(add) for module in leaves]
    try:
        with torch.inference_mode():
            model(torch.zeros(1, 3, size, size, device=device))
    finally:
        for handle in handles:
            handle.remove()
    return total


def free_bytes(device: torch.device) -> int:
    """Memory that can be had now; of all there is, where the system does not say."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    file = Path("/proc/meminfo")
    if file.is_file():
        for line in file.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
