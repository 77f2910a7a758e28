"""Simulation of multiprocessors that run the traces of a kernel's programs.

Every warp issues the instructions of its trace in order. An instruction waits for the stall
count of the one before, for the scoreboards in its wait mask, for its pipe, and for its
scheduler. Every multiprocessor has its port to the L2 cache. All of them share one queue for
DRAM, which has their part of the bandwidth of a copy: a burst of one passes while the others
compute. `ASSUMPTIONS` in `gpu_model` lists what is left out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from benchmarks.gpu_model.gpu_model import (
    BARRIER_LATENCY,
    LAUNCH_CYCLES,
    SCHEDULERS,
    Device,
)

NEVER = 1 << 62
SCOREBOARDS = 6
MULTIPROCESSORS = 4  # simulated together
WAVES = 4  # programs per place that are counted, and as many that are not
# What an instruction does outside its warp.
NOTHING, L2_LOAD, DRAM_LOAD, STORE, PREFETCH, BARRIER = range(6)
REASONS = ("DRAM", "L2", "short latency", "barrier", "stall count", "turn")
"""Reasons why a warp waits: a scoreboard of three kinds, the other warps, the assembler's fixed
latencies, a pipe or the scheduler."""
ON_DRAM, ON_L2, ON_SHORT, ON_BARRIER, ON_STALL, ON_TURN = range(len(REASONS))


class Trace(NamedTuple):
    """Instructions of a warp of one or several programs, one after the other."""

    control: NDArray[np.int64]  # stall count, write and read scoreboard, wait mask, kind, latency
    pipes: NDArray[np.float64]  # cycles in each pipe
    bytes: NDArray[np.float64]  # to and from DRAM, and the L2 cache
    starts: NDArray[np.int64]  # first instruction of every program, and the end


class Simulated(NamedTuple):
    """Programs in the steady state of a multiprocessor."""

    cycles: float  # of a multiprocessor per program
    latency: float  # median cycles from the start to the end of a program
    waits: dict[str, float]  # fraction of a warp's time, by reason


@njit(cache=True)  # type: ignore[untyped-decorator]
def _run(
    control: Any, pipes: Any, sizes: Any, starts: Any,
    multiprocessors: int, places: int, warps: int, programs: int, begins: Any,
    dram_rate: float, l2_rate: float, dram_latency: int, l2_latency: int,
) -> Any:  # fmt: skip
    """Run programs to their end.

    Returns start and end of every program, the instructions that had been issued in all at
    each end, and the cycles that warps wait, by reason.
    """
    count, traces = places * warps, len(starts) - 1
    begin, end = np.zeros(programs, np.int64), np.zeros(programs, np.int64)
    issued = np.zeros(programs, np.int64)
    waits = np.zeros(len(REASONS))
    # By place, all multiprocessors together.
    program = np.zeros(multiprocessors * places, np.int64)
    running, arrived = np.zeros_like(program), np.zeros_like(program)
    # By warp: when it may issue its next instruction, and why not earlier.
    ready = np.full(multiprocessors * count, NEVER, np.int64)
    reason, since, resumes = np.zeros_like(ready), np.zeros_like(ready), np.zeros_like(ready)
    position = np.zeros_like(ready)
    release = np.zeros((len(ready), SCOREBOARDS), np.int64)
    holder = np.zeros((len(ready), SCOREBOARDS), np.int64)
    pipe_free = np.zeros((multiprocessors * SCHEDULERS, pipes.shape[1]))
    l2_free, dram_free = np.zeros(multiprocessors), 0.0
    started = finished = time = total = 0
    while finished < programs:
        for place in range(len(program)):
            if running[place] == 0 and started < programs:
                program[place], running[place] = started, warps
                begin[started] = begins[place] if time == 0 else time + LAUNCH_CYCLES
                for w in range(place * warps, (place + 1) * warps):
                    position[w] = starts[started % traces]
                    ready[w] = since[w] = begin[started]
                    release[w], reason[w] = 0, ON_STALL
                started += 1
        ended = finished
        while finished == ended:
            following = NEVER
            for scheduler in range(len(pipe_free)):
                m, first = scheduler // SCHEDULERS, scheduler % SCHEDULERS
                chosen = -1
                for w in range(m * count + first, (m + 1) * count, SCHEDULERS):
                    at = ready[w]
                    if at <= time:
                        for pipe in range(pipes.shape[1]):
                            if pipes[position[w], pipe] > 0:
                                at = max(at, np.int64(np.ceil(pipe_free[scheduler, pipe])))
                    if at > time:
                        following = min(following, at)
                    elif chosen < 0 or ready[w] < ready[chosen]:
                        chosen = w
                if chosen < 0:
                    continue
                following = time + 1
                w, i, place = chosen, position[chosen], chosen // warps
                waits[reason[w]] += ready[w] - since[w]
                waits[ON_TURN] += time - ready[w]
                since[w] = time
                total += 1
                for pipe in range(pipes.shape[1]):
                    if pipes[i, pipe] > 0:
                        pipe_free[scheduler, pipe] = time + pipes[i, pipe]
                stall, written, read, _, kind, latency = control[i]
                done, held_by = time + latency, ON_SHORT
                if NOTHING < kind < BARRIER:
                    l2_free[m] = max(l2_free[m], time) + sizes[i, 1] / l2_rate
                    served = l2_free[m]
                    if sizes[i, 0] > 0:
                        dram_free = max(dram_free, time) + sizes[i, 0] / dram_rate
                        served = max(served, dram_free)
                    if kind == DRAM_LOAD:
                        done, held_by = np.int64(served) + dram_latency, ON_DRAM
                    elif kind == L2_LOAD:
                        done, held_by = np.int64(served) + l2_latency, ON_L2
                if written < SCOREBOARDS and done > release[w, written]:
                    release[w, written], holder[w, written] = done, held_by
                if read < SCOREBOARDS and time + latency > release[w, read]:
                    release[w, read], holder[w, read] = time + latency, ON_SHORT
                position[w] += 1
                if position[w] == starts[program[place] % traces + 1]:
                    ready[w] = NEVER
                    running[place] -= 1
                    if running[place] == 0:
                        end[program[place]], issued[program[place]] = time, total
                        finished += 1
                    continue
                at, why = time + max(stall, 1), ON_STALL
                for board in range(SCOREBOARDS):
                    is_awaited = control[position[w], 3] >> board & 1
                    if is_awaited and release[w, board] > at:
                        at, why = release[w, board], holder[w, board]
                ready[w], resumes[w], reason[w] = at, at, why
                if kind == BARRIER:
                    ready[w] = NEVER
                    arrived[place] += 1
                    if arrived[place] == warps:
                        arrived[place] = 0
                        for other in range(place * warps, (place + 1) * warps):
                            ready[other] = max(resumes[other], time + BARRIER_LATENCY)
                            reason[other] = ON_BARRIER
            time = max(time + 1, following)
    return begin, end, issued, waits


def simulate(
    trace: Trace,
    device: Device,
    places: int,
    warps: int,
    multiprocessors: int = MULTIPROCESSORS,
) -> Simulated:
    """Simulate multiprocessors of a device in their steady state.

    Parameters
    ----------
    trace : Trace
        Traces of the programs, which are started in turn.
    device : Device
        Rates and latencies.
    places : int
        Programs that are resident on a multiprocessor at once.
    warps : int
        Warps of each program. All of them have the same trace.
    multiprocessors : int, optional
        How many to simulate.
    """
    dram_rate = device.bytes_per_second / (device.multiprocessors * device.hertz)
    l2_rate = device.l2_bytes_per_cycle / device.multiprocessors

    def run(multiprocessors: int, places: int, programs: int, begins: NDArray[np.int64]) -> Any:
        return _run(
            *trace, multiprocessors, places, warps, programs, begins,
            multiprocessors * dram_rate, l2_rate, device.dram_latency, device.l2_latency,
        )  # fmt: skip

    traces = len(trace.starts) - 1
    begin, end, _, _ = run(1, 1, traces, np.zeros(1, np.int64))
    all_places = multiprocessors * places
    # After a while, programs are anywhere in their code.
    phase = np.arange(all_places) * 0.618034 % 1
    begins = (phase * np.median(end - begin)).astype(np.int64)
    # Count whole rounds of the traces, between programs that fill and empty the places.
    counted = max(WAVES * all_places // traces, 1) * traces
    outside = WAVES * all_places // 2
    begin, end, issued, waits = run(multiprocessors, places, counted + 2 * outside, begins)
    order = np.argsort(end, kind="stable")
    first, last = order[outside - 1], order[outside + counted - 1]
    # Long programs that are not over at the end of the window have been issued in part.
    rate = (issued[last] - issued[first]) / (end[last] - end[first]) / multiprocessors
    cycles = len(trace.control) / traces * warps / rate
    # The window holds other parts of the programs at its ends, but all bytes need their time.
    moved = trace.bytes[:, 0].sum() * warps / traces
    return Simulated(
        max(float(cycles), float(moved / dram_rate)),
        float(np.median(end - begin)),
        {name: float(n / waits.sum()) for name, n in zip(REASONS, waits, strict=True)},
    )
