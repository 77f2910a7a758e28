"""The parts of the evidence, each with the most seconds that it may take.

The limits add up to 480 seconds. The model is last: it needs a CPU only, and can be run elsewhere.
"""

from __future__ import annotations

from typing import NamedTuple

MOST_SECONDS = 480
REHEARSAL_FACTOR = 5
"""Times the limits that a rehearsal may take, since compilers are slow on a few cores."""


class Part(NamedTuple):
    """A part: ``run`` is the ``module:function`` that yields its rows, within ``seconds``."""

    name: str
    title: str
    seconds: int
    run: str


_HERE = "benchmarks.gpu_evidence"
PARTS = (
    Part("machine", "Machine", 25, f"{_HERE}.machine:describe_machine"),
    Part("exactness", "Exactness", 65, f"{_HERE}.exactness:compare"),
    Part("variants", "Speed of every variant", 65, f"{_HERE}.speed:variants"),
    Part("sizes", "Speed by stack size", 30, f"{_HERE}.speed:sizes"),
    Part("peers", "Peers", 40, f"{_HERE}.speed:peers"),
    Part("host", "Host time of one call", 20, f"{_HERE}.host:calls"),
    Part("graph", "CUDA graph", 20, f"{_HERE}.graphs:replay"),
    Part("streams", "Two streams", 15, f"{_HERE}.graphs:streams"),
    Part("fresh", "Fresh process under reduce-overhead", 40, f"{_HERE}.graphs:fresh"),
    Part("training", "Training", 60, f"{_HERE}.networks:training"),
    Part("injection", "Injection", 20, f"{_HERE}.networks:injection"),
    Part("sanitizer", "compute-sanitizer", 20, f"{_HERE}.tools:sanitizer"),
    Part("profiler", "Nsight Compute", 20, f"{_HERE}.tools:profiler"),
    Part("model", "Model", 40, f"{_HERE}.prediction:model"),
)
