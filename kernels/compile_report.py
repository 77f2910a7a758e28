"""Compile the GPU kernels without a GPU and model what they cost; no time here is measured on one.

Usage: ``python -m fastnorm.kernels.compile_report [--json]``. The exit code is 1
where the kernel for 101 x 101 pixels of float32 misses a figure.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
import triton
from rich.console import Console
from rich.progress import Progress

import fastnorm.kernels.gpu_model as gpu_model
import fastnorm.kernels.sass as sass
from fastnorm.kernels.report_tables import show
from fastnorm.kernels.statements import Chain, function_of
from fastnorm.kernels.triton_select import COUNTING_PASSES
from fastnorm.kernels.variants import (
    HEADLINE,
    KERNELS,
    REAL,
    SIMULATED,
    VARIANTS,
    Variant,
    annulus_pixels,
    compile_variant,
    interpret_elsewhere,
    plane_bytes,
    programs_of,
)

HEADLINE_CAPABILITY = 90
MOST_REGISTERS, MOST_SECONDS, MOST_RATIO = 128, 20.0, 0.9


class Code(NamedTuple):
    """A binary: what the report says of it, and its blocks."""

    figures: dict[str, Any]
    blocks: list[sass.Block]


def analyse(cubin: bytes, ptx: str, shared_bytes: int, warps: int, capability: int) -> Code:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(cubin)
        registers, stack_bytes = sass.resources(file)
        blocks = sass.disassemble(file, KERNELS)
    kinds = Counter(x.kind for block in blocks for x in block.instructions)
    figures = {
        "registers": registers,
        "stack_bytes": stack_bytes,
        "local_instructions": kinds["LDL"] + kinds["STL"],
        "shared_bytes": shared_bytes,
        "code_bytes": len(sass.code(cubin)),
        "cubin_bytes": len(cubin),
        "instructions": kinds.total(),
        "warps": warps,
        "resident_warps": gpu_model.resident_warps(registers, shared_bytes, warps, capability),
        "fma_in_ptx": len(re.findall(r"\bfma\.", ptx)),
        "fma_in_sass": kinds["FFMA"] + kinds["FFMA2"] + kinds["DFMA"],
        # Then a count of the source is shared by several copies.
        "copied": kinds["LDG"] + kinds["STG"] > len(re.findall(r"\b(?:ld|st)\.global\b", ptx)),
    }
    return Code(figures, blocks)


def modelled(
    blocks: list[sass.Block], programs: list[dict[Chain, int]], warps: int,
    variant: Variant, capability: int,
) -> dict[str, Any]:  # fmt: skip
    """Warp instructions per plane, and the times that they and the bytes take in the model."""
    totals: list[int] = []
    pipes: dict[str, float] = defaultdict(float)
    functions: Counter[str] = Counter()
    agreed = disputed = 0
    # Many planes take the same path.
    for path, times in Counter(frozenset(counts.items()) for counts in programs).items():
        runs = sass.executions(blocks, dict(path))
        both, either = sass.agreement(blocks, dict(path), runs)
        agreed, disputed = agreed + times * both, disputed + times * (either - both)
        total = 0
        for n, block in zip(runs, blocks, strict=True):
            total += warps * n * len(block.instructions)
            for x in block.instructions if n else ():
                functions[function_of(x.chain, KERNELS)] += times * warps * n
                for pipe, cycles in gpu_model.pipe_cycles(x.opcode, capability).items():
                    pipes[pipe] += times * warps * n * cycles
        totals += times * [total]
    issue = gpu_model.issue_seconds(statistics.median(totals), capability)
    memory = gpu_model.memory_seconds(plane_bytes(variant), capability)
    return {
        "planes": len(programs),
        "warp_instructions": statistics.median(totals),
        "most_warp_instructions": max(totals),
        "agreement": agreed / (agreed + disputed),
        "issue_seconds": issue,
        "memory_seconds": memory,
        "issue_over_memory": issue / memory,
        # A cycle of a pipe lasts as long as the issue of an instruction.
        "pipes_over_memory": {
            pipe: gpu_model.issue_seconds(cycles / len(programs), capability) / memory
            for pipe, cycles in sorted(pipes.items(), key=lambda pipe: -pipe[1])
        },
        "functions": {name: n / len(programs) for name, n in functions.most_common()},
    }


def triton_row(name: str, capability: int) -> tuple[dict[str, Any], list[sass.Block]]:
    row: dict[str, Any] = {"kernel": "triton", "variant": name, "capability": capability}
    try:
        compiled = compile_variant(name, capability)
    except Exception as error:
        return {**row, "unavailable": f"{type(error).__name__}: {error}"}, []
    code = analyse(compiled.cubin, compiled.ptx, compiled.shared_bytes, compiled.warps, capability)
    option = f"enable_fp_fusion={compiled.fuses}"
    return {**row, "seconds": compiled.seconds, "fusion": option, **code.figures}, code.blocks


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
    fusion = f"{'the same' if is_same else 'other'} code with ptxas --fmad=true"
    return {**row, "seconds": seconds, "fusion": fusion, **figures}


def passes_of(interpreted: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Median and maximum of the passes over the planes, by statistic and kind of pass."""
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
    """Each figure of the headline, what it may be at most, and whether that is reached."""
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
    """Everything that is printed, as numbers and strings."""
    rows: list[dict[str, Any]] = []
    blocks: dict[int, list[sass.Block]] = {}
    with ThreadPoolExecutor(1) as executor:
        interpreting = executor.submit(interpret_elsewhere, names)
        for name in names:
            for capability in capabilities:
                advance(f"compiling {name} for sm_{capability}")
                row, blocks[len(rows)] = triton_row(name, capability)
                rows.append(row)
        for capability in capabilities:
            advance(f"compiling with Numba for sm_{capability}")
            rows.append(numba_row(capability))
        advance("running planes in Triton's interpreter")
        interpreted = interpreting.result()
    for i, row in enumerate(rows):
        if not blocks.get(i):
            continue
        advance(f"counting {row['variant']}")
        variant, groups = VARIANTS[row["variant"]], interpreted[row["variant"]]
        row["modelled"] = {
            group: modelled(blocks[i], programs_of(found), row["warps"], variant, row["capability"])
            for group, found in groups.items()
        }
    # The others look for the same statistics of the same planes.
    searches = {VARIANTS[name][:3]: name for name in reversed(names)}
    passes = {name: interpreted[name] for name in names if name in searches.values()}
    return {
        "rows": rows,
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
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options = parser.parse_args()
    if triton.knobs.runtime.interpret:
        parser.error("the interpreter compiles nothing: unset TRITON_INTERPRET")
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


if __name__ == "__main__":
    sys.exit(main())
