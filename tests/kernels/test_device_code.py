"""Tests of the device code of both GPU backends, in Triton's interpreter and Numba's simulator.

The mode must be set before the kernel is imported, so that each mode runs in a
separate process. On a machine with a GPU the same checks also run there.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import DEVICE_CODE
from tests.kernels import beside
from tests.kernels.gpu_cases import CUTOUTS
from tests.kernels.gpu_oracle import CHECKS, poisoned

MODES = {
    "triton": ("TRITON_INTERPRET", "Triton's interpreter"),
    "numba-cuda": ("NUMBA_ENABLE_CUDASIM", "Numba's CUDA simulator"),
}
Outcomes = dict[str, dict[str, dict[str, Any]]]


def begin() -> None:
    """Run every check in both modes, in the background of the other tests."""
    for backend, (variable, _) in MODES.items():
        beside.begin("tests.kernels.gpu_cases", backend, **{variable: "1"})


@pytest.fixture(scope="module")
def outcomes() -> Outcomes:
    """Return the outcome of every check in both modes."""
    found: Outcomes = {}
    for backend, (_, where) in MODES.items():
        lines = [json.loads(line) for line in beside.printed_by("tests.kernels.gpu_cases", backend)]
        found[backend] = {line["check"]: line for line in lines}
        count = sum(line["planes"] for line in lines)
        DEVICE_CODE.append(f"{count} planes through {where}, in {len(lines)} checks")
    return found


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("backend", MODES)
def test_in_python(backend: str, name: str, outcomes: Outcomes) -> None:
    if name == "real_cutouts" and not CUTOUTS.is_dir():
        pytest.skip("the real cutouts are not beside the project")
    outcome = outcomes[backend][name]
    assert not outcome["error"], outcome["error"]
    assert outcome["planes"] or name in ("nothing_to_do", "passes_are_bounded")


@pytest.mark.slow
@pytest.mark.parametrize("backend", MODES)
def test_a_thousand_footprints(backend: str) -> None:
    """Check 1,000 footprints against NumPy; the default run checks 40 of them."""
    command = ("tests.kernels.gpu_cases", backend, "random_footprints")
    beside.begin(*command, **{MODES[backend][0]: "1", "FOOTPRINTS": "1000"})
    (line,) = map(json.loads, beside.printed_by(*command))
    assert not line["error"], line["error"]
    assert line["planes"] == 1000


@pytest.mark.gpu
@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("backend", MODES)
def test_on_a_gpu(backend: str, name: str) -> None:
    if name == "real_cutouts" and not CUTOUTS.is_dir():
        pytest.skip("the real cutouts are not beside the project")
    with poisoned():
        CHECKS[name](backend, torch.device("cuda"))


def test_product_rounds_as_the_quotient() -> None:
    """Test the claim of docs/kernels.md for quotients next to a rounding boundary."""
    rng = np.random.default_rng(12)
    divisor = rng.integers(2**23, 2**24, 400_000).astype(np.float64)
    # Choose numerators whose quotient is nearly half way between two floats.
    half_way = rng.integers(2**23, 2**24, divisor.size) + 0.5
    near = np.round(divisor * half_way / 2**24) + rng.integers(-1, 2, divisor.size)
    numerator = np.concatenate([near, rng.integers(2**23, 2**24, divisor.size)])
    scale = np.ldexp(1.0, rng.integers(-60, 60, numerator.size))
    numerator = (numerator * scale).astype(np.float32)
    divisor = np.concatenate([divisor, divisor]).astype(np.float32)
    product = (numerator.astype(np.float64) * (1.0 / divisor.astype(np.float64))).astype(np.float32)
    np.testing.assert_array_equal(product, numerator / divisor)
    in_float32 = numerator * (np.float32(1) / divisor)
    assert (in_float32 != numerator / divisor).mean() > 0.1, "a wrong product would not be seen"
