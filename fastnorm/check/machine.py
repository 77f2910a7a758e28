"""Description of a machine for bug reports."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import fastnorm

PACKAGES = ("numpy", "torch", "numba", "triton", "numba-cuda")


def describe() -> dict[str, str]:
    """Return versions, platform and devices by name; the names are the same on every machine."""
    found = {"fastnorm": fastnorm.__version__, "Python": platform.python_version()}
    found |= {name: _version(name) for name in PACKAGES}
    found["platform"] = platform.platform()
    found["CPU"] = f"{_cpu_name()}, {os.cpu_count()} cores"
    found["CUDA of torch"] = torch.version.cuda or "none"
    return found | _gpu()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _cpu_name() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), platform.processor() or platform.machine())


def _gpu() -> dict[str, str]:
    if not torch.cuda.is_available():
        missing = "no CUDA device"
        return {"GPU": missing, "driver": _driver(), "compute capability": missing}
    properties: Any = torch.cuda.get_device_properties()
    memory, cache = properties.total_memory / 2**30, properties.L2_cache_size / 2**20
    return {
        "GPU": f"{properties.name}, {memory:.0f} GiB, {cache:.0f} MiB of L2 cache",
        "driver": _driver(),
        "compute capability": f"{properties.major}.{properties.minor}",
    }


def _driver() -> str:
    """Return the driver version from nvidia-smi, since torch has no public API for it."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return "no nvidia-smi"
    command = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return f"nvidia-smi fails: {type(error).__name__}"
    return done.stdout.strip().partition("\n")[0] or "unknown"
