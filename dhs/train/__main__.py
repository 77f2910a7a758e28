"""Entry point ``python -m dhs.train --config FILE`` for existing scripts and ``torchrun``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dhs.config.options import AsJson, Resident, Settings
from dhs.train.command import train_and_print
from fastnorm.terminal import HELP_SETTINGS

app = typer.Typer(add_completion=False, context_settings=HELP_SETTINGS)


@app.command()
def main(
    config: Annotated[Path, typer.Option(help="Read the configuration from this YAML file.")],
    settings: Settings = None,
    resident: Resident = False,
    as_json: AsJson = False,
) -> None:
    """Train a lens finder from a configuration; an interrupted run resumes.

    Exit status: 0 if trained; 2 if an argument is invalid or the training is incomplete.
    """
    train_and_print(config, settings, resident, as_json)


if __name__ == "__main__":
    app()
