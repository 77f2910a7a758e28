"""``dhs train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dhs.config.options import AsJson, Resident, Settings
from fastnorm.terminal import messages


def train(
    file: Annotated[Path, typer.Argument(help="Read the configuration from this YAML file.")],
    settings: Settings = None,
    resident: Resident = False,
    as_json: AsJson = False,
) -> None:
    """Train a lens finder from a configuration; an interrupted run resumes.

    Exit status: 0 trained; 2 invalid arguments, or the training did not finish.
    """
    with messages(ImportError):
        from dhs.train.command import train_and_print
    train_and_print(file, settings, resident, as_json)


if __name__ == "__main__":
    raise SystemExit("This module runs as dhs train, or python -m dhs train.")
