"""The GPU backend, which runs the Triton kernel on the device of the output."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dhs.injection.quadrature import Plan, series_coefficients
from fastnorm.kernels import triton_lens


def run(plan: Plan, out: Tensor) -> None:
    """Render a plan into ``out``, (B, bands, H, W) float32, contiguous, without synchronising.

    ``out`` may be on the CPU only under Triton's interpreter.
    """

    def moved(array: NDArray[np.floating]) -> Tensor:
        return torch.from_numpy(np.array(array, np.float32, order="C")).to(out.device)

    nodes = np.stack([plan.nodes.x, plan.nodes.y, plan.nodes.weight])
    coefficients = series_coefficients(plan, triton_lens.TERMS_AT_ONCE.value)
    on_device = torch.cuda.device(out.device) if out.is_cuda else nullcontext()
    # The interpreter computes in NumPy, where masked-off lanes may divide by 0.
    with on_device, np.errstate(all="ignore"):
        triton_lens.launch(
            moved(plan.table),
            moved(plan.clumps),
            moved(plan.flux),
            moved(nodes),
            torch.from_numpy(plan.nodes.start.copy()).to(out.device),
            moved(coefficients),
            plan.pixel_scale,
            out,
        )
