"""The lens kernel in Triton's interpreter, in a process of its own; on a GPU where there is one."""

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


@pytest.fixture(scope="module")
def outcomes() -> dict[str, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.lens_cases"],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
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
