"""All checks of the GPU kernels as compiled, for three kinds of GPU."""

from __future__ import annotations

import pytest

# Code of Triton 3.6 shuffles registers that no lane has written, and none uses.
pytest.importorskip("triton", "3.7")

from tests.kernels import beside
from tests.kernels.ptx_outcomes import Outcomes, names, read, require_success
from tests.kernels.ptx_run import RUNS

PROCESSES = 2
COMMANDS = [("tests.kernels.ptx_run", *list(RUNS)[i::PROCESSES]) for i in range(PROCESSES)]


def begin() -> None:
    """Run all checks in the background of the other tests, divided among processes."""
    for command in COMMANDS:
        beside.begin(*command)


@pytest.fixture(scope="module")
def outcomes() -> Outcomes:
    """Return the outcome of every check."""
    return read(line for command in COMMANDS for line in beside.printed_by(*command))


@pytest.mark.slow
@pytest.mark.parametrize(("run", "check"), names(RUNS))
def test_as_compiled(run: str, check: str, outcomes: Outcomes) -> None:
    require_success(outcomes[run, check])
