"""DistributedDataParallel and FSDP2, in two processes on a CPU."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from tests import ROOT
from tests.clients import page
from tests.clients.ranks import Result

pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(
        not (dist.is_available() and dist.is_gloo_available()), reason="torch lacks gloo"
    ),
]

RANKS = 2


def run(case: str, folder: Path) -> list[Result]:
    """Run a case of `tests.clients.ranks`, and return the result of every process."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*torchrun, f"--nproc-per-node={RANKS}", "-m", "tests.clients.ranks", case]
    done = subprocess.run(
        [*command, str(folder)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"{case}-{rank}.pt", weights_only=True) for rank in range(RANKS)]


@pytest.fixture(scope="module")
def fsdp(tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    return run("fsdp", tmp_path_factory.mktemp("fsdp"))


@pytest.fixture(scope="module")
def ddp(tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    return run("ddp", tmp_path_factory.mktemp("ddp"))


@pytest.mark.parametrize("case", ["fsdp", "ddp"])
def test_it_trains_as_one_process_on_cutouts_that_numpy_normalised(
    case: str, request: pytest.FixtureRequest
) -> None:
    names = page.prenormalised()
    untrained = page.weights(names["finder"]())
    expected = page.weights(page.train_plainly(names))
    for result in request.getfixturevalue(case):
        assert result["trained"].keys() == expected.keys()
        for name, value in result["trained"].items():
            torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-6)
            assert (value - untrained[name]).abs().max() > 1e-3


FSDP_LOADS = ["restored", "built without memory", "in one process"]
FSDP_REFUSALS = ["the page's load", "load of the module", "weights of the first process"]


@pytest.mark.parametrize("way", FSDP_LOADS)
def test_fsdp_restores_what_it_saved(fsdp: list[Result], way: str) -> None:
    for result in fsdp:
        torch.testing.assert_close(result[way], result["logits"], rtol=1e-6, atol=0)


@pytest.mark.parametrize("way", FSDP_REFUSALS)
def test_fsdp_refuses_another_annulus_in_every_process(fsdp: list[Result], way: str) -> None:
    assert all(re.search(page.BOTH_ANNULI, result[way]) for result in fsdp)


def test_the_last_line_of_the_page_is_what_refuses(fsdp: list[Result]) -> None:
    """The page warns that ``dcp.load`` alone asks no module."""
    for result in fsdp:
        for name, value in result["without the last line"].items():
            assert torch.equal(value, result["trained"][name])


def test_a_policy_of_bfloat16_rounds_the_cutouts_unless_it_is_told_not_to(
    fsdp: list[Result],
) -> None:
    expected = torch.from_numpy(page.by_numpy(page.common()["images"].numpy())).bfloat16()
    for result in fsdp:
        assert torch.equal(result["kept"], expected)
        assert not torch.equal(result["rounded"].bfloat16(), expected)


@pytest.mark.parametrize("way", ["restored", "in one process"])
def test_ddp_restores_what_it_saved(ddp: list[Result], way: str) -> None:
    assert all(torch.equal(result[way], result["logits"]) for result in ddp)


@pytest.mark.parametrize("way", ["wrapped", "inner"])
def test_ddp_refuses_another_annulus_in_every_process(ddp: list[Result], way: str) -> None:
    assert all(re.search(page.BOTH_ANNULI, result[way]) for result in ddp)
