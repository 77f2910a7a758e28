"""Faults planted in compiled kernels are caught, each by a check that otherwise passes."""

from __future__ import annotations

import pytest

# Code of Triton 3.6 shuffles registers that no lane has written, and none uses.
pytest.importorskip("triton", "3.7")

from benchmarks.ptx.block import ExecutionError
from benchmarks.ptx.launch import Execution
from tests.kernels.gpu_oracle import poisoned
from tests.kernels.ptx_plants import PLANTS, Plant, planted
from tests.kernels.ptx_run import NORMALISER, TRITON, Run, checks_of, compiled

CAPABILITY = 90


def run(check: str, execution: Execution) -> None:
    with poisoned(), compiled(TRITON, execution):
        checks_of(Run(NORMALISER, TRITON, CAPABILITY, (check,)))[check]()


def changes(plant: Plant) -> tuple[Execution, list[bool]]:
    """Return an execution that plants a fault, and a list of whether it did in each kernel."""
    changed: list[bool] = []

    def edit(ptx: str) -> str:
        faulty = planted(ptx, plant)
        changed.append(faulty.split() != ptx.split())
        return faulty

    return Execution(CAPABILITY, ulps=plant.ulps, edit=edit), changed


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_fault_is_caught(name: str) -> None:
    plant = PLANTS[name]
    execution, changed = changes(plant)
    caught = ""
    try:
        run(plant.check, execution)
    except (AssertionError, ExecutionError) as error:
        caught = f"{type(error).__name__}: {error}"
    assert any(changed), "the pattern of the fault is not in the compiled text"
    assert caught, "the fault changes nothing that the check sees"


@pytest.mark.parametrize("check", sorted({plant.check for plant in PLANTS.values()}))
def test_the_same_check_passes_without_a_fault(check: str) -> None:
    execution = Execution(CAPABILITY, ulps=2, edit=lambda ptx: "\n".join(ptx.splitlines()))
    run(check, execution)
    assert execution.launches
