"""Figures of a compiled kernel, and its cost in the model of a GPU."""

from __future__ import annotations

import re
import statistics
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.gpu_model import gpu_model, sass
from benchmarks.gpu_model.executed import Executed
from benchmarks.gpu_model.flow import agreement, executions
from benchmarks.gpu_model.multiprocessor import simulate
from benchmarks.gpu_model.statements import function_of
from benchmarks.gpu_model.trace import make_trace, paths_through
from benchmarks.gpu_model.variants import KERNELS, Compiled


class Code(NamedTuple):
    """A binary: its figures in the report, and its blocks."""

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
        # If a loop was copied, several copies share one count of the source.
        "copied": kinds["LDG"] + kinds["STG"] > len(re.findall(r"\b(?:ld|st)\.global\b", ptx)),
    }
    return Code(figures, blocks)


def analyse_compiled(compiled: Compiled, capability: int) -> Code:
    code = analyse(compiled.cubin, compiled.ptx, compiled.shared_bytes, compiled.warps, capability)
    option = f"enable_fp_fusion={compiled.fuses}"
    return code._replace(figures={"seconds": compiled.seconds, "fusion": option, **code.figures})


def modelled(
    code: Code,
    executed: Sequence[Executed],
    bytes_of_each: int,
    capability: int,
    average: Callable[[list[int]], float] = statistics.median,
) -> dict[str, Any]:
    """Return warp instructions per plane or image, and its simulated time on every device.

    Parameters
    ----------
    code : Code
        The binary.
    executed : sequence of Executed
        What the programs of each plane or image did.
    bytes_of_each : int
        Bytes of a plane or image that a copy would move.
    capability : int
        Of the devices, times ten.
    average : function, optional
        For warp instructions.
    """
    warps, blocks = code.figures["warps"], code.blocks
    paths = paths_through(blocks, executed)
    totals: list[int] = []
    functions: Counter[str] = Counter()
    agreed = either = 0
    for each, ways in paths:
        runs = executions(blocks, ways)
        in_both, in_either = agreement(blocks, each.counts, runs)
        agreed, either = agreed + in_both, either + in_either
        totals.append(
            warps * sum(n * len(b.instructions) for n, b in zip(runs, blocks, strict=True))
        )
        for n, block in zip(runs, blocks, strict=True):
            for x in block.instructions if n else ():
                functions[function_of(x.chain, KERNELS)] += warps * n
    trace = make_trace(blocks, paths, warps, capability)
    programs = sum(each.programs for each in executed) / len(executed)
    devices = {}
    for name, device in gpu_model.DEVICES.items():
        if device.capability == capability:
            found = simulate(trace, device, code.figures["resident_warps"] // warps, warps)
            seconds = found.cycles * programs / (device.multiprocessors * device.hertz)
            memory = gpu_model.memory_seconds(bytes_of_each, device)
            devices[name] = {
                "seconds": seconds,
                "memory_seconds": memory,
                "share_of_copy": memory / seconds,
                "program_seconds": found.latency / device.hertz,
                "waits": found.waits,
            }
    return {
        "planes": len(totals),
        "warp_instructions": average(totals),
        "most_warp_instructions": max(totals),
        "agreement": agreed / either,
        "functions": {name: n / len(totals) for name, n in functions.most_common()},
        "devices": devices,
    }
