"""Device and batch size of a network, chosen once and then recorded."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from dhs.manifest.sizes import free_memory

DEVICES = ("auto", "cpu", "cuda")
MOST = {"cpu": 16, "cuda": 1024}
SHARE_OF_FREE_MEMORY = 0.25


def choose_device(name: str) -> torch.device:
    """Return the device of a name.

    Parameters
    ----------
    name : {"auto", "cpu", "cuda"}
        "auto" means CUDA if torch finds a device, and the CPU otherwise.

    Raises
    ------
    ValueError
        The name is not one of these, or torch finds no CUDA device.
    """
    if name not in DEVICES:
        raise ValueError(f"device={name!r} is not known; use one of {', '.join(DEVICES)}.")
    has_cuda = torch.cuda.is_available()
    if name == "cuda" and not has_cuda:
        raise ValueError(
            "device='cuda' is not available: torch finds no CUDA device; use a machine with one, "
            "or device='cpu'."
        )
    return torch.device("cuda" if has_cuda and name != "cpu" else "cpu")


def describe_device(device: torch.device) -> str:
    """Describe everything in a device that can change the last bits of a logit."""
    if device.type == "cuda":
        return f"cuda, {torch.cuda.get_device_name(device)}"
    return f"cpu, {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"


def choose_batch_size(models: Iterable[nn.Module], size: int, device: torch.device) -> int:
    """Return the largest batch size that leaves most of the memory free.

    Parameters
    ----------
    models : iterable of LensFinder
        Models on ``device``, in evaluation mode. They run one after the other.
    size : int
        Side of the cutouts in pixels.
    device : torch.device
        Device of the models.

    Returns
    -------
    int
        A power of two: 1 to 16 on a CPU, 1 to 1024 on CUDA.
    """
    needed = max(activation_bytes(model, size, device) for model in models)
    allowed = SHARE_OF_FREE_MEMORY * free_bytes(device)
    batch = MOST[device.type]
    while batch > 1 and batch * needed > allowed:
        batch //= 2
    return batch


def activation_bytes(model: nn.Module, size: int, device: torch.device) -> int:
    """Return the bytes of all layer outputs for one cutout.

    This is an upper limit: the outputs are not all in memory at the same time.

    Parameters
    ----------
    model : nn.Module
        Model on ``device``, in evaluation mode.
    size : int
        Side of the cutouts in pixels.
    device : torch.device
        Device of the model.

    Returns
    -------
    int
        Bytes per cutout.
    """
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
    """Return the free memory of a device in bytes.

    For a CPU whose system does not report it, this is the total memory.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return free_memory()
