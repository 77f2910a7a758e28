"""Tests of the compiled lens kernel and its rows in the report."""

from __future__ import annotations

import functools
import json
import re
from typing import Any

import numpy as np
import pytest
from rich.console import Console

pytest.importorskip("triton")
from benchmarks.gpu_model import costs, gpu_model, lens_report, report_tables, variants
from benchmarks.gpu_model.executed import Executed
from tests.dhs.injection import lens_draws

pytestmark = pytest.mark.slow

SHAPE = (13, 16)
PROGRAMS = 8
CASES = [(group, capability) for group in lens_report.GROUPS.values() for capability in (80, 90)]


@functools.cache
def compiled(group: str, capability: int) -> variants.Compiled:
    return variants.compile_kernel(lambda: lens_report.launch(group, device="meta"), capability)


@pytest.fixture(scope="module")
def executed() -> list[Executed]:
    """Execute a small image."""
    return lens_report.execute("lens", slice(1, 2), SHAPE)


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


def test_counts_are_those_of_the_source(executed: list[Executed]) -> None:
    (image,) = executed
    assert image.programs == PROGRAMS
    by_line: dict[str, int] = {}
    lines = (variants.KERNELS / "triton_lens.py").read_text().splitlines()
    for chain, count in image.counts.items():
        if chain:
            text = lines[chain[0][1] - 1].strip()
            by_line[text] = by_line.get(text, 0) + count
    assert by_line["p_row = p_table + image * column.COLUMNS"] == PROGRAMS
    shots = by_line["r = tl.sqrt(along * along + across * across)"]
    assert shots > 20 * PROGRAMS, "pixels were refined"
    assert by_line["term = tl.load(p_last - k)"] >= shots
    assert sum(traffic.dram for traffic in image.stores.values()) == 4 * 3 * SHAPE[0] * SHAPE[1]


@pytest.mark.parametrize("capability", [80, 90])
def test_cost_of_an_image(capability: int, executed: list[Executed]) -> None:
    row = lens_report.row("lens", capability, executed)
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
    for name, times in modelled["devices"].items():
        issue = gpu_model.issue_seconds(modelled["warp_instructions"], capability)
        assert times["seconds"] > 0.9 * issue or name == "H200", "its clock is higher"
        assert f"{times['seconds'] * 1e6:.3f}" in printed


def test_what_does_not_compile_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(lens_report, "compile_kernel", broken)
    assert lens_report.row("lens", 90, [])["unavailable"] == "RuntimeError: no"
