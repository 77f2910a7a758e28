"""The speed of each backend on this machine, as a fraction of the speed of a copy in the same run.

Bytes are counted, not measured: every pixel is read once and written once, plus the
statistics. Contenders take turns in random order, on buffers that together are far
larger than the last-level cache, so that neither cache nor drift favours any of them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

import fastnorm
from fastnorm.annulus import Annulus
from fastnorm.dispatch import threads
from fastnorm.normalize import gpu

ANNULUS = Annulus(32.5, 45.0)
CLIP = 10.0
SHAPE = (3, 101, 101)
PIXELS = 3 * 101 * 101
BUFFERS = 4  # pairs of a stack and its result, used in turn
LAUNCHES = 8  # kernel launches between two events on a GPU
LEAST_BYTES = {"cpu": 2**30, "cuda": 2**33}
"""Fewest bytes of all buffers; on a GPU enough that a launch outlasts the host's work for it."""
CACHES = 4  # the buffers fill at least this many last-level caches

Call = Callable[[int], object]
Timer = Callable[[Call, Iterator[int]], float]


class Contender(NamedTuple):
    """A timed function: ``call(i)`` works on buffer ``i`` and moves at least ``bytes`` bytes."""

    name: str
    backend: str
    bytes: int
    call: Call


class Speed(NamedTuple):
    """Bandwidth of counted bytes over the rounds, in GB/s (10^9 bytes per second).

    ``low`` and ``high`` are the quartiles; ``of_copy`` is the ratio of the medians.
    """

    name: str
    backend: str
    device: str
    bytes: int
    rounds: int
    median: float
    low: float
    high: float
    of_copy: float


class Room(NamedTuple):
    """Sizes in bytes of the buffers and of the cache that they should exceed."""

    device: str
    buffers: int
    total_bytes: int
    cache_bytes: int
    threads: int | None


def measure(
    device: str,
    backends: Sequence[str],
    *,
    rounds: int,
    least_bytes: int | None = None,
    timer: Timer | None = None,
) -> tuple[Room, list[Speed]]:
    """Time a copy and each backend on stacks of (N, 3, 101, 101) float32.

    Parameters
    ----------
    device : str
        ``"cpu"`` or ``"cuda"``.
    backends : sequence of str
        Backends for tensors on that device.
    rounds : int
        Number of timings of each contender.
    least_bytes : int, optional
        Fewest bytes of all buffers together. They also fill at least 4 times the
        last-level cache, but at most half of the free memory.
    timer : callable, optional
        ``timer(call, turns)`` returns the seconds of one ``call(next(turns))``.

    Returns
    -------
    room : Room
        Sizes of the buffers and the cache.
    speeds : list of Speed
        Speeds of the contenders, the copy first.
    """
    timer = timer or {"cpu": cpu_seconds, "cuda": cuda_seconds}[device]
    cache, free = (_cuda_memory if device == "cuda" else _cpu_memory)()
    wanted = max(least_bytes or LEAST_BYTES[device], CACHES * cache)
    count = max(8, min(wanted, free // 2) // (BUFFERS * 2 * 4 * PIXELS))
    sources = [_sky(count, device, seed) for seed in range(BUFFERS)]
    # Touch the memory before it is timed.
    targets = [torch.full_like(source, torch.nan) for source in sources]
    contenders = _contenders(device, backends, sources, targets)
    thread_count = None
    if device == "cpu":
        thread_count, before = threads.num_threads(), torch.get_num_threads()
        torch.set_num_threads(thread_count)
    try:
        seconds = time_interleaved(contenders, rounds, timer)
    finally:
        if thread_count is not None:
            torch.set_num_threads(before)
    total = BUFFERS * 2 * sources[0].nbytes
    return Room(device, BUFFERS, total, cache, thread_count), _speeds(device, contenders, seconds)


def _contenders(
    device: str, backends: Sequence[str], sources: list[Tensor], targets: list[Tensor]
) -> list[Contender]:
    count = len(sources[0])
    pixels = count * PIXELS
    # Median and MAD of every plane; on a GPU also the scale.
    statistics = (3 if device == "cuda" else 2) * 4 * 3 * count
    plain = pixels * (4 + 4) + statistics
    found = [Contender("copy", "torch", pixels * 8, lambda i: targets[i].copy_(sources[i]))]
    for name in backends:
        call = partial(_normalize, sources, targets, name)
        found.append(Contender("normalise", name, plain, call))
    if device == "cuda":
        index = torch.randperm(count, generator=torch.Generator("cpu").manual_seed(0), device="cpu")
        dihedral = (torch.arange(count, device="cpu") % 8).to(torch.uint8)
        index, dihedral = (tensor.to(sources[0].device) for tensor in (index, dihedral))
        training = pixels * (4 + 2) + statistics + (8 + 1) * count
        for name in backends:
            call = partial(_train, sources, targets, index, dihedral, name)
            found.append(Contender("normalise for training", name, training, call))
    return found


def _normalize(sources: list[Tensor], targets: list[Tensor], backend: str, i: int) -> None:
    fastnorm.normalize_footprint(sources[i], ANNULUS, clip=CLIP, out=targets[i], backend=backend)


def _train(
    sources: list[Tensor],
    targets: list[Tensor],
    index: Tensor,
    dihedral: Tensor,
    backend: str,
    i: int,
) -> None:
    """Do the work of a training loop: gather, normalise, turn, cast to bfloat16, channels last."""
    gpu.normalize(
        sources[i], ANNULUS, index=index, dihedral=dihedral, clip=CLIP, nan_to_zero=True,
        dtype=torch.bfloat16, channels_last=True, backend=backend,
    )  # fmt: skip


def time_interleaved(
    contenders: Sequence[Contender], rounds: int, timer: Timer
) -> list[list[float]]:
    """Time the contenders in turns, after each has used every buffer once.

    Parameters
    ----------
    contenders : sequence of Contender
        Functions to time.
    rounds : int
        Number of timings of each contender.
    timer : callable
        ``timer(call, turns)`` returns the seconds of one ``call(next(turns))``.

    Returns
    -------
    list of list of float
        Seconds of every round, for every contender.
    """
    for contender in contenders:
        for i in range(BUFFERS):
            contender.call(i)
    seconds: list[list[float]] = [[] for _ in contenders]
    rng = np.random.default_rng(0)
    turns = cycle(range(BUFFERS))
    for _ in range(rounds):
        for i in rng.permutation(len(contenders)):
            seconds[i].append(timer(contenders[i].call, turns))
    return seconds


def cpu_seconds(call: Call, turns: Iterator[int]) -> float:
    """Return the wall time of one call in seconds."""
    i = next(turns)
    start = time.perf_counter()
    call(i)
    return time.perf_counter() - start


def cuda_seconds(call: Call, turns: Iterator[int]) -> float:
    """Return the device time of one call in seconds, from events around several calls."""
    event: Any = torch.cuda.Event
    start, end = event(enable_timing=True), event(enable_timing=True)
    # This call is not timed: it keeps the device busy while the host queues the others.
    call(next(turns))
    start.record()
    for _ in range(LAUNCHES):
        call(next(turns))
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1000 / LAUNCHES


def _speeds(device: str, contenders: list[Contender], seconds: list[list[float]]) -> list[Speed]:
    speeds: list[Speed] = []
    for contender, times in zip(contenders, seconds, strict=True):
        quartiles = np.percentile(contender.bytes / np.array(times) / 1e9, [25, 50, 75])
        low, median, high = (float(value) for value in quartiles)
        of_copy = median / speeds[0].median if speeds else 1.0
        name, backend = contender.name, contender.backend
        speeds.append(
            Speed(name, backend, device, contender.bytes, len(times), median, low, high, of_copy)
        )
    return speeds


def _sky(count: int, device: str, seed: int) -> Tensor:
    """Draw galaxies on a noisy sky, (count, 3, 101, 101) float32."""
    generator = torch.Generator(device).manual_seed(seed)
    stack = torch.randn((count, *SHAPE), generator=generator, device=device).mul_(0.02)
    offset = torch.arange(101, device=device) - 50.0
    return stack.add_(torch.exp(-torch.hypot(offset[:, None], offset) / 8))


def _cuda_memory() -> tuple[int, int]:
    properties: Any = torch.cuda.get_device_properties()
    return int(properties.L2_cache_size), int(torch.cuda.mem_get_info()[0])


def _cpu_memory() -> tuple[int, int]:
    """Return the bytes of all last-level caches, 0 if unknown, and of free memory."""
    caches: dict[tuple[int, str], int] = {}
    for folder in Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cache/index*"):
        with suppress(OSError, ValueError):
            level, cores, size = (
                (folder / name).read_text().strip() for name in ("level", "shared_cpu_list", "size")
            )
            caches[int(level), cores] = int(size.removesuffix("K")) * 2**10
    last = max((level for level, _ in caches), default=0)
    cache = sum(size for (level, _), size in caches.items() if level == last)
    if "SC_AVPHYS_PAGES" not in os.sysconf_names:
        return cache, 2**31
    return cache, os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
