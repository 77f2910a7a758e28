"""The model of cost: control flow, cycles and occupancy, on code written by hand."""

from __future__ import annotations

from dataclasses import astuple
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from fastnorm import Annulus

pytest.importorskip("triton")
from benchmarks.gpu_model import flow, gpu_model, sass, variants

pytestmark = pytest.mark.slow


def _block(label: str, count: int, *opcodes: str) -> sass.Block:
    """Return a block of ten instructions that ran ``count`` times, followed by those given."""
    chain = (("kernel.py", count),)
    rest = []
    for opcode in opcodes:
        *predicate, opcode, operands = opcode.split(" ")
        rest.append(sass.Instruction(opcode, operands, bool(predicate), chain))
    return sass.Block((label,), [sass.Instruction("FADD", "", False, chain)] * 10 + rest)


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        pytest.param(
            [
                _block("kernel", 1),
                _block(".L_1", 20),  # moved out of the loop
                _block(".L_2", 20, "@P0 BRA `(.L_2)"),
                _block(".L_3", 1, "EXIT "),
            ],
            [1, 1, 20, 1],
            id="moved out of a loop",
        ),
        pytest.param(
            [
                _block("kernel", 1, "@P0 BRA `(.L_3)"),
                _block(".L_1", 1, "CALL.REL.NOINC `($kernel$slow)"),
                _block(".L_2", 1),
                _block(".L_3", 1, "EXIT "),
                _block(".L_4", 1, "BRA `(.L_4)"),
                _block("$kernel$slow", 1, "RET.REL.NODEC R2"),
            ],
            [1, 0, 0, 1, 0, 0],
            id="slow path",
        ),
        pytest.param(
            [
                _block("kernel", 1, "CALL.REL.NOINC `($kernel$slow)"),
                _block(".L_1", 0, "@P1 EXIT "),
                _block(".L_2", 1, "EXIT "),
            ],
            [1, 1, 1],
            id="no other path",
        ),
        pytest.param(
            [
                _block("kernel", 1),
                _block(".L_1", 7, "@P0 CALL.REL.NOINC `(.L_3)"),
                _block(".L_2", 6, "BRA `(.L_1)"),
                _block(".L_3", 1, "EXIT "),
            ],
            [1, 7, 6, 1],
            id="left by a call",
        ),
    ],
)
def test_executions_are_a_flow(blocks: list[sass.Block], expected: list[int]) -> None:
    counts: dict[Any, int] = {(("kernel.py", count),): count for count in range(21)}
    paths = flow.paths_of(flow.flow_of(blocks, counts))
    assert flow.executions(blocks, paths) == expected
    (path,) = paths
    onward = flow.successors(blocks)
    assert path[0] == 0
    assert all(j in onward[i] for i, j in pairwise(path))


def test_programs_that_go_different_ways_have_a_path_each() -> None:
    blocks = [
        _block("kernel", 5, "@P0 BRA `(.L_2)"),
        _block(".L_1", 14, "@P0 BRA `(.L_1)"),
        _block(".L_2", 5, "EXIT "),
    ]
    counts: dict[Any, int] = {(("kernel.py", count),): count for count in (5, 14)}
    paths = flow.paths_of(flow.flow_of(blocks, counts, programs=5))
    assert flow.executions(blocks, paths) == [5, 14, 5]
    assert [(path[0], path[-1]) for path in paths] == [(0, 2)] * 5


def test_control_bits_are_decoded() -> None:
    # LDC R1, c[0x0][0x28], the first instruction of many kernels: stall 1, scoreboard 0.
    assert sass.Control.of(0x000E220000000800) == sass.Control(1, 0, 7, 0)
    # IMAD.SHL.U32: stall 5, waits for scoreboard 1.
    assert sass.Control.of(0x002FCA00078E00FF) == sass.Control(5, 7, 7, 2)


@pytest.mark.parametrize(
    ("opcode", "on_90", "on_80"),
    [
        ("FADD.FTZ", {"float": 1}, {"float": 2}),
        ("LOP3.LUT", {"integer": 2}, {"integer": 2}),
        ("IMAD.MOV.U32", {"float": 1, "multiply": 2}, {"float": 2, "multiply": 2}),
        ("F2F.F64.F32", {"special": 8}, {"special": 8}),
        ("DMUL", {"double": 2}, {"double": 4}),
        ("LDG.E.128", {"memory": 16}, {"memory": 16}),
        ("BAR.SYNC", {}, {}),
    ],
)
def test_cycles_of_a_pipe(opcode: str, on_90: dict[str, int], on_80: dict[str, int]) -> None:
    assert gpu_model.pipe_cycles(opcode, 90) == on_90
    assert gpu_model.pipe_cycles(opcode, 80) == on_80


@pytest.mark.parametrize(
    ("registers", "shared_bytes", "warps", "resident"),
    [
        (128, 0, 2, 16),
        (96, 0, 2, 20),
        (16, 0, 2, 64),
        (16, 0, 1, 32),
        (16, 100 << 10, 4, 8),
        (255, 0, 4, 8),
        (168, 0, 4, 12),
        (40, 0, 8, 48),
        (32, 0, 8, 64),
    ],
)
def test_resident_warps(registers: int, shared_bytes: int, warps: int, resident: int) -> None:
    assert gpu_model.resident_warps(registers, shared_bytes, warps, 90) == resident


@pytest.mark.parametrize("name", list(variants.VARIANTS))
def test_annulus_of_a_variant(name: str) -> None:
    variant = variants.VARIANTS[name]
    pixels = variants.annulus_pixels(variant)
    assert pixels.dtype == np.int32
    assert np.array_equal(pixels, Annulus(*variant.radii).pixels(*variant.shape))
    if name != "annulus 20-32":
        assert variant.radii == pytest.approx(astuple(Annulus.default(*variant.shape)))
