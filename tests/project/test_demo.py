"""``make demo`` with a folder of cutouts, some of which cannot be used."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import typer
from typer.testing import Result

import fastnorm
from tests import ROOT
from tests.command_line import invoke, message
from tests.fastnorm.cli.test_cli import make_pixels

SOME_REJECTED, FAILED = 1, 2


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("normalise", ROOT / "examples" / "normalise.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "COPIES_TIMED", 1)
    monkeypatch.setattr(module, "ROUNDS", 1)
    return module


def run(example: ModuleType, *arguments: object) -> Result:
    app = typer.Typer()
    app.command()(example.main)
    return invoke(app, *arguments)


def save(folder: Path, name: str, side: int = 101) -> None:
    pixels = np.resize(make_pixels(), (3, side, side)).transpose(1, 2, 0)
    np.savez(folder / name, cutout=np.ascontiguousarray(pixels))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write three cutouts, one of another size, and a damaged file."""
    folder = tmp_path / "cutouts"
    folder.mkdir()
    for k in (1, 2, 4):
        save(folder, f"cand{k}.npz")
    save(folder, "small.npz", 64)
    (folder / "cand3.fits").write_bytes(b"SIMPLE  = no FITS")
    return folder


def test_files_that_cannot_be_used_are_named_and_left_out(
    example: ModuleType, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "demo"
    result = run(example, "--cutouts", folder, "--out", out)
    assert result.exit_code == SOME_REJECTED
    assert "2 rejected in" in message(result)
    for name in ("cand3.fits", "small.npz"):
        assert name in result.stderr
    assert len((out / "rejected.txt").read_text().splitlines()) == 2
    assert len(np.load(out / "stack.npy")) == 3
    assert (out / "annulus.png").stat().st_size > 10_000
    assert "Every backend equals the definition" in result.stdout


def test_a_folder_without_any_cutout_fails(
    example: ModuleType, folder: Path, tmp_path: Path
) -> None:
    for file in folder.glob("*.npz"):
        file.unlink()
    result = run(example, "--cutouts", folder, "--out", tmp_path / "demo")
    assert result.exit_code == FAILED
    assert "cand3.fits" in result.stderr
    assert not (tmp_path / "demo" / "stack.npy").exists()


def test_a_backend_that_differs_fails(
    example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(example, "checksum", lambda array: "0")
    result = run(example, "--out", tmp_path / "demo")
    assert result.exit_code == FAILED
    assert "differs from the definition" in message(result)


def test_brackets_of_a_reason_are_printed(
    example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = "pip install '.[cuda]'"
    listed = [fastnorm.Backend("numba-cuda", "cuda", False, reason)]
    monkeypatch.setattr(fastnorm, "backends", lambda: listed)
    assert reason in run(example, "--out", tmp_path / "demo").stdout


def commands(*variables: str) -> dict[str, str]:
    """Return the lines of ``make demo`` by the name of the command."""
    done = subprocess.run(
        ["make", "--dry-run", "demo", *variables],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.replace("\\\n", " ").splitlines()
    names = {
        "examples/normalise.py": "normalise",
        "dhs inject": "inject",
        "cutouts.parquet": "score",
    }
    return {names[key]: line for line in lines for key in names if key in line}


def test_the_demo_goes_on_if_some_cutouts_are_rejected() -> None:
    found = commands("CUTOUTS=some where")
    assert set(found) == {"normalise", "inject", "score"}
    for line in found.values():
        assert "'some where'" in line
        assert line.endswith("|| test $? -eq 1")
    assert "--data-origin 'cutouts of make demo, origin not stated'" in found["score"]
    assert "--data-origin 'DECaLS DR9'" in commands("CUTOUTS=c", "ORIGIN=DECaLS DR9")["score"]


def test_nothing_may_be_rejected_in_simulated_data() -> None:
    found = commands()
    assert set(found) == {"normalise", "inject"}
    assert not any("test $?" in line for line in found.values())


def test_the_origin_of_a_pack_is_kept(tmp_path: Path) -> None:
    (tmp_path / "manifest.parquet").touch()
    assert "--data-origin" not in commands(f"CUTOUTS={tmp_path}")["score"]
