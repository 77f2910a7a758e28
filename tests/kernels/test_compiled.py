"""Some checks of the GPU kernels as compiled: the PTX for a real GPU runs in an interpreter."""

from __future__ import annotations

import pytest

# Code of Triton 3.6 shuffles registers that no lane has written, and none uses.
pytest.importorskip("triton", "3.7")

from tests.kernels import beside
from tests.kernels.ptx_outcomes import Outcomes, names, read, require_success
from tests.kernels.ptx_run import SHORT_RUNS

COMMAND = ("tests.kernels.ptx_run", *SHORT_RUNS)


def begin() -> None:
    """Run the checks in the background of the other tests."""
    beside.begin(*COMMAND)


@pytest.fixture(scope="module")
def outcomes() -> Outcomes:
    """Return the outcome of every check."""
    return read(beside.printed_by(*COMMAND))


@pytest.mark.parametrize(("run", "check"), names(SHORT_RUNS))
def test_as_compiled(run: str, check: str, outcomes: Outcomes) -> None:
    require_success(outcomes[run, check])
