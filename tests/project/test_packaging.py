"""Tests of the distribution: dependencies, symbolic links, packages and version."""

from __future__ import annotations

import importlib
import re
import tomllib
from importlib import metadata

import pytest

import fastnorm
from tests import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
MODULES = {"astropy-healpix": "astropy_healpix", "pyyaml": "yaml", "scikit-learn": "sklearn"}
LINES = PROJECT["dependencies"] + EXTRAS["torch"] + EXTRAS["cli"] + EXTRAS["dhs"][1:]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("line", LINES)
def test_dependency_imports(line: str) -> None:
    name = line.partition(">=")[0].lower()
    importlib.import_module(MODULES.get(name, name))


def test_every_requirement_has_a_lower_bound() -> None:
    others = [line for extra in EXTRAS.values() for line in extra]
    unbounded = [line for line in LINES + others if not re.search(r">=\d", line)]
    assert unbounded == ["dhs-fastnorm[cli,torch]", "dhs-fastnorm[dask]", "dhs-fastnorm[dhs]"]


@pytest.mark.parametrize(
    ("link", "target"), [("fastnorm/kernels", "kernels"), ("dhs/configs", "configs")]
)
def test_links(link: str, target: str) -> None:
    assert (ROOT / link).is_symlink()
    assert (ROOT / link).resolve() == (ROOT / target).resolve()


def test_every_package_is_installed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for layer in ("dhs", "fastnorm")
        for path in (ROOT / layer).rglob("__init__.py")
    }
    # Links: dhs.configs holds YAML files, without modules.
    assert found | {"dhs.configs", "fastnorm.kernels"} == set(listed)


def test_version_is_said_once() -> None:
    assert metadata.version(PROJECT["name"]) == fastnorm.__version__
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"version: {fastnorm.__version__}\n" in citation
    (date,) = re.findall(r"date-released: (\S+)", citation)
    first = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0]
    assert first == f"{fastnorm.__version__} ({date})"
