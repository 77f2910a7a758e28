"""The lens kernel in Triton's interpreter, which is chosen before an import, and on a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("triton")

from tests.conftest import DEVICE_CODE
from tests.lens_cases import CHECKS

PROCESSES = 2


@pytest.fixture(scope="module")
def outcomes() -> dict[str, dict[str, Any]]:
    """What every check gave; each process takes its share of them."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.lens_cases", *list(CHECKS)[i::PROCESSES]],
            cwd=Path(__file__).parents[1],
            env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(PROCESSES)
    ]
    lines = []
    for process in processes:
        printed, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
        assert not errors
        lines += [json.loads(line) for line in printed.splitlines()]
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
