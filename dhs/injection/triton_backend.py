"""The GPU backend, which runs the Triton kernel on the device of the output."""

from __future__ import annotations

from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dhs.injection.quadrature import MOST_TERMS, Plan, series_coefficients
from dhs.injection.transfer import send
from fastnorm.kernels import lens_columns as column
from fastnorm.kernels import triton_lens

MOST_CONSTANTS = 64


class Constants(NamedTuple):
    """Tables that all plans of one oversampling share, on one device; only read.

    ``nodes`` (3, K) float32, ``start`` int32 and ``coefficients`` float32, see
    `fastnorm.kernels.triton_lens.launch`.
    """

    nodes: Tensor
    start: Tensor
    coefficients: Tensor


# Eight oversamplings are allowed, so that eight devices fit.
_constants: dict[tuple[torch.device, bytes], Constants] = {}


def run(plan: Plan, out: Tensor) -> None:
    """Render a plan into ``out``, (B, bands, H, W) float32, contiguous.

    The host does not wait for the device, except for the first plan of an oversampling on it.
    ``out`` may be on the CPU only under Triton's interpreter.
    """
    on_device = torch.cuda.device(out.device) if out.is_cuda else nullcontext()
    # The interpreter computes in NumPy, where masked-off lanes may divide by 0.
    with on_device, np.errstate(all="ignore"):
        constants = constants_of(plan, out.device)
        table, clumps, flux = send([plan.table, plan.clumps, plan.flux], out.device)
        triton_lens.launch(table, clumps, flux, *constants, plan.pixel_scale, out)


def constants_of(plan: Plan, device: torch.device) -> Constants:
    """Return the tables of a plan that are the same in every call, and keep them on the device.

    The copy is complete on return, so that every stream may use the tables.
    """
    nodes = np.stack([plan.nodes.x, plan.nodes.y, plan.nodes.weight]).astype(np.float32)
    key = device, nodes.tobytes() + plan.nodes.start.tobytes()
    kept = _constants.get(key)
    if kept is None:
        # A kernel reads as many coefficients as a row needs, so that the longest table serves all.
        longest = plan._replace(table=np.full((1, column.COLUMNS), float(MOST_TERMS)))
        coefficients = series_coefficients(longest, triton_lens.TERMS_AT_ONCE.value)
        arrays = nodes, plan.nodes.start.copy(), coefficients
        kept = Constants(*(torch.from_numpy(array).to(device) for array in arrays))
        if len(_constants) >= MOST_CONSTANTS:
            _constants.pop(next(iter(_constants)), None)
        _constants[key] = kept
    return kept
