"""Run NVIDIA's own tools, where they are installed, on a small program."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.gpu_evidence.reasons import NotMeasuredError

Row = dict[str, Any]
PROGRAM = "benchmarks.gpu_evidence.small_program"
KEPT = 6000
SANITIZER_CUTOUTS, PROFILER_CUTOUTS = "4", "1024"
CHECKS = ("memcheck", "racecheck")
METRICS = (
    "gpu__time_duration.sum",
    "dram__bytes.sum",
    "dram__throughput.avg.pct_of_peak_sustained_elapsed",
    "sm__inst_executed.sum",
    "sm__warps_active.avg.pct_of_peak_sustained_active",
    "launch__registers_per_thread",
)


def sanitizer() -> Iterator[Row]:
    """Yield the result of each check of compute-sanitizer."""
    program = _tool("compute-sanitizer")
    for check in CHECKS:
        command = [program, "--tool", check, "--error-exitcode", "9", *_python(SANITIZER_CUTOUTS)]
        yield _row(check, command)


def profiler() -> Iterator[Row]:
    """Yield what ncu counts in the normalisation kernels: time, bytes, instructions, registers."""
    program = _tool("ncu")
    kernels = ["--kernel-name", "regex:_normalize_plane", "--launch-count", "3"]
    command = [program, "--csv", *kernels, "--metrics", ",".join(METRICS)]
    yield _row("ncu", [*command, *_python(PROFILER_CUTOUTS)])


def _tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise NotMeasuredError(f"{name} is not installed")
    from benchmarks.gpu_evidence.place import place

    place()
    return path


def _python(cutouts: str) -> list[str]:
    return [sys.executable, "-m", PROGRAM, cutouts]


def _row(name: str, command: Sequence[str]) -> Row:
    # The limit of the part ends the tool too: both are of one process group.
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
    )
    printed = f"{done.stdout}\n{done.stderr}".strip()
    lines = [line for line in printed.splitlines() if line.strip()]
    return {
        "name": name,
        "exit_status": done.returncode,
        "last_line": lines[-1][:200] if lines else "",
        "printed": printed[-KEPT:],
    }
