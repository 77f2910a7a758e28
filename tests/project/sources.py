"""The Python files of the project."""

from __future__ import annotations

from pathlib import Path

from tests import ROOT

INSTALLED = ("fastnorm", "dhs", "kernels")
FOLDERS = (*INSTALLED, "benchmarks", "examples", "docs", "tests")


def sources() -> list[Path]:
    found = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    # Links to folders lead to files that are in the list already.
    return [path for path in found if path.resolve() == path]
