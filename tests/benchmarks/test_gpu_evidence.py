"""Tests of the evidence's runner: nothing that a part does can stop the others."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks.gpu_evidence import wheels
from benchmarks.gpu_evidence.__main__ import collect
from benchmarks.gpu_evidence.columns import COLUMNS
from benchmarks.gpu_evidence.parts import MOST_SECONDS, PARTS
from benchmarks.gpu_evidence.runner import run_part
from tests import ROOT
from tests.benchmarks.gpu_evidence_cases import KEPT, part

WITHOUT_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
PYDANTIC = ("pydantic", "pydantic_core", "annotated_types", "typing_inspection")


@pytest.mark.parametrize(
    ("function", "status", "reason", "rows"),
    [
        ("raises", "partly", "ValueError: a | bad value", [KEPT]),
        ("crashes", "partly", "died of SIGSEGV", [KEPT]),
        ("prints_garbage", "done", "", [KEPT]),
        ("vanishes", "partly", "ended with exit status 0 before its end", [KEPT]),
        ("vanishes_at_once", "failed", "ended with exit status 3 before its end", []),
        ("needs_a_package", "not measured", "needs no_such_package", []),
        ("has_no_device", "not measured", "torch sees no CUDA device", []),
        ("no_such_function", "failed", "AttributeError", []),
    ],
)
def test_how_a_part_ended_is_recorded(
    function: str, status: str, reason: str, rows: list[object]
) -> None:
    found = run_part(part(function))
    assert (found["status"], found["rows"]) == (status, rows)
    assert found["reason"].startswith(reason)
    assert bool(found["reason"]) == bool(reason)
    json.dumps(found, allow_nan=False)


def test_the_end_of_the_output_is_kept() -> None:
    found = run_part(part("raises"))
    assert found["output_tail"].startswith("Traceback")
    assert found["output_tail"].endswith("value")
    assert len(run_part(part("prints_garbage"))["output_tail"]) <= 2000


def test_a_part_that_hangs_is_stopped_at_its_limit() -> None:
    started = time.monotonic()
    found = run_part(part("hangs", seconds=2))
    assert time.monotonic() - started < 15
    assert found["rows"] == [KEPT]
    assert found["reason"] == "stopped at its limit of 2 s"
    assert found["exit_status"] is None


def test_a_process_that_a_part_left_behind_is_ended() -> None:
    started = time.monotonic()
    found = run_part(part("leaves_a_process"))
    assert time.monotonic() - started < 15
    assert found["status"] == "done"
    left = Path(f"/proc/{found['rows'][0]['value']}/stat")
    deadline = time.monotonic() + 10
    while left.exists() and " Z " not in left.read_text("utf-8"):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_bad_part_stops_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["crashes", "raises", "good"]
    columns = dict.fromkeys(names, COLUMNS["fresh"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.gpu_evidence.page.COLUMNS", columns)
        collect([part(name) for name in names], tmp_path / "new")
    content = json.loads((tmp_path / "new" / "gpu_evidence.json").read_text("utf-8"))
    assert [found["status"] for found in content["parts"].values()] == ["partly", "partly", "done"]
    assert content["parts"]["good"]["rows"] == [{"name": "good", "value": "nan"}]
    text = (tmp_path / "new" / "gpu_evidence.md").read_text("utf-8")
    assert "| Crashes | ended early: died of SIGSEGV |" in text
    assert "| Raises | ended early: ValueError: a / bad value |" in text
    assert "| good | nan |" in text
    printed = capsys.readouterr().out.splitlines()
    assert [line[:6] for line in printed] == ["[ 1/3]", "[ 2/3]", "[ 3/3]"]


def test_limits_fit_into_eight_minutes_and_every_part_has_its_function_and_its_table() -> None:
    assert sum(part.seconds for part in PARTS) <= MOST_SECONDS == 480
    assert [part.name for part in PARTS] == list(COLUMNS)
    for part_of_run in PARTS:
        module, _, function = part_of_run.run.partition(":")
        assert callable(getattr(importlib.import_module(module), function))
    text = (ROOT / "docs" / "gpu_evidence.md").read_text("utf-8")
    listed = [f"| `{part.name}` | {part.seconds} |" for part in PARTS]
    assert [line for line in listed if line not in text] == []


@WITHOUT_GPU
def test_without_a_gpu_it_says_what_was_not_measured(tmp_path: Path) -> None:
    chosen = [part for part in PARTS if part.name in ("streams", "sanitizer")]
    content = collect(chosen, tmp_path)
    reasons = {name: found["reason"] for name, found in content["parts"].items()}
    assert reasons["streams"] == "torch sees no CUDA device"
    assert {found["status"] for found in content["parts"].values()} == {"not measured"}
    text = (tmp_path / "gpu_evidence.md").read_text("utf-8")
    assert "**No GPU was measured**" in text
    assert "| Two streams | not measured: torch sees no CUDA device |" in text


def blocked(folder: Path) -> dict[str, str]:
    """Return an environment in which pydantic and what it brings cannot be imported."""
    for name in (*PYDANTIC, "pytest"):
        line = f"raise ModuleNotFoundError('No module named {name}', name={name!r})\n"
        (folder / f"{name}.py").write_text(line, "utf-8")
    return {"PYTHONPATH": str(folder)}


@pytest.mark.slow
def test_no_module_needs_pydantic_or_pytest(tmp_path: Path) -> None:
    files = sorted((ROOT / "benchmarks" / "gpu_evidence").glob("*.py"))
    modules = [f"benchmarks.gpu_evidence.{file.stem}" for file in files]
    assert len(modules) > 15
    command = [sys.executable, "-W", "ignore", "-c", f"import {', '.join(modules)}"]
    environment = os.environ | blocked(tmp_path)
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stderr == ""


@pytest.mark.slow
def test_a_part_without_its_package_says_which(tmp_path: Path) -> None:
    (injection,) = (part for part in PARTS if part.name == "injection")
    found = run_part(injection._replace(seconds=120), blocked(tmp_path))
    assert (found["status"], found["reason"]) == ("not measured", "needs pydantic")


def test_wheels_hold_everything_but_torch_and_its_own() -> None:
    found = wheels.dependencies()
    assert found >= {"numpy", "numba", "networkx", "timm", *(n.replace("_", "-") for n in PYDANTIC)}
    assert not {name for name in found if name.startswith(("torch", "triton", "nvidia", "dhs"))}


def test_only_missing_packages_are_installed(tmp_path: Path) -> None:
    assert not wheels.is_missing(tmp_path / "pydantic_core-0.1-cp312-cp312-linux_x86_64.whl")
    assert wheels.is_missing(tmp_path / "no_such_package-0.1-py3-none-any.whl")
    with pytest.raises(SystemExit, match="has no wheels; fill it with make wheels"):
        wheels.install(tmp_path, tmp_path / "environment")
