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
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
import triton
from rich.console import Console
from rich.progress import Progress

from benchmarks.gpu_model import gpu_model, lens_report, sass
from benchmarks.gpu_model.costs import analyse, analyse_compiled, modelled, work
from benchmarks.gpu_model.report_tables import show
from benchmarks.gpu_model.variants import (
    HEADLINE,
    REAL,
    SIMULATED,
    VARIANTS,
    annulus_pixels,
    compile_variant,
    interpret_elsewhere,
    plane_bytes,
    programs_of,
)
from fastnorm.kernels.triton_select import COUNTING_PASSES

HEADLINE_CAPABILITY = 90
MOST_REGISTERS, MOST_SECONDS, MOST_RATIO = 128, 20.0, 0.9


def triton_row(name: str, capability: int) -> tuple[dict[str, Any], list[sass.Block]]:
    row: dict[str, Any] = {"kernel": "triton", "variant": name, "capability": capability}
    try:
        compiled = compile_variant(name, capability)
    except Exception as error:
        return {**row, "unavailable": f"{type(error).__name__}: {error}"}, []
    code = analyse_compiled(compiled, capability)
    return {**row, **code.figures}, code.blocks


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


def passes_of(interpreted: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return median and maximum of the passes over the planes, by statistic and kind of pass."""
    passes = torch.tensor(interpreted["passes"]).flatten(0, 1)
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
        ("bytes of spills", row["stack_bytes"], 0),
        ("loads and stores of spills", row["local_instructions"], 0),
        ("registers per thread", row["registers"], MOST_REGISTERS),
        ("seconds to compile at the first call", row["seconds"], MOST_SECONDS),
        (
            "modelled issue time over memory time",
            groups.get(REAL, groups[SIMULATED])["issue_over_memory"],
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
    blocks: dict[int, list[sass.Block]] = {}
    with ThreadPoolExecutor(1) as executor:
        interpreting = executor.submit(interpret_elsewhere, names)
        interpreting_lenses = [
            executor.submit(lens_report.interpret_elsewhere, name) for name in lens_names
        ]
        for name in names:
            for capability in capabilities:
                advance(f"compiling {name} for sm_{capability}")
                row, blocks[len(rows)] = triton_row(name, capability)
                rows.append(row)
        for capability in capabilities if names else ():
            advance(f"compiling with Numba for sm_{capability}")
            rows.append(numba_row(capability))
        advance("running planes in Triton's interpreter")
        interpreted = interpreting.result()
        for name, lens_counts in zip(lens_names, interpreting_lenses, strict=True):
            for capability in capabilities:
                advance(f"compiling and counting {name} for sm_{capability}")
                lenses.append(lens_report.row(name, capability, lens_counts.result()))
    for i, row in enumerate(rows):
        if not blocks.get(i):
            continue
        advance(f"counting {row['variant']}")
        variant, groups = VARIANTS[row["variant"]], interpreted[row["variant"]]
        row["modelled"] = {
            group: modelled(
                work(blocks[i], programs_of(found), row["warps"], row["capability"]),
                plane_bytes(variant),
                row["capability"],
            )
            for group, found in groups.items()
        }
    # Variants with the same planes and statistics take the same passes: report only one of them.
    searches = {VARIANTS[name][:3]: name for name in reversed(names)}
    passes = {name: interpreted[name] for name in names if name in searches.values()}
    return {
        "rows": rows,
        "lenses": lenses,
        "passes": {
            name: {group: passes_of(found) for group, found in groups.items()}
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
        "--architectures", nargs="+", type=int, choices=list(gpu_model.DEVICES),
        default=list(gpu_model.DEVICES), help="compute capabilities, times ten",
    )  # fmt: skip
    names = [*VARIANTS, *lens_report.GROUPS]
    parser.add_argument("--variants", nargs="+", choices=names, default=names)
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options = parser.parse_args()
    if triton.knobs.runtime.interpret:
        parser.error("Triton's interpreter cannot compile: unset TRITON_INTERPRET")
    with Progress(console=Console(stderr=True), transient=True) as progress:
        compiled = len(options.variants) * len(options.architectures)
        task = progress.add_task("", total=2 * compiled + len(options.architectures) + 1)
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
