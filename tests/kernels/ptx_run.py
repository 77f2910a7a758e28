"""The checks of the GPU kernels, with every launch executed as the PTX that a GPU would get.

``python -m tests.kernels.ptx_run NAMES`` prints one line of JSON per check of the named
runs, and one with the counts of each run.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

import torch

from benchmarks.ptx.launch import Execution, triton_launches
from fastnorm.dispatch import registry
from tests.kernels.gpu_oracle import poisoned

NORMALISER, LENS = "tests.kernels.gpu_cases", "tests.dhs.injection.lens_cases"
TRITON, NUMBA = "triton", "numba-cuda"
PERTURBED = 2  # units in the last place, the largest error of any approximate instruction here


class Run(NamedTuple):
    """Checks to run on one kind of GPU.

    Attributes
    ----------
    cases : str
        Module with the checks.
    backend : str
    capability : int
    checks : tuple of str
        Names of the checks; empty for all.
    ulps : int
        By how much results of approximate instructions are changed.
    """

    cases: str
    backend: str
    capability: int
    checks: tuple[str, ...] = ()
    ulps: int = 0


SOME_CHECKS = (
    "adversarial_float32", "adversarial_halves", "masks", "index_with_repeats",
    "footprints", "every_dihedral_element", "everything_at_once",
    "subnormal_quotients", "small_scales", "checksums", "thresholds_of_zero", "real_cutouts",
)  # fmt: skip
SOME_LENSES = ("not_square", "clumps", "every_oversample", "alone_or_in_a_batch")
SHORT_RUNS = {
    "normaliser, sm_90, some": Run(NORMALISER, TRITON, 90, SOME_CHECKS, PERTURBED),
}
# Every other run takes as long as the rest: two processes share them.
RUNS = {
    "normaliser, sm_90": Run(NORMALISER, TRITON, 90),
    "normaliser of Numba, sm_90": Run(NORMALISER, NUMBA, 90),
    "normaliser, sm_80, perturbed": Run(NORMALISER, TRITON, 80, (), PERTURBED),
    "normaliser, sm_100, perturbed": Run(NORMALISER, TRITON, 100, (), PERTURBED),
    "lens renderer, sm_90": Run(LENS, TRITON, 90),
    "lens renderer, sm_80, some": Run(LENS, TRITON, 80, SOME_LENSES),
    "lens renderer, sm_100, some": Run(LENS, TRITON, 100, SOME_LENSES),
}


@contextmanager
def compiled(backend: str, execution: Execution) -> Iterator[None]:
    """Let a GPU backend run on CPU tensors, as compiled.

    Parameters
    ----------
    backend : str
    execution : Execution
        How to execute; counts what ran.
    """
    # Backends then take CPU tensors, as they do in Triton's interpreter. The registry remembers
    # which of them it could load, before and after.
    registry._load.cache_clear()
    try:
        with mock.patch.object(registry, "is_interpreted", return_value=True):
            yield from _launches(backend, execution)
    finally:
        registry._load.cache_clear()


def _launches(backend: str, execution: Execution) -> Iterator[None]:
    if backend == TRITON:
        kernels = importlib.import_module("fastnorm.kernels.triton_normalize")
        # Its launcher keeps compiled kernels, which may be those of another execution.
        with mock.patch.dict(kernels._compiled, clear=True), triton_launches(execution):
            yield
        return
    from benchmarks.ptx.numba_launch import numba_launches

    module = importlib.import_module("fastnorm.kernels.numba_cuda_normalize")
    with (
        mock.patch.object(module, "reason_unavailable", return_value=""),
        numba_launches(execution),
    ):
        yield


def checks_of(run: Run) -> dict[str, Callable[[], int]]:
    """Return the checks of a run by name."""
    module: Any = importlib.import_module(run.cases)
    cpu = torch.device("cpu")

    def bound(check: Any) -> Callable[[], int]:
        return lambda: check(cpu) if run.cases == LENS else check(run.backend, cpu)

    names = run.checks or tuple(module.CHECKS)
    return {name: bound(module.CHECKS[name]) for name in names}


def outcomes_of(name: str) -> Iterator[dict[str, Any]]:
    """Run the checks of a run, and yield the outcome of each, then the counts."""
    run = {**SHORT_RUNS, **RUNS}[name]
    execution = Execution(run.capability, ulps=run.ulps)
    total = 0
    start = time.perf_counter()
    with poisoned(), compiled(run.backend, execution):
        for check, function in checks_of(run).items():
            error, planes = "", 0
            try:
                planes = function()
            except Exception:
                error = traceback.format_exc()
            total += planes
            yield {"run": name, "check": check, "planes": planes, "error": error}
    yield {
        "run": name,
        "checks": len(checks_of(run)),
        "planes": total,
        "kernels": len(execution.codes),
        "opcodes": sorted(execution.opcodes),
        "instructions": sum(execution.opcodes.values()),
        "seconds": time.perf_counter() - start,
    }


def main(names: list[str]) -> None:
    for name in names:
        for outcome in outcomes_of(name):
            print(json.dumps(outcome), flush=True)


if __name__ == "__main__":
    warnings.simplefilter("error")
    main(sys.argv[1:])
