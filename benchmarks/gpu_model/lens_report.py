"""Rows of the lens kernel in the compile report.

The kernel is compiled without a GPU, and its statements are counted in the interpreter.

Run as a module, it interprets a group of injections and prints how often every statement
ran for each image, as JSON.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.gpu_model import costs
from benchmarks.gpu_model.statements import StatementCounter
from benchmarks.gpu_model.variants import KERNELS, compile_kernel, programs_of
from fastnorm.kernels import triton_lens
from fastnorm.kernels.lens_columns import CLUMP_COLUMNS

GROUPS = {"lens": "smooth", "lens with clumps": "clumpy"}
"""Saved injections by variant of the kernel, because planning them is not device code."""
DRAWS = Path(__file__).parent / "lens_draws.json"
BANDS, SHAPE = 3, (101, 101)
MOST_TERMS = 64  # upper bound of the terms of these lenses


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


def interpret(
    group: str, images: slice = slice(None), shape: tuple[int, int] = SHAPE
) -> dict[str, Any]:
    """Count how often every chain ran in all programs of an image together, by image."""
    counter = StatementCounter(KERNELS)
    rows = json.loads(DRAWS.read_text())["groups"][group]["table"]
    found: list[Counter[Any]] = []
    programs = 0
    for i in range(len(rows))[images]:
        launch(group, slice(i, i + 1), shape)
        taken = counter.take()
        programs = len(taken)
        found.append(Counter())
        for program in taken:
            found[-1].update(program)
    chains = sorted(set().union(*found))
    counts = [[image[chain] for chain in chains] for image in found]
    return {"chains": chains, "counts": counts, "programs": programs}


def interpret_elsewhere(name: str) -> dict[str, Any]:
    """Call `interpret` in a process that selects the interpreter before any import."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu_model.lens_report", GROUPS[name]],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise RuntimeError(f"Triton's interpreter failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def row(name: str, capability: int, interpreted: dict[str, Any]) -> dict[str, Any]:
    """Return the row of one variant and device: compiled figures, and modelled cost per image."""
    label = {"kernel": "triton", "variant": name, "capability": capability}
    try:
        compiled = compile_kernel(lambda: launch(GROUPS[name], device="meta"), capability)
    except Exception as error:
        return {**label, "unavailable": f"{type(error).__name__}: {error}"}
    code = costs.analyse_compiled(compiled, capability)
    done = costs.work(
        code.blocks, programs_of(interpreted), compiled.warps, capability, interpreted["programs"]
    )
    image_bytes = 4 * BANDS * SHAPE[0] * SHAPE[1]
    modelled = costs.modelled(done, image_bytes, capability, statistics.fmean)
    return {
        **label,
        **code.figures,
        "programs": interpreted["programs"],  # per image
        "modelled": {GROUPS[name]: modelled},
    }


if __name__ == "__main__":
    print(json.dumps(interpret(sys.argv[1])))
