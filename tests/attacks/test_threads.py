"""Threads that end early, cannot start, or are interrupted."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import fastnorm
from fastnorm.dispatch import threads

AFTER_THE_MAIN_THREAD = """
import threading
import numpy as np
import fastnorm
{first}

def late():
    threading.main_thread().join()
    images = np.random.default_rng(0).normal(size=(64, 101, 101)).astype(np.float32)
    fastnorm.set_num_threads(4)
    many = fastnorm.normalize_outer_annulus(images, 32.5, 45.0)
    fastnorm.set_num_threads(1)
    assert np.array_equal(many, fastnorm.normalize_outer_annulus(images, 32.5, 45.0))
    print("normalised", flush=True)

threading.Thread(target=late).start()
"""

INTERRUPTED = """
import random, signal, time
import numpy as np
from fastnorm.dispatch import threads

threads.set_num_threads(4)
out, ends = np.zeros(16), []

def write(start, stop):
    time.sleep(0.002)
    out[start:stop] = 1

is_inside = False

def interrupt(number, frame):
    if is_inside:
        raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
draw, interrupted, wrote = random.Random(0), 0, 0
for _ in range(200):
    signal.setitimer(signal.ITIMER_REAL, draw.uniform(1e-5, 0.006), draw.uniform(3e-4, 0.002))
    try:
        is_inside = True
        threads.share_out(lambda: write, 16, 1, 1)
        is_inside = False
    except KeyboardInterrupt:
        is_inside = False
        interrupted += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    out[:] = 0
    time.sleep(0.004)
    wrote += bool(out.any())
assert interrupted > 100, interrupted
print(f"{wrote} wrote after the end")
"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


FIRST = "fastnorm.annulus_median_mad(np.ones((64, 101, 101)), 30, 40)"


@pytest.mark.parametrize("first", ["", FIRST])
def test_a_call_after_the_main_thread_has_ended(first: str) -> None:
    done = run(AFTER_THE_MAIN_THREAD.format(first=first))
    assert (done.stdout, done.returncode) == ("normalised\n", 0), done.stderr


# On a machine that is busy, interrupts come where Python looks for them, one after the other.
@pytest.mark.parametrize("programs", [1, pytest.param(24, marks=pytest.mark.slow)])
def test_no_thread_writes_after_an_interrupted_call(programs: int) -> None:
    with ThreadPoolExecutor(programs) as pool:
        for done in pool.map(run, [INTERRUPTED] * programs):
            assert done.stdout == "0 wrote after the end\n", done.stdout + done.stderr


@pytest.fixture
def most_started(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Let only some threads start, as a limit of the system does."""
    limit, start = {"left": 0}, threads._start

    def start_if_allowed(*given: Any) -> None:
        if not limit["left"]:
            raise RuntimeError("can't start new thread")
        limit["left"] -= 1
        start(*given)

    threads._forget_pool()
    monkeypatch.setattr(threads, "_start", start_if_allowed)
    monkeypatch.setattr(threading.Thread, "start", start_if_allowed)
    monkeypatch.setattr(threads, "_num_threads", 4)
    return limit


@pytest.mark.parametrize("left", [0, 2])
def test_a_call_where_no_more_threads_can_start(most_started: dict[str, int], left: int) -> None:
    images = np.random.default_rng(0).normal(size=(64, 101, 101)).astype(np.float32)
    most_started["left"] = left
    found = fastnorm.normalize_outer_annulus(images, 32.5, 45.0)
    assert most_started["left"] == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "_num_threads", 1)
        assert np.array_equal(found, fastnorm.normalize_outer_annulus(images, 32.5, 45.0))


def test_a_compilation_where_no_thread_can_start(most_started: dict[str, int]) -> None:
    done = []
    with threads.notice_if_slow("a kernel"):
        done.append(True)
    assert done
    assert most_started["left"] == 0


def test_an_error_of_the_caller_ends_the_call_and_the_pool_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threads, "_num_threads", 3)
    out: list[int] = []

    def fail(start: int, stop: int) -> None:
        raise MemoryError("no space")

    def work(start: int, stop: int) -> Any:
        return out.extend(range(start, stop))

    with pytest.raises(MemoryError, match="no space"):
        threads.share_out(lambda: fail, 30, 1, 1)
    threads.share_out(lambda: work, 30, 1, 1)
    assert sorted(out) == list(range(30))
