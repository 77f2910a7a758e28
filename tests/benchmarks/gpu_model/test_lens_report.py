"""Tests of the compiled lens kernel and its rows in the report."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from rich.console import Console

pytest.importorskip("triton")
from benchmarks.gpu_model import costs, lens_report, report_tables, sass, variants
from tests.dhs.injection import lens_draws

pytestmark = pytest.mark.slow

SHAPE = (13, 16)
PROGRAMS = 8
INTERPRET = f"""
import json
from benchmarks.gpu_model import lens_report
print(json.dumps(lens_report.interpret("smooth", slice(1, 2), {SHAPE})))
"""
CASES = [(group, capability) for group in lens_report.GROUPS.values() for capability in (80, 90)]


@functools.cache
def compiled(group: str, capability: int) -> variants.Compiled:
    return variants.compile_kernel(lambda: lens_report.launch(group, device="meta"), capability)


@pytest.fixture(scope="module")
def interpreted() -> dict[str, Any]:
    """Count the statements of a small image."""
    done = subprocess.run(
        [sys.executable, "-c", INTERPRET],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def close(saved: Any, planned: Any) -> bool:
    if isinstance(planned, dict):
        return saved.keys() == planned.keys() and all(close(saved[k], planned[k]) for k in planned)
    return np.shape(saved) == np.shape(planned) and np.allclose(saved, planned, rtol=1e-6)


def test_saved_draws_are_those_that_are_planned() -> None:
    saved = json.loads(lens_draws.FILE.read_text())
    assert close(saved, lens_draws.planned()), (
        "save them again: python -m tests.dhs.injection.lens_draws"
    )


@pytest.mark.parametrize(("group", "capability"), CASES)
def test_nothing_is_spilled_and_no_loop_is_copied(group: str, capability: int) -> None:
    figures = costs.analyse_compiled(compiled(group, capability), capability).figures
    assert (figures["stack_bytes"], figures["local_instructions"]) == (0, 0)
    assert figures["shared_bytes"] == 0
    assert figures["registers"] <= 64
    assert figures["resident_warps"] == 32, "as many programs as a multiprocessor takes"
    # Each copy would be counted as often as the whole loop.
    assert not figures["copied"]
    assert figures["code_bytes"] < 40_000


@pytest.mark.parametrize(("group", "capability"), CASES)
def test_arithmetic_is_in_float32(group: str, capability: int) -> None:
    result = compiled(group, capability)
    assert not result.fuses
    assert re.search(r"\bfma\.rn\.f32\b", result.ptx)
    assert not re.findall(r"[a-z][\w.]*\.f64\b.*", result.ptx)


def test_counts_are_those_of_the_source(interpreted: dict[str, Any]) -> None:
    assert interpreted["programs"] == PROGRAMS
    (counts,) = (dict(program) for program in variants.programs_of(interpreted))
    by_line: dict[str, int] = {}
    lines = (variants.KERNELS / "triton_lens.py").read_text().splitlines()
    for chain, count in counts.items():
        text = lines[chain[0][1] - 1].strip()
        by_line[text] = by_line.get(text, 0) + count
    assert by_line["p_row = p_table + image * column.COLUMNS"] == PROGRAMS
    # Each copy of an unrolled loop runs once.
    assert (
        by_line["term = tl.load(p_last - k)"]
        == by_line["p_last = s.p_coefficients + (s.terms - 1 - done)"]
    )
    shots = by_line["r = tl.sqrt(along * along + across * across)"]
    assert shots > 20 * PROGRAMS, "pixels were refined"
    assert by_line["p_last = s.p_coefficients + (s.terms - 1 - done)"] >= shots


@pytest.mark.parametrize("capability", [80, 90])
def test_cost_of_an_image(capability: int, interpreted: dict[str, Any]) -> None:
    row = lens_report.row("lens", capability, interpreted)
    modelled = row["modelled"]["smooth"]
    assert 0.85 < modelled["agreement"] <= 1
    assert modelled["warp_instructions"] == modelled["most_warp_instructions"]
    assert sum(modelled["functions"].values()) == modelled["warp_instructions"]
    assert set(modelled["functions"]) >= {"_shoot", "_shine", "_sample", "_split"}
    console = Console(width=200)
    with console.capture() as captured:
        console.print(report_tables.lens_table([row]))
    printed = captured.get()
    assert "Modelled time per lensed image" in printed
    assert f"{modelled['issue_seconds'] * 1e6:.3f}" in printed


def test_what_does_not_compile_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(lens_report, "compile_kernel", broken)
    assert lens_report.row("lens", 90, {})["unavailable"] == "RuntimeError: no"


def test_programs_that_go_different_ways_together() -> None:
    def block(label: str, count: int, *last: sass.Instruction) -> sass.Block:
        chain = (("kernel.py", count),)
        return sass.Block((label,), [sass.Instruction("FADD", "", False, chain)] * 4 + list(last))

    blocks = [
        block("kernel", 5, sass.Instruction("BRA", "`(.L_2)", True, ())),
        block(".L_1", 14, sass.Instruction("BRA", "`(.L_1)", True, ())),
        block(".L_2", 5, sass.Instruction("EXIT", "", False, ())),
    ]
    counts: dict[Any, int] = {(("kernel.py", count),): count for count in (5, 14)}
    assert sass.executions(blocks, counts, programs=5) == [5, 14, 5]
