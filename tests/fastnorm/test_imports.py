"""Tests of the time and the dependencies of imports, each in a new interpreter."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import fastnorm
from tests import ROOT
from tests.fastnorm.test_backends import EVERY

HEAVY = {"numba", "llvmlite", "torch", "triton", "astropy", "pyarrow", "matplotlib", "scipy"}


def _run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _modules_after(code: str) -> set[str]:
    printed = _run(f"{code}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})")
    return set(printed.split())


def test_import_is_light() -> None:
    loaded = _modules_after("import fastnorm")
    assert "fastnorm" in loaded
    assert not loaded & HEAVY


def test_import_is_fast() -> None:
    code = (
        "import time; start = time.perf_counter(); import fastnorm; "
        "print(time.perf_counter() - start)"
    )
    assert min(float(_run(code)) for _ in range(3)) < 0.3


def test_the_names_alone_load_no_backend() -> None:
    loaded = _modules_after(
        "from fastnorm import Annulus, set_num_threads; Annulus(32.5, 45).pixels(101, 101)"
    )
    assert "numpy" in loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize("backend", EVERY)
def test_normalising_an_array_loads_no_torch(backend: str) -> None:
    loaded = _modules_after(
        "import numpy, fastnorm\n"
        "images = numpy.zeros((20, 64, 64), numpy.float32)\n"
        f"fastnorm.normalize_outer_annulus(images, 20, 32, backend={backend!r})"
    )
    assert not loaded & (HEAVY - {"numba", "llvmlite", "scipy"})
    assert ("numba" in loaded) == (backend == "numba")


@pytest.mark.parametrize("module", ["dhs.preprocess", "dhs.evaluate", "dhs.pack", "dhs.cli"])
def test_rooms_without_a_network_load_no_torch(module: str) -> None:
    assert not _modules_after(f"import {module}") & {"torch", "timm"}


def test_star_import_gives_all_and_no_more() -> None:
    printed = _run(
        "before = set(globals()) | {'before'}\n"
        "from fastnorm import *\n"
        "print(*(set(globals()) - before))"
    )
    assert set(printed.split()) == set(fastnorm.__all__)
    assert len(fastnorm.__all__) == len(set(fastnorm.__all__)) <= 16


def test_every_public_name_exists() -> None:
    for name in fastnorm.__all__:
        assert not isinstance(getattr(fastnorm, name), ModuleType)
    assert dir(fastnorm) == sorted(fastnorm.__all__)
    with pytest.raises(AttributeError, match="'fastnorm' has no attribute 'nothing'"):
        _ = fastnorm.nothing  # type: ignore[attr-defined]


def test_a_type_checker_knows_the_public_names_alone(tmp_path: Path) -> None:
    file = tmp_path / "script.py"
    file.write_text("import fastnorm\n_ = fastnorm.OuterAnnulusNorm\n_ = fastnorm.nonsense\n")
    # Without other packages this takes a second.
    options = ["--follow-imports=skip", "--no-incremental", "--config-file=", "--no-error-summary"]
    files = [str(ROOT / "fastnorm" / "__init__.py"), str(file)]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, *files],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines() == [
        f'{file}:3: error: Module has no attribute "nonsense"  [attr-defined]'
    ]


def _imported_by(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} has a relative import"
            assert node.module is not None
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _python_files(folder: str) -> list[Path]:
    files = sorted((ROOT / folder).rglob("*.py"))
    # The link to kernels/ leads to files that are listed by themselves.
    return [path for path in files if path.resolve() == path]


def test_lower_layers_do_not_know_the_upper_ones() -> None:
    for file in _python_files("fastnorm") + _python_files("kernels"):
        assert not [name for name in _imported_by(file) if name.split(".")[0] == "dhs"], file
    for file in _python_files("kernels"):
        ours = [name for name in _imported_by(file) if name.split(".")[0] == "fastnorm"]
        assert all(f"{name}.".startswith("fastnorm.kernels.") for name in ours), file
