"""Tests of the lens kernel in Triton's interpreter, in separate processes, and on a GPU."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

pytest.importorskip("triton")

from tests.conftest import DEVICE_CODE
from tests.dhs.injection.lens_cases import CHECKS
from tests.kernels import beside

PROCESSES = 2
COMMANDS = [
    ("tests.dhs.injection.lens_cases", *list(CHECKS)[i::PROCESSES]) for i in range(PROCESSES)
]


def begin() -> None:
    """Run all checks in the background of the other tests, divided among processes."""
    for command in COMMANDS:
        beside.begin(*command, TRITON_INTERPRET="1")


@pytest.fixture(scope="module")
def outcomes() -> dict[str, dict[str, Any]]:
    """Return the outcome of every check."""
    lines = [json.loads(line) for command in COMMANDS for line in beside.printed_by(*command)]
    count = sum(line["images"] for line in lines)
    DEVICE_CODE.append(f"{count} lenses through Triton's interpreter, in {len(lines)} checks")
    return {line["check"]: line for line in lines}


@pytest.mark.parametrize("name", CHECKS)
def test_in_python(name: str, outcomes: dict[str, dict[str, Any]]) -> None:
    assert not outcomes[name]["error"], outcomes[name]["error"]
    assert outcomes[name]["images"] or name == "nothing_to_do"


@pytest.mark.gpu
@pytest.mark.parametrize("name", CHECKS)
def test_on_a_gpu(name: str) -> None:
    CHECKS[name](torch.device("cuda"))
