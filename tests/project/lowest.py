"""Print the lowest versions that ``pyproject.toml`` allows, as requirements for pip.

Lines given as arguments follow. PyTorch is left out, because a second one is a download of
gigabytes: ``make test-lowest`` takes that of ``.venv``, and ``make test-lowest TORCH=2.7.1``
installs one.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def lowest() -> list[str]:
    """Return ``name==version`` for every direct requirement of the library and its commands."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *extras["cli"], *extras["dhs"], *extras["dask"]]
    chosen = [line for line in lines if not line.startswith("dhs-fastnorm")]
    return [line.replace(">=", "==") for line in chosen]


if __name__ == "__main__":
    sys.stdout.write("\n".join([*lowest(), *sys.argv[1:]]) + "\n")
