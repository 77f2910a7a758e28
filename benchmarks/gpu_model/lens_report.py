"""Rows of the lens kernel in the compile report.

The kernel is compiled and executed without a GPU.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.gpu_model import costs
from benchmarks.gpu_model.executed import Executed, record, together
from benchmarks.gpu_model.variants import EXECUTED_CAPABILITY, KERNELS, compile_kernel
from fastnorm.kernels import triton_lens
from fastnorm.kernels.lens_columns import CLUMP_COLUMNS

GROUPS = {"lens": "smooth", "lens with clumps": "clumpy"}
"""Saved injections by variant of the kernel, because planning them is not device code."""
DRAWS = Path(__file__).parent / "lens_draws.json"
BANDS, SHAPE = 3, (101, 101)
MOST_TERMS = 64  # upper bound of the terms of these lenses
AT_ONCE = 64  # programs that are executed side by side


def launch(
    group: str,
    images: slice = slice(None),
    shape: tuple[int, int] = SHAPE,
    device: str = "cpu",
) -> torch.Tensor:
    """Launch the kernel on some images of a group, and return its output."""
    draws = json.loads(DRAWS.read_text())
    table, clumps = (
        torch.tensor(draws["groups"][group][name], device=device)[images]
        for name in ("table", "clumps")
    )
    count = len(table)
    k = torch.arange(MOST_TERMS, device=device)
    out = torch.full((count, BANDS, *shape), torch.nan, device=device)
    with np.errstate(all="ignore"):
        triton_lens.launch(
            table,
            clumps.reshape(count, clumps.shape[1], CLUMP_COLUMNS),
            torch.ones((count, BANDS), device=device),
            torch.tensor(draws["nodes"], device=device),
            torch.tensor(draws["start"], dtype=torch.int32, device=device),
            (-1.0) ** k / (2 * k + 1),
            draws["pixel_scale"],
            out,
        )
    return out


def execute(
    name: str, images: slice = slice(None), shape: tuple[int, int] = SHAPE
) -> list[Executed]:
    """Return what the programs of each image of a variant did, all of an image together."""
    group = GROUPS[name]
    count = len(json.loads(DRAWS.read_text())["groups"][group]["table"])
    return [
        together(
            record(
                lambda i=i: launch(group, slice(i, i + 1), shape),  # type: ignore[misc]
                EXECUTED_CAPABILITY, KERNELS, AT_ONCE,
            )
        )
        for i in range(count)[images]
    ]  # fmt: skip


def row(name: str, capability: int, executed: list[Executed]) -> dict[str, Any]:
    """Return the row of one variant and device: compiled figures, and modelled cost per image."""
    label = {"kernel": "triton", "variant": name, "capability": capability}
    try:
        compiled = compile_kernel(lambda: launch(GROUPS[name], device="meta"), capability)
    except Exception as error:
        return {**label, "unavailable": f"{type(error).__name__}: {error}"}
    code = costs.analyse_compiled(compiled, capability)
    image_bytes = 4 * BANDS * SHAPE[0] * SHAPE[1]
    modelled = costs.modelled(code, executed, image_bytes, capability, statistics.fmean)
    return {
        **label,
        **code.figures,
        "programs": executed[0].programs,  # per image
        "modelled": {GROUPS[name]: modelled},
    }
