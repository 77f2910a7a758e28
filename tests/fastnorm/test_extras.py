"""A missing optional package is named with the extra that installs it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import fastnorm
from fastnorm.extras import EXTRA_OF, how_to_install
from tests import ROOT

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
{code}
"""

NORMALISE = """
import numpy as np, fastnorm
images = np.load(sys.argv[1])
np.save(sys.argv[2], fastnorm.normalize_outer_annulus(images, 32.5, 45.0, clip=10))
try:
    fastnorm.OuterAnnulusNorm
except ImportError as error:
    print(error)
"""


def without(missing: set[str], code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in an interpreter that does not have some packages."""
    text = WITHOUT.format(missing=missing, code=code)
    command = [sys.executable, "-c", text, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_arrays_are_normalised_with_numpy_and_numba_alone(tmp_path: Path) -> None:
    images = np.random.default_rng(1).normal(size=(2, 3, 101, 101)).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    files = str(tmp_path / "images.npy"), str(tmp_path / "normalised.npy")
    done = without(set(EXTRA_OF) | {"triton"}, NORMALISE, *files)
    assert done.returncode == 0, done.stderr
    assert f"this needs the package torch, which is not installed: {how_to_install('torch')}" in (
        done.stdout
    )
    expected = fastnorm.normalize_outer_annulus(images, 32.5, 45.0, clip=10, backend="reference")
    np.testing.assert_array_equal(np.load(files[1]), expected)


@pytest.mark.parametrize(
    ("missing", "command", "extra"),
    [
        ("torch", "fastnorm check --json", "torch"),
        ("pyarrow", "dhs audit .", "cli"),
        ("pyarrow", "dhs simulate --out survey --n 3", "cli"),
        ("torch", f"dhs checkpoint show {ROOT / 'pyproject.toml'}", "torch"),
        ("yaml", "dhs train nosuch.yaml", "dhs"),
    ],
)
def test_commands_name_the_extra(missing: str, command: str, extra: str, tmp_path: Path) -> None:
    program, *arguments = command.split()
    code = f"from {program}.cli import app; app({arguments!r})"
    done = without({missing}, f"import os; os.chdir({str(tmp_path)!r})\n{code}")
    expected = f"error: this needs the package {missing}, which is not installed: "
    assert expected + how_to_install(extra) in done.stderr
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("missing", "backend", "extra"),
    [
        ("triton", "triton", "torch"),
        ("torch", "triton", "torch"),
        ("numba_cuda", "numba-cuda", "cuda"),
    ],
)
def test_the_list_of_backends_names_the_extra(missing: str, backend: str, extra: str) -> None:
    done = without({missing}, "from fastnorm.cli import app; app(['backends'])")
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if f" {backend} " in line)
    assert how_to_install(extra) in line
    assert "Error" not in line


def test_every_extra_exists() -> None:
    assert set(EXTRA_OF.values()) <= set(EXTRAS)
    shim = (ROOT / "kernels" / "numba_cuda_shim.py").read_text()
    # The kernels import nothing of this project.
    assert f"numba-cuda: {how_to_install('cuda')}" in shim
