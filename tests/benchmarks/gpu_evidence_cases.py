"""Parts of the evidence that end badly, and the content of a full run that nobody made."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.gpu_evidence.parts import PARTS, Part
from benchmarks.gpu_evidence.reasons import NotMeasuredError
from benchmarks.gpu_evidence.runner import DONE

Row = dict[str, Any]
KEPT = {"name": "before", "value": 1}


def part(function: str, seconds: int = 20) -> Part:
    return Part(function, function.title(), seconds, f"{__name__}:{function}")


def good() -> Iterator[Row]:
    yield {"name": "good", "value": float("nan")}


def raises() -> Iterator[Row]:
    yield KEPT
    raise ValueError("a | bad\nvalue")


def crashes() -> Iterator[Row]:
    yield KEPT
    os.kill(os.getpid(), signal.SIGSEGV)


def hangs() -> Iterator[Row]:
    yield KEPT
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)


def prints_garbage() -> Iterator[Row]:
    os.write(1, b"\xff\x00" * 100_000 + b"{]\n")
    yield KEPT


def vanishes() -> Iterator[Row]:
    yield KEPT
    os._exit(0)


def vanishes_at_once() -> Iterator[Row]:
    yield from ()
    os._exit(3)


def needs_a_package() -> Iterator[Row]:
    importlib.import_module("no_such_package.inside")
    yield KEPT


def has_no_device() -> Iterator[Row]:
    yield from ()
    raise NotMeasuredError("torch sees no CUDA device")


def leaves_a_process() -> Iterator[Row]:
    left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield {"name": "left", "value": left.pid}


def speed(**more: Any) -> Row:
    return {
        "bytes": 10**9,
        "seconds": 345.6e-6,
        "gb_per_second": 2893.5,
        "copy_gb_per_second": 3012.5,
        "of_copy": 0.96,
        "first_call_seconds": 2.5,
        "cutouts": 4387,
        **more,
    }


ROWS: dict[str, list[Row]] = {
    "machine": [{"name": "GPU", "value": "NVIDIA H100 80GB HBM3, 80 GiB, 50 MiB of L2 cache"}],
    "exactness": [
        {"name": "both checksums", "backend": "triton", "planes": 6, "differ": 0},
        {
            "name": "21 x 21", "backend": "numba-cuda", "planes": 1234, "differ": 2,
            "failures": ["numba-cuda, 21 x 21: 2 planes differ"], "first_call_seconds": 1.5,
        },
    ],
    "variants": [
        speed(name="float32", backend="triton"),
        {"name": "mask", "backend": "triton", "cutouts": 1, "error": "CUDA error: illegal | one"},
    ],
    "sizes": [speed(name="training", cutouts=65536)],
    "peers": [speed(name="torch sort", times_ours=87.6, largest_difference=1.5e-7)],
    "host": [{"name": "layer", "seconds": 34.5e-6, "seconds_25": 33e-6, "seconds_75": 36e-6}],
    "graph": [{"name": "values that differ", "value": 0}, speed(name="replay")],
    "streams": [{"name": "values that differ", "value": 12345}],
    "fresh": [{"name": "largest difference", "value": 2.5e-7}],
    "training": [
        {
            "name": "efficientnet_v2_s", "crop": False, "compiled": True, "batch": 256,
            "steps_per_second": 45.67, "cutouts_per_second": 11691.5,
            "steps_per_second_alone": 50.25,
        },
    ],
    "injection": [{"name": "render", "images": 4096, "images_per_second": 98765.4}],
    "sanitizer": [{"name": "memcheck", "exit_status": 0, "last_line": "ERROR SUMMARY: 0 errors"}],
    "profiler": [{"name": "ncu", "exit_status": 1, "last_line": "ERR_NVGPUCTRPERM"}],
    "model": [
        {
            "variant": "float32", "capability": 90, "registers": 96, "resident_warps": 20,
            "kernel": "triton",
            "modelled": {"real": {"devices": {"H100": {"share_of_copy": 0.8}}}},
        },
    ],
}  # fmt: skip


def full_run() -> dict[str, Any]:
    """Return the content of the file of a run on a GPU, with made-up figures."""
    parts = {
        part.name: {
            "title": part.title,
            "status": DONE,
            "reason": "",
            "device": "cuda",
            "rows": ROWS[part.name],
            "seconds": 12.3,
            "limit_seconds": part.seconds,
            "exit_status": 0,
            "output_tail": "",
        }
        for part in PARTS
    }
    return {"schema_version": 1, "written": "today", "is_rehearsal": False, "parts": parts}
