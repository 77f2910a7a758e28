"""Compile the GPU kernels without a GPU and model their cost; no time is measured on a GPU.

Usage: ``python -m benchmarks.gpu_model [--json]``. The exit code is 1 if the
kernel for 101 x 101 pixels of float32 misses a limit.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import torch
import triton
from rich.console import Console
from rich.progress import Progress

from benchmarks.gpu_model import gpu_model, lens_report, sass
from benchmarks.gpu_model.costs import Code, analyse, analyse_compiled, modelled
from benchmarks.gpu_model.executed import Executed
from benchmarks.gpu_model.report_tables import show
from benchmarks.gpu_model.variants import (
    HEADLINE,
    REAL,
    SIMULATED,
    VARIANTS,
    annulus_pixels,
    compile_variant,
    execute,
    plane_bytes,
    stacks,
)
from fastnorm.kernels.triton_select import COUNTING_PASSES

HEADLINE_CAPABILITY = 90
HEADLINE_DEVICE = "H100"
MOST_REGISTERS, MOST_SECONDS, MOST_RATIO = 128, 20.0, 1.05
MOST_SPILLED = 16  # bytes: at 80 registers, two values that rare paths need


def triton_row(name: str, capability: int) -> tuple[dict[str, Any], Code | None]:
    row: dict[str, Any] = {"kernel": "triton", "variant": name, "capability": capability}
    try:
        compiled = compile_variant(name, capability)
    except Exception as error:
        return {**row, "unavailable": f"{type(error).__name__}: {error}"}, None
    code = analyse_compiled(compiled, capability)
    return {**row, **code.figures}, code


def numba_row(capability: int) -> dict[str, Any]:
    row: dict[str, Any] = {"kernel": "numba-cuda", "variant": HEADLINE, "capability": capability}
    try:
        import fastnorm.kernels.numba_cuda_normalize as kernel

        start = time.perf_counter()
        ptx = kernel.compile_ptx(divmod(capability, 10), torch.float32, torch.float32)
        cubin, fused = (sass.assemble(ptx, capability, fmad) for fmad in (False, True))
        seconds = time.perf_counter() - start
    except Exception as error:
        return {**row, "unavailable": f"{type(error).__name__}: {error}"}
    shared_bytes = 4 * (kernel.SCRATCH + annulus_pixels(VARIANTS[HEADLINE]).size)
    figures = analyse(
        cubin, ptx, shared_bytes, kernel.THREADS // gpu_model.WARP, capability
    ).figures
    is_same = sass.code(cubin) == sass.code(fused)
    fusion = f"{'the same' if is_same else 'different'} code with ptxas --fmad=true"
    return {**row, "seconds": seconds, "fusion": fusion, **figures}


def executed(name: str) -> dict[str, tuple[list[Executed], list[Any]]]:
    """Return what the programs of a variant did, and the passes they took, by group of images."""
    found = {}
    for group, images in stacks(name).items():
        programs, passes = execute(name, images)
        found[group] = programs, passes.flatten(0, 1).tolist()
    return found


def passes_of(taken: list[Any]) -> dict[str, dict[str, float]]:
    """Return median and maximum of the passes over the planes, by statistic and kind of pass."""
    passes = torch.tensor(taken)
    return {
        f"{statistic}, {kind}": {
            "median": statistics.median(passes[:, i, j].tolist()),
            "maximum": int(passes[:, i, j].max()),
        }
        for i, statistic in enumerate(("median", "MAD"))
        for j, kind in enumerate(("counting", "bisecting"))
    }


def headline_figures(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each figure of the headline variant, its limit, and whether the limit is met."""
    for row in rows:
        of_row = row["kernel"], row["variant"], row["capability"]
        if of_row == ("triton", HEADLINE, HEADLINE_CAPABILITY):
            break
    else:
        return []
    if "unavailable" in row:
        return [{"figure": row["unavailable"], "value": 1, "most": 0, "reached": False}]
    groups = row["modelled"]
    figures = [
        ("bytes of spills", row["stack_bytes"], MOST_SPILLED),
        ("registers per thread", row["registers"], MOST_REGISTERS),
        ("seconds to compile at the first call", row["seconds"], MOST_SECONDS),
        (
            "simulated time over that of a copy",
            1 / groups.get(REAL, groups[SIMULATED])["devices"][HEADLINE_DEVICE]["share_of_copy"],
            MOST_RATIO,
        ),
    ]
    return [
        {"figure": figure, "value": value, "most": most, "reached": value <= most}
        for figure, value, most in figures
    ]


def report(
    names: list[str], capabilities: list[int], advance: Callable[[str], None]
) -> dict[str, Any]:
    """Return the contents of the report, as numbers and strings."""
    lens_names = [name for name in names if name in lens_report.GROUPS]
    names = [name for name in names if name in VARIANTS]
    lenses: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    codes: list[Code | None] = []
    # Another process executes while this one compiles.
    with ProcessPoolExecutor(1, get_context("spawn")) as executor:
        executing = {name: executor.submit(executed, name) for name in names}
        executing_lenses = {name: executor.submit(lens_report.execute, name) for name in lens_names}
        for name in names:
            for capability in capabilities:
                advance(f"compiling {name} for sm_{capability}")
                row, code = triton_row(name, capability)
                rows.append(row)
                codes.append(code)
        for row, code in zip(rows, codes, strict=True):
            advance(f"executing and simulating {row['variant']} for sm_{row['capability']}")
            if code is None:
                continue
            size = plane_bytes(VARIANTS[row["variant"]])
            row["modelled"] = {
                group: modelled(code, programs, size, row["capability"])
                for group, (programs, _) in executing[row["variant"]].result().items()
            }
        for capability in capabilities if names else ():
            advance(f"compiling with Numba for sm_{capability}")
            rows.append(numba_row(capability))
        for name in lens_names:
            for capability in capabilities:
                advance(f"compiling and simulating {name} for sm_{capability}")
                lenses.append(lens_report.row(name, capability, executing_lenses[name].result()))
        passes_by_name = {
            name: {group: taken for group, (_, taken) in executing[name].result().items()}
            for name in names
        }
    # Variants with the same planes and statistics take the same passes: report only one of them.
    searches = {VARIANTS[name][:3]: name for name in reversed(names)}
    passes = {name: passes_by_name[name] for name in names if name in searches.values()}
    return {
        "rows": rows,
        "lenses": lenses,
        "passes": {
            name: {group: passes_of(taken) for group, taken in groups.items()}
            for name, groups in passes.items()
        },
        "bounds": {
            name: {
                "counting": COUNTING_PASSES.value,
                "bisecting": 8 * max(VARIANTS[name].dtype.itemsize, 4),
            }
            for name in passes
        },
        "figures": headline_figures(rows),
        "assumptions": gpu_model.ASSUMPTIONS,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--architectures", nargs="+", type=int, choices=gpu_model.CAPABILITIES,
        default=gpu_model.CAPABILITIES, help="compute capabilities, times ten",
    )  # fmt: skip
    names = [*VARIANTS, *lens_report.GROUPS]
    parser.add_argument("--variants", nargs="+", choices=names, default=names)
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options = parser.parse_args()
    if triton.knobs.runtime.interpret:
        parser.error("Triton's interpreter cannot compile: unset TRITON_INTERPRET")
    with Progress(console=Console(stderr=True), transient=True) as progress:
        compiled = len(options.variants) * len(options.architectures)
        task = progress.add_task("", total=2 * compiled + len(options.architectures))
        found = report(
            options.variants,
            options.architectures,
            lambda step: progress.update(task, description=step, advance=1),
        )
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        show(found)
    return int(not all(figure["reached"] for figure in found["figures"]))
