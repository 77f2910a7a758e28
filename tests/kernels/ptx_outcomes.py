"""Reading of what the background runs of compiled kernels print."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from tests.conftest import DEVICE_CODE
from tests.kernels.gpu_cases import CUTOUTS
from tests.kernels.ptx_run import Run, checks_of

Outcomes = dict[tuple[str, str], dict[str, Any]]
EMPTY = ("nothing_to_do", "passes_are_bounded")  # checks that may compare no plane


def names(runs: dict[str, Run]) -> list[tuple[str, str]]:
    """Return every run with each of its checks."""
    return [(name, check) for name, run in runs.items() for check in checks_of(run)]


def read(lines: Iterable[str]) -> Outcomes:
    """Read the outcome of every check, and report what ran at the end of the tests."""
    found: Outcomes = {}
    opcodes: set[str] = set()
    for line in map(json.loads, lines):
        if "check" in line:
            found[line["run"], line["check"]] = line
            continue
        opcodes |= set(line["opcodes"])
        DEVICE_CODE.append(
            f"{line['planes']} planes as compiled ({line['run']}): {line['checks']} checks, "
            f"{line['kernels']} kernels, {len(line['opcodes'])} distinct opcodes, "
            f"{line['instructions'] / 1e6:.1f} million warp instructions, {line['seconds']:.0f} s"
        )
    DEVICE_CODE.append(f"{len(opcodes)} distinct PTX opcodes executed in all")
    return found


def require_success(outcome: dict[str, Any]) -> None:
    """Fail with the traceback of a check that failed."""
    assert not outcome["error"], outcome["error"]
    if outcome["check"] == "real_cutouts" and not CUTOUTS.is_dir():
        pytest.skip("the real cutouts are not beside the project")
    assert outcome["planes"] or outcome["check"] in EMPTY
