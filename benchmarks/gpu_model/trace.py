"""Traces of programs: the instructions that a warp issues, and what each of them costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.gpu_model import gpu_model, multiprocessor
from benchmarks.gpu_model.executed import Executed, Traffic
from benchmarks.gpu_model.flow import flow_of, paths_of
from benchmarks.gpu_model.sass import Block, Instruction
from benchmarks.gpu_model.statements import Chain

PIPES = ("float", "double", "integer", "multiply", "special", "memory")
NONE = Traffic(0, 0)


class Paths(NamedTuple):
    """Blocks of code that some programs ran, in order."""

    executed: Executed
    paths: list[list[int]]  # by program


def paths_through(blocks: list[Block], executed: Sequence[Executed]) -> list[Paths]:
    """Return the paths through a binary that agree best with what was executed."""
    found: dict[tuple[int, frozenset[tuple[Chain, int]]], list[list[int]]] = {}
    paths = []
    for each in executed:
        # Many planes take the same path.
        key = each.programs, frozenset(each.counts.items())
        if key not in found:
            found[key] = paths_of(flow_of(blocks, each.counts, each.programs))
        paths.append(Paths(each, found[key]))
    return paths


def _moves(x: Instruction, executed: Executed) -> tuple[int, Traffic]:
    """Return what an instruction does outside its warp, and what its statement moves in all."""
    if x.kind == "BAR":
        return multiprocessor.BARRIER, NONE
    if x.kind == "STG":
        return multiprocessor.STORE, executed.stores.get(x.chain[:1], NONE)
    if x.kind == "LDG":
        traffic = executed.loads.get(x.chain[:1], NONE)
        return (multiprocessor.DRAM_LOAD if traffic.dram else multiprocessor.L2_LOAD), traffic
    return multiprocessor.NOTHING, NONE


def make_trace(
    blocks: list[Block], paths: Sequence[Paths], warps: int, capability: int
) -> multiprocessor.Trace:
    """Return the traces of all programs, one after the other.

    Parameters
    ----------
    blocks : list of Block
        The binary.
    paths : sequence of Paths
    warps : int
        Warps of a program, which share what it moves.
    capability : int
        Of the device, times ten.
    """
    code = [x for block in blocks for x in block.instructions]
    first = np.cumsum([0, *(len(block.instructions) for block in blocks)])
    cycles = [gpu_model.pipe_cycles(x.opcode, capability) for x in code]
    pipes = np.array([[each.get(pipe, 0.0) for pipe in PIPES] for each in cycles])
    latency = [gpu_model.LATENCY.get(x.kind, gpu_model.USUAL_LATENCY) for x in code]
    controls, indices, sizes, starts = [], [], [], [0]
    for executed, ways in paths:
        moves = [_moves(x, executed) for x in code]
        indexed = [np.concatenate([np.arange(*first[[i, i + 1]]) for i in way]) for way in ways]
        # The instructions of a statement share what it moves.
        issued = Counter[tuple[str, Chain]]()
        for index, count in Counter(np.concatenate(indexed).tolist()).items():
            issued[code[index].kind, code[index].chain[:1]] += count
        moved = np.zeros((len(code), 2))
        for i, (x, (_, traffic)) in enumerate(zip(code, moves, strict=True)):
            if count := issued[x.kind, x.chain[:1]]:
                moved[i] = np.array(traffic) / (count * warps)
        control = np.array(
            [(*x.control, kind, n) for x, (kind, _), n in zip(code, moves, latency, strict=True)]
        )
        for index in indexed:
            indices.append(index)
            controls.append(control[index])
            sizes.append(moved[index])
            starts.append(starts[-1] + len(index))
    return multiprocessor.Trace(
        np.concatenate(controls),
        pipes[np.concatenate(indices)],
        np.concatenate(sizes),
        np.array(starts),
    )
