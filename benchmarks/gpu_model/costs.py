"""Figures of a compiled kernel, and its cost in the model of a GPU."""

from __future__ import annotations

import re
import statistics
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.gpu_model import gpu_model, sass
from benchmarks.gpu_model.statements import Chain, function_of
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


class Work(NamedTuple):
    """Work for some planes or images."""

    totals: list[int]  # warp instructions of each plane or image
    functions: Counter[str]  # warp instructions of all, by function
    pipes: dict[str, float]  # cycles of all, by pipe
    agreement: float  # fraction of instructions for which flow and counts agree


def work(
    blocks: list[sass.Block],
    counts: list[dict[Chain, int]],
    warps: int,
    capability: int,
    programs: int = 1,
) -> Work:
    """Sum the work of planes or images, each of them counted over ``programs`` programs."""
    totals: list[int] = []
    pipes: dict[str, float] = defaultdict(float)
    functions: Counter[str] = Counter()
    agreed = disputed = 0
    # Many planes take the same path.
    for path, times in Counter(frozenset(each.items()) for each in counts).items():
        runs = sass.executions(blocks, dict(path), programs)
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
    return Work(totals, functions, pipes, agreed / (agreed + disputed))


def modelled(
    done: Work,
    bytes_of_each: int,
    capability: int,
    average: Callable[[list[int]], float] = statistics.median,
) -> dict[str, Any]:
    """Return warp instructions per plane or image, and the times for them and for the bytes."""
    count, typical = len(done.totals), average(done.totals)
    issue = gpu_model.issue_seconds(typical, capability)
    memory = gpu_model.memory_seconds(bytes_of_each, capability)
    return {
        "planes": count,
        "warp_instructions": typical,
        "most_warp_instructions": max(done.totals),
        "agreement": done.agreement,
        "issue_seconds": issue,
        "memory_seconds": memory,
        "issue_over_memory": issue / memory,
        # A cycle of a pipe lasts as long as the issue of an instruction.
        "pipes_over_memory": {
            pipe: gpu_model.issue_seconds(cycles / count, capability) / memory
            for pipe, cycles in sorted(done.pipes.items(), key=lambda pipe: -pipe[1])
        },
        "functions": {name: n / count for name, n in done.functions.most_common()},
    }
