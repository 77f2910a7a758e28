"""Tests of the timing of ``fastnorm check``: in turns, with counted bytes and device events."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from typing import Any

import pytest
import torch

from fastnorm.check import speed as selfcheck_speed
from fastnorm.check.speed import Contender


def test_rounds_are_interleaved_and_bytes_counted() -> None:
    calls: list[tuple[str, int]] = []
    order: list[str] = []

    def contender(name: str, count: int) -> Contender:
        return Contender(name, name, count, lambda i: calls.append((name, i)))

    def timer(call: Any, turns: Iterator[int]) -> float:
        call(next(turns))
        order.append(calls[-1][0])
        return {"copy": 1.0, "ours": 4.0}[calls[-1][0]]

    both = [contender("copy", 10**9), contender("ours", 2 * 10**9)]
    seconds = selfcheck_speed.time_interleaved(both, 20, timer)
    assert seconds == [[1.0] * 20, [4.0] * 20]
    pairs = {tuple(order[i : i + 2]) for i in range(0, 40, 2)}
    assert pairs == {("copy", "ours"), ("ours", "copy")}
    warm, timed = calls[:8], calls[8:]
    assert sorted(warm) == [(name, i) for name in ("copy", "ours") for i in range(4)]
    assert [i for _, i in timed] == [i % 4 for i in range(40)]
    copy, ours = selfcheck_speed._speeds("cpu", both, seconds)
    assert (copy.median, copy.of_copy) == (1, 1)
    assert (ours.median, ours.low, ours.high, ours.of_copy) == (0.5, 0.5, 0.5, 0.5)


def test_events_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[Any] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            log.append("record")

        def synchronize(self) -> None:
            log.append("wait")

        def elapsed_time(self, end: Event) -> float:
            assert end is not self
            return 16.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    assert selfcheck_speed.cuda_seconds(log.append, cycle(range(4))) == 0.002
    assert log == [0, "record", 1, 2, 3, 0, 1, 2, 3, 0, "record", "wait"]
