"""The device that the parts run on, and the images that they run on."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.gpu_evidence.reasons import NotMeasuredError, is_rehearsal
from fastnorm import Annulus
from fastnorm.normalize import gpu

SIDE = 101
RADII = (32.5, 45.0)
CLIP = 10.0
CUTOUT_BYTES = 3 * SIDE * SIDE * 4
Row = dict[str, Any]


class Place(NamedTuple):
    """Where a part runs: a torch device, and whether it only rehearses on tiny stacks."""

    device: torch.device
    is_rehearsal: bool

    def synchronize(self) -> None:
        if not self.is_rehearsal:
            torch.cuda.synchronize()


def place() -> Place:
    """Return the CUDA device, or the CPU in a rehearsal.

    Raises
    ------
    NotMeasuredError
        There is no CUDA device.
    """
    if is_rehearsal():
        return Place(torch.device("cpu"), True)
    if not torch.cuda.is_available():
        raise NotMeasuredError("torch sees no CUDA device")
    return Place(torch.device("cuda"), False)


def sky(
    count: int,
    where: Place,
    shape: tuple[int, int] = (SIDE, SIDE),
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Draw galaxies on a noisy sky, (count, 3, H, W)."""
    generator = torch.Generator(where.device).manual_seed(count)
    images = torch.empty((count, 3, *shape), dtype=dtype, device=where.device)
    images.normal_(0.05, 0.02, generator=generator)
    rows, columns = (torch.arange(side, device=where.device) - side // 2 for side in shape)
    radius = torch.hypot(rows[:, None].float(), columns[None].float())
    return images.add_(torch.exp(-radius * 12 / min(shape)).to(dtype))


def normalize(
    images: Tensor, radii: tuple[float, float] = RADII, backend: str = "triton", **options: Any
) -> Tensor:
    """Normalise with a GPU backend, which takes tensors of the CPU in a rehearsal.

    Parameters
    ----------
    images : (..., H, W) tensor
        Raw images.
    radii : (float, float)
        Radii of the annulus in pixels.
    backend : str
        GPU backend.
    **options
        Same as in `fastnorm.normalize.gpu.normalize`.

    Returns
    -------
    tensor
        The normalised images.
    """
    found: Tensor = gpu.normalize(images, Annulus(*radii), backend=backend, **options).out
    return found
