"""Tests of the compile report: compilation without a GPU, and counts of instructions."""

from __future__ import annotations

import importlib.util
import json
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import pytest

pytest.importorskip("triton")

import pytest

from benchmarks.gpu_model import (
    compile_report,
    executed,
    flow,
    gpu_model,
    report_tables,
    sass,
    trace,
    variants,
)

pytestmark = pytest.mark.slow

TRIPS = [5, 0, 17, 3]
TOY = """
import torch
import triton
import triton.language as tl


@triton.jit
def shifted(x, by):
    return tl.exp(-tl.abs(x)) + by


@triton.jit
def toy(p_x, p_trips, p_y):
    program = tl.program_id(0)
    i = tl.arange(0, 64)
    x = tl.load(p_x + i)
    for trip in range(tl.load(p_trips + program)):
        x = (
            shifted(x, 0.5)
            * shifted(x, 0.25)
        )
        tl.store(p_y + program * 4096 + trip * 64 + i, tl.sum(x) + x)
    left = tl.sum(x)
    while left > 1e30:
        left = left * 0.5
        tl.atomic_add(p_y, left)
    if left == 12345:
        tl.store(p_y + i, x)
        tl.debug_barrier()


def launch(device):
    trips = torch.tensor(TRIPS, dtype=torch.int32, device=device)
    x = torch.full((64,), -1.0, device=device)
    toy[(len(TRIPS),)](x, trips, torch.zeros(len(TRIPS) * 4096, device=device), num_warps=1)

""".replace("TRIPS", repr(TRIPS))


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    no_numba = {"kernel": "numba-cuda", "variant": "float32", "unavailable": "not asked for"}
    with mock.patch.object(
        compile_report, "numba_row", lambda capability: {**no_numba, "capability": capability}
    ):
        result: dict[str, Any] = compile_report.report(["float32"], [90, 80], lambda step: None)
    return result


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("toy") / "toy.py"
    file.write_text(TOY)
    return file


@pytest.fixture(scope="module")
def toy_programs(toy: Path) -> list[executed.Executed]:
    return executed.record(lambda: _load(toy).launch("cpu"), 90, toy.parent)


def _row(found: dict[str, Any], capability: int) -> dict[str, Any]:
    (row,) = (
        row
        for row in found["rows"]
        if row["capability"] == capability and row["kernel"] == "triton"
    )
    assert "unavailable" not in row
    return dict(row)


def _load(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("toy", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _line(toy: Path, text: str) -> int:
    (line,) = (n for n, row in enumerate(toy.read_text().splitlines(), 1) if text in row)
    return line


def test_lines_are_counted_once_for_every_time_they_run(
    toy: Path, toy_programs: list[executed.Executed]
) -> None:
    product, inner, store, left = (
        _line(toy, text)
        for text in ("x = (", "tl.exp(-", "tl.store(p_y + program", "left = tl.sum(x)")
    )
    assert len(toy_programs) == len(TRIPS)
    for found, trips in zip(toy_programs, TRIPS, strict=True):
        assert found.programs == 1
        assert found.counts[("toy.py", left),] == 1
        for chain in ((product,), (store,), (inner, product)):
            assert found.counts.get(tuple(("toy.py", line) for line in chain), 0) == trips


def test_bytes_are_those_that_a_program_touches(
    toy: Path, toy_programs: list[executed.Executed]
) -> None:
    load, store = (
        (("toy.py", _line(toy, text)),) for text in ("x = tl.load(", "tl.store(p_y + program")
    )
    for found, trips in zip(toy_programs, TRIPS, strict=True):
        # 64 floats that all programs read are in the L2 cache.
        assert found.loads[load] == (0, 256)
        assert found.stores.get(store, (0, 0)) == (256 * trips, 256 * trips)


def test_programs_are_added_up(toy_programs: list[executed.Executed]) -> None:
    both = executed.together(toy_programs[2:])
    assert both.programs == 2
    for chain, count in both.counts.items():
        assert count == sum(found.counts.get(chain, 0) for found in toy_programs[2:])
    assert sum(t.dram for t in both.stores.values()) == 256 * sum(TRIPS[2:])


@pytest.mark.parametrize("capability", [80, 90])
def test_instructions_of_a_loop_are_counted_as_often_as_it_runs(
    toy: Path, toy_programs: list[executed.Executed], tmp_path: Path, capability: int
) -> None:
    compiled = variants.compile_kernel(lambda: _load(toy).launch("meta"), capability)
    assert compiled.warps == 1
    cubin = tmp_path / "toy.cubin"
    cubin.write_bytes(compiled.cubin)
    blocks = sass.disassemble(cubin, toy.parent)
    # The loop in memory: from a label to the jump back to it, around the store.
    labels = {label: i for i, block in enumerate(blocks) for label in block.labels}
    jumps = [(i, block.instructions[-1].jump) for i, block in enumerate(blocks)]
    loops = [range(labels[to], i + 1) for i, to in jumps if to is not None and labels[to] <= i]
    store = ("toy.py", _line(toy, "tl.store(p_y + program"))
    (loop,) = (
        body
        for body in loops
        if any(
            x.kind == "STG" and x.chain == (store,) for i in body for x in blocks[i].instructions
        )
    )
    size = sum(len(blocks[i].instructions) for i in loop)
    assert size > 20
    totals = []
    for found, trips in zip(toy_programs, TRIPS, strict=True):
        runs = flow.executions(blocks, flow.paths_of(flow.flow_of(blocks, found.counts)))
        assert sum(runs[i] * len(blocks[i].instructions) for i in loop) == trips * size
        totals.append(sum(n * len(b.instructions) for n, b in zip(runs, blocks, strict=True)))
        never = [i for i, b in enumerate(blocks) if b.instructions[0].kind == "ATOMG"]
        assert all(runs[i] == 0 for i in never)
    # Two programs that enter the loop differ only by its iterations.
    assert totals[2] - totals[0] == (TRIPS[2] - TRIPS[0]) * size


def test_counts_agree_with_the_flow(found: dict[str, Any]) -> None:
    for capability in (80, 90):
        for group in _row(found, capability)["modelled"].values():
            assert 0.85 < group["agreement"] <= 1


def test_a_real_binary_is_parsed(found: dict[str, Any]) -> None:
    for capability in (80, 90):
        row = _row(found, capability)
        assert 32 <= row["registers"] <= 255
        # An instruction has 16 bytes; the code ends with padding instructions.
        padding = row["code_bytes"] - 16 * row["instructions"]
        assert 0 <= padding < 16 * 64
        assert row["code_bytes"] < row["cubin_bytes"]
        assert row["warps"] <= row["resident_warps"] <= 64
        assert not row["copied"]


def test_every_figure_of_the_headline_is_reached(found: dict[str, Any]) -> None:
    assert len(found["figures"]) == 4
    assert [figure for figure in found["figures"] if not figure["reached"]] == []


@pytest.mark.parametrize(
    ("key", "value"),
    [("stack_bytes", 17), ("registers", 129), ("seconds", 20.1)],
)
def test_a_figure_that_is_missed_is_told(found: dict[str, Any], key: str, value: float) -> None:
    figures = compile_report.headline_figures([{**_row(found, 90), key: value}])
    assert [figure["value"] for figure in figures if not figure["reached"]] == [value]


def test_a_kernel_that_does_not_compile_is_a_missed_figure() -> None:
    with mock.patch.object(compile_report, "compile_variant", side_effect=RuntimeError("no")):
        row, code = compile_report.triton_row("float32", 90)
    assert row["unavailable"] == "RuntimeError: no"
    assert code is None
    assert not compile_report.headline_figures([row])[0]["reached"]


@pytest.mark.parametrize(("capability", "most"), [(80, 96), (90, 16)])
def test_float32_spills_little(found: dict[str, Any], capability: int, most: int) -> None:
    row = _row(found, capability)
    assert row["stack_bytes"] <= most
    assert row["local_instructions"] <= most


def test_products_and_sums_are_not_fused(found: dict[str, Any]) -> None:
    for capability in (80, 90):
        row = _row(found, capability)
        assert row["fusion"] == "enable_fp_fusion=False"
        assert row["fma_in_ptx"] == 0


def test_fused_products_would_be_seen(toy: Path) -> None:
    # The toy kernel uses the default of the option.
    assert variants.compile_kernel(lambda: _load(toy).launch("meta"), 90).fuses


def test_passes_are_below_their_bounds(found: dict[str, Any]) -> None:
    bounds = found["bounds"]["float32"]
    assert bounds == {"counting": 10, "bisecting": 32}
    groups = found["passes"]["float32"]
    assert set(groups) >= {"simulated"}
    for group in groups.values():
        for label, passes in group.items():
            assert 0 <= passes["median"] <= passes["maximum"] <= bounds[label.split(", ")[1]]
        assert group["median, counting"]["median"] >= 1


def test_the_headline_is_simulated_on_every_device(found: dict[str, Any]) -> None:
    for capability, names in ((80, {"A100"}), (90, {"H100", "H200"})):
        for group in _row(found, capability)["modelled"].values():
            assert set(group["devices"]) == names
            assert group["warp_instructions"] <= group["most_warp_instructions"]
            functions = sum(group["functions"].values())
            assert functions == pytest.approx(group["warp_instructions"], rel=0.3)
            for name, times in group["devices"].items():
                device = gpu_model.DEVICES[name]
                memory = gpu_model.memory_seconds(2 * 4 * 101 * 101, device)
                assert times["memory_seconds"] == pytest.approx(memory, rel=1e-3)
                # No faster than a copy, nor than instructions are issued.
                assert times["share_of_copy"] <= 1.01
                cycles = times["seconds"] * device.hertz * device.multiprocessors
                assert cycles >= 0.9 * group["warp_instructions"] / gpu_model.SCHEDULERS
                assert times["share_of_copy"] > 0.6


def test_a_trace_holds_the_path_and_all_bytes(tmp_path: Path) -> None:
    programs, _ = variants.execute("float32", variants.simulated((101, 101), 1))
    compiled = variants.compile_variant("float32", 90)
    cubin = tmp_path / "kernel.cubin"
    cubin.write_bytes(compiled.cubin)
    blocks = sass.disassemble(cubin, variants.KERNELS)
    paths = trace.paths_through(blocks, programs)
    made = trace.make_trace(blocks, paths, compiled.warps, 90)
    assert len(made.starts) == len(programs) + 1
    for i, (each, ways) in enumerate(paths):
        part = slice(made.starts[i], made.starts[i + 1])
        runs = flow.executions(blocks, ways)
        issued = sum(n * len(b.instructions) for n, b in zip(runs, blocks, strict=True))
        assert part.stop - part.start == issued
        moved = compiled.warps * made.bytes[part, 0].sum()
        stored = sum(t.dram for t in each.stores.values())
        assert stored == pytest.approx(4 * 101 * 101, rel=0.01)
        # Each plane is read once and written once.
        assert moved == pytest.approx(2 * 4 * 101 * 101, rel=0.01)


def test_without_numba_cuda_the_row_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastnorm.kernels.numba_cuda_normalize", None)
    monkeypatch.delattr("fastnorm.kernels.numba_cuda_normalize", raising=False)
    row = compile_report.numba_row(90)
    assert row["unavailable"].startswith("ModuleNotFoundError: ")


def test_tables_say_that_they_are_a_model(
    found: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    report_tables.show(found)
    printed = capsys.readouterr().out
    titles = [line.split() for line in printed.splitlines() if line.startswith("Modelled")]
    assert len(titles) >= 2
    assert printed.count("reached: ") == 4
    assert "is unavailable: not asked for" in printed
    assert all(line in printed.replace("\n", " ") for line in found["assumptions"][0].split("\n"))


@pytest.mark.parametrize("reached", [True, False])
def test_exit_code(
    reached: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = [{"reached": True}, {"reached": reached}]
    monkeypatch.setattr(compile_report, "report", lambda *_: {"figures": figures})
    monkeypatch.setattr(sys, "argv", ["compile_report", "--json"])
    assert compile_report.main() == int(not reached)
    assert json.loads(capsys.readouterr().out) == {"figures": figures}


def test_simulated_planes_repeat_and_differ() -> None:
    first, again = (variants.simulated((64, 64), 2) for _ in range(2))
    assert first.dtype == np.float32
    assert np.array_equal(first, again)
    assert all(not np.array_equal(a, b) for a, b in pairwise(first.reshape(6, -1)))


def test_disassembly_is_split_at_labels_and_jumps(
    toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    product, inner = _line(toy, "x = ("), _line(toy, "tl.exp(-")
    listing = f"""
        .text.toy:
        //## File "/elsewhere/standard.py", line 7 inlined at "{toy}", line {inner}
        //## File "{toy}", line {inner} inlined at "{toy}", line {product + 2}
        //## File "{toy}", line {product + 2}
            /*0000*/              @!P0 LDG.E.128 R64, desc[UR6][R48.64+0x2c00] ;
            /*0010*/                   BRA.U UP0, `(.L_x_2) ;
        //## File "{toy}", line {product}
            /*0020*/                   BRA `(.L_x_3) ;
        .L_x_2:
            /*0030*/                   BRA.DIV UR4, `(.L_x_4) ;
            /*0040*/               @P1 CALL.REL.NOINC `(.L_x_4) ;
            /*0050*/                   CALL.REL.NOINC `($toy$slow) ;
            /*0060*/                   NOP ;
        .L_x_3:
            /*0070*/              @!P1 EXIT ;
        .L_x_4:
            /*0080*/                   EXIT ;
    """
    # With the two halves of each encoding.
    listing = listing.replace(";\n", "; /* 0x0000000000000000 */\n    /* 0x000fca0000000000 */\n")
    monkeypatch.setattr(sass, "run_tool", lambda *_: listing)
    blocks = sass.disassemble(toy, toy.parent)
    assert [[x.opcode for x in block.instructions] for block in blocks] == [
        ["LDG.E.128", "BRA.U"],
        ["BRA"],
        ["BRA.DIV"],
        ["CALL.REL.NOINC"],
        ["CALL.REL.NOINC"],
        ["EXIT"],
        ["EXIT"],
    ]
    assert [block.labels for block in blocks] == [
        (".text.toy",), (), (".L_x_2",), (), (), (".L_x_3",), (".L_x_4",),
    ]  # fmt: skip
    inlined = (("toy.py", inner), ("toy.py", product))
    assert [x.chain for x in blocks[0].instructions] == [inlined, inlined]
    assert blocks[1].instructions[0].chain == inlined[1:]
    assert [x.is_predicated for x in blocks[0].instructions] == [True, False]
    assert {x.control for block in blocks for x in block.instructions} == {sass.Control(5, 7, 7, 0)}
    assert [block.is_slow for block in blocks] == [False] * 4 + [True, False, False]
    assert flow.successors(blocks) == [[2, 1], [5], [3], [6, 4], [5], [6], []]
