"""The simulation of a multiprocessor, on traces whose time is known by hand."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("triton")
from benchmarks.gpu_model import gpu_model
from benchmarks.gpu_model.multiprocessor import (
    BARRIER,
    DRAM_LOAD,
    L2_LOAD,
    NOTHING,
    STORE,
    Simulated,
    Trace,
    simulate,
)

pytestmark = pytest.mark.slow

H100 = gpu_model.DEVICES["H100"]
RATE = H100.bytes_per_second / (H100.multiprocessors * H100.hertz)  # bytes per cycle
NONE = 7
PLAIN = (4, NONE, NONE, 0, NOTHING, 20)


def _trace(
    *instructions: tuple[int, int, int, int, int, int],
    dram: float = 0.0,
    l2: float = 0.0,
    pipe: float = 0.0,
) -> Trace:
    """Return the trace of one program whose loads and stores all move the same bytes."""
    control = np.array(instructions)
    moves = np.isin(control[:, 4], (DRAM_LOAD, L2_LOAD, STORE))
    return Trace(
        control,
        np.full((len(control), 1), pipe),
        moves[:, None] * np.array([dram, l2]),
        np.array([0, len(control)]),
    )


def _alone(trace: Trace, device: gpu_model.Device = H100, warps: int = 1) -> Simulated:
    return simulate(trace, device, 1, warps, multiprocessors=1)


@pytest.mark.parametrize("kind", [DRAM_LOAD, STORE])
@pytest.mark.parametrize("name", list(gpu_model.DEVICES))
def test_what_only_moves_bytes_takes_the_time_of_a_copy(name: str, kind: int) -> None:
    device = gpu_model.DEVICES[name]
    move = (1, 0, NONE, 0, kind, 20)
    wait = (1, NONE, NONE, 1, NOTHING, 20)
    found = simulate(_trace(*[move] * 64, wait, dram=512.0, l2=512.0), device, 16, 2)
    rate = device.bytes_per_second / (device.multiprocessors * device.hertz)
    assert found.cycles == pytest.approx(2 * 64 * 512 / rate, rel=0.01)


def test_the_l2_cache_has_a_rate_of_its_own() -> None:
    load = (1, 0, NONE, 0, L2_LOAD, 20)
    wait = (1, NONE, NONE, 1, NOTHING, 20)
    found = simulate(_trace(*[load] * 64, wait, l2=512.0), H100, 16, 2)
    rate = H100.l2_bytes_per_cycle / H100.multiprocessors
    assert found.cycles == pytest.approx(2 * 64 * 512 / rate, rel=0.01)


def test_dependent_instructions_of_a_warp_take_their_stall_counts() -> None:
    stalls = [4, 1, 13, 2, 6, 5]
    trace = _trace(*[(stall, NONE, NONE, 0, NOTHING, 20) for stall in stalls])
    # The program ends when its last instruction is issued.
    assert _alone(trace).latency == sum(stalls[:-1])


def test_a_stall_count_of_0_is_one_cycle() -> None:
    assert _alone(_trace(*[(0, NONE, NONE, 0, NOTHING, 20)] * 9)).latency == 8


@pytest.mark.parametrize(("kind", "latency"), [(DRAM_LOAD, 560), (L2_LOAD, 265)])
def test_dependent_loads_take_their_latency(kind: int, latency: int) -> None:
    loads = 50
    trace = _trace(*[(1, 2, NONE, 4, kind, 20)] * loads, PLAIN)
    once = _alone(trace).latency
    # The last instruction does not wait.
    assert once == (loads - 1) * latency + 1
    twice = H100._replace(dram_latency=2 * H100.dram_latency, l2_latency=2 * H100.l2_latency)
    assert _alone(trace, twice).latency == 2 * (once - 1) + 1


def test_a_scoreboard_is_waited_for_only_if_the_mask_names_it() -> None:
    load, other, same = ((1, 2, NONE, waits, DRAM_LOAD, 20) for waits in (0, 2, 4))
    assert _alone(_trace(load, other, PLAIN)).latency == 2
    assert _alone(_trace(load, same, PLAIN)).latency == H100.dram_latency + 1


def test_operands_are_kept_until_they_are_read() -> None:
    store, write = (1, NONE, 3, 0, STORE, 20), (4, NONE, NONE, 8, NOTHING, 20)
    assert _alone(_trace(store, write)).latency == 20


def test_a_scheduler_issues_one_instruction_per_cycle() -> None:
    trace = _trace(*[PLAIN] * 1000)
    # Four schedulers; alone, a warp issues every fourth cycle.
    assert simulate(trace, H100, 32, 2).cycles == pytest.approx(2 * 1000 / 4, rel=0.01)


def test_a_pipe_is_shared_by_the_warps_of_a_scheduler() -> None:
    trace = _trace(*[PLAIN] * 1000, pipe=2.0)
    assert simulate(trace, H100, 32, 2).cycles == pytest.approx(2 * 2 * 1000 / 4, rel=0.01)


def test_warps_wait_for_each_other_at_a_barrier() -> None:
    barrier = (1, NONE, NONE, 0, BARRIER, 20)
    trace = _trace(barrier, barrier, PLAIN)
    assert _alone(trace, warps=4).latency == 2 * gpu_model.BARRIER_LATENCY


def test_programs_hide_each_others_latency() -> None:
    step = [(1, 2, NONE, 0, DRAM_LOAD, 20), *[(1, NONE, NONE, 0, NOTHING, 20)] * 20]
    trace = _trace(*step, (1, NONE, NONE, 4, NOTHING, 20), dram=32.0)
    one, four = (simulate(trace, H100, places, 1) for places in (1, 4))
    assert four.cycles == pytest.approx(one.cycles / 4, rel=0.05)
    assert max(one.waits, key=lambda reason: one.waits[reason]) == "DRAM"
    assert sum(one.waits.values()) == pytest.approx(1)


def test_traces_are_run_in_turn() -> None:
    control = np.array([PLAIN] * 400)
    trace = Trace(control, np.zeros((400, 1)), np.zeros((400, 2)), np.array([0, 100, 400]))
    found = simulate(trace, H100, 1, 1, multiprocessors=1)
    mean = (99 * 4 + 299 * 4) / 2 + gpu_model.LAUNCH_CYCLES
    assert found.cycles == pytest.approx(mean, rel=0.01)
