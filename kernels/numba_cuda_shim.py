"""The only import of numba-cuda, with a clear error if it is not installed."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

try:
    importlib.import_module("numba_cuda")  # without it Numba has another module called cuda
    from numba import cuda as numba_cuda
    from numba.cuda import types
except ImportError as error:
    raise ImportError(
        "the Numba-CUDA backend needs numba-cuda: pip install '.[cuda]' in a checkout"
    ) from error

__all__ = ["SIMULATED", "cuda", "device", "kernel", "reason_unavailable", "types"]

SIMULATED = bool(numba_cuda.config.ENABLE_CUDASIM)


class _Simulated:
    """The module object that the simulator replaces, in this file only, while a kernel runs."""

    def __getattr__(self, name: str) -> Any:
        return getattr(numba_cuda, name)


cuda: Any = _Simulated() if SIMULATED else numba_cuda


def device(function: Callable[..., Any]) -> Any:
    # The simulator takes plain functions, which are the fastest to call.
    return function if SIMULATED else cuda.jit(device=True, fastmath=False)(function)


def kernel(function: Callable[..., Any]) -> Any:
    def without_warnings(*arguments: Any) -> None:
        with np.errstate(all="ignore"):
            function(*arguments)

    return numba_cuda.jit(without_warnings) if SIMULATED else cuda.jit(fastmath=False)(function)


def reason_unavailable() -> str:
    """Return in one sentence why the kernel cannot run here; empty if it can."""
    if SIMULATED or cuda.is_available():
        return ""
    return "numba-cuda sees no CUDA device: check the device and its driver."
