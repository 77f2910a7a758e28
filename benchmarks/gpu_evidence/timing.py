"""Device time of functions, in turns with a copy of the same bytes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu_evidence.place import Place, Row
from benchmarks.gpu_evidence.reasons import one_line

Call = Callable[[int], object]
COPY = "copy"
ROUNDS, LEAST_ROUNDS = 31, 5
LAUNCHES = 8


@dataclass
class Timed:
    """Seconds of one call in every round, and of the first call, which compiles."""

    first_call_seconds: float = 0.0
    seconds: dict[int, float] = field(default_factory=dict)
    error: str = ""


def in_turns(calls: Mapping[str, Call], where: Place, budget: float) -> dict[str, Timed]:
    """Time functions in turns in random order, for at most ``budget`` seconds.

    Parameters
    ----------
    calls : mapping of str to callable
        Functions; each takes the number of the call.
    where : Place
        Device. In a rehearsal there are two rounds of one call.
    budget : float
        Seconds after which no further round starts, unless there were fewer than five.

    Returns
    -------
    dict of str to Timed
        A function that raises has an ``error`` and takes no further part.
    """
    found = {name: _first(call, where) for name, call in calls.items()}
    rng, started = np.random.default_rng(0), time.perf_counter()
    names = list(calls)
    for number in range(2 if where.is_rehearsal else ROUNDS):
        if number >= LEAST_ROUNDS and time.perf_counter() - started > budget:
            break
        for i in rng.permutation(len(names)):
            timed = found[names[i]]
            if timed.error:
                continue
            try:
                timed.seconds[number] = _seconds(calls[names[i]], where)
            except Exception as error:
                timed.error = one_line(error)
    return found


def _first(call: Call, where: Place) -> Timed:
    started = time.perf_counter()
    try:
        call(0)
        where.synchronize()
    except Exception as error:
        return Timed(error=one_line(error))
    return Timed(time.perf_counter() - started)


def _seconds(call: Call, where: Place) -> float:
    """Return the seconds of one call, on a GPU from events around several calls."""
    if where.is_rehearsal:
        started = time.perf_counter()
        call(1)
        return time.perf_counter() - started
    event: Any = torch.cuda.Event
    start, end = event(enable_timing=True), event(enable_timing=True)
    # This call is not timed: it keeps the device busy while the host queues the others.
    call(0)
    start.record()
    for i in range(LAUNCHES):
        call(i + 1)
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1000 / LAUNCHES


def copy_of(count: int, where: Place, buffers: int = 1) -> Call:
    """Return a copy that moves ``count`` bytes, reads and writes together."""
    pairs: list[tuple[Tensor, Tensor]] = []
    for _ in range(buffers):
        source = torch.ones(max(1, count // 2), dtype=torch.uint8, device=where.device)
        pairs.append((source, torch.zeros_like(source)))
    return lambda i: pairs[i % buffers][1].copy_(pairs[i % buffers][0])


def row(name: str, timed: Timed, count: int, copy: Timed | None) -> Row:
    """Return the row of a function that moves ``count`` bytes.

    Parameters
    ----------
    name : str
        Name of the function.
    timed : Timed
        Its times.
    count : int
        Bytes that it has to move.
    copy : Timed or None
        Times of the copy of the same bytes; ratios are those of the same round.

    Returns
    -------
    dict
        Seconds, GB/s (10^9 bytes per second) and the speed as a fraction of the copy.
    """
    if timed.error or not timed.seconds:
        return {"name": name, "error": timed.error or "not timed"}
    low, middle, high = np.percentile(list(timed.seconds.values()), [25, 50, 75]).tolist()
    found: Row = {
        "name": name,
        "bytes": count,
        "seconds": middle,
        "seconds_25": low,
        "seconds_75": high,
        "gb_per_second": count / middle / 1e9,
        "first_call_seconds": timed.first_call_seconds,
        "rounds": list(timed.seconds.values()),
    }
    if copy is not None and copy.seconds:
        of_copy = [copy.seconds[k] / timed.seconds[k] for k in timed.seconds if k in copy.seconds]
        copied = float(np.median(list(copy.seconds.values())))
        found |= {"of_copy": float(np.median(of_copy)), "copy_gb_per_second": count / copied / 1e9}
    return found
