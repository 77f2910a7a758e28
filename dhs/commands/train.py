"""``dhs train``, and ``python -m dhs.train``."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Annotated

import typer

from dhs.commands.options import AsJson, Settings
from fastnorm.terminal import counting, fail, messages, printable

Resident = Annotated[
    bool, typer.Option("--resident", help="Hold all cutouts on the device, as dataset.resident.")
]


def train(
    file: Annotated[Path, typer.Argument(help="The configuration, YAML.")],
    settings: Settings = None,
    resident: Resident = False,
    as_json: AsJson = False,
) -> None:
    """Train a lens finder as a configuration says; an interrupted run goes on from where it was.

    Exit status: 0 trained; 2 wrong arguments, or not complete.
    """
    started = time.perf_counter()
    is_first = os.environ.get("RANK", "0") == "0"
    with messages(TypeError, ValueError, OSError, ImportError, RuntimeError):
        from dhs.train import train as run
        from dhs.training.config import read_config

        given = [*(settings or ()), *(["dataset.resident=true"] if resident else [])]
        config = read_config(file, given)
        try:
            with counting("training", "cutouts") as show:
                made = run(
                    config,
                    file.stem,
                    report=lambda line: None if as_json else typer.echo(line),
                    progress=show,
                )
        except KeyboardInterrupt:
            fail("interrupted; the same command goes on from the last saved state.")
    if not is_first:
        return
    if as_json:
        report = {
            "checkpoint": str(made.checkpoint),
            "picture": str(made.picture),
            "best": made.best,
            "was_complete": made.was_complete,
            "seconds": round(time.perf_counter() - started, 3),
        }
        typer.echo(json.dumps(report))
        return
    if made.was_complete:
        typer.echo("complete already, with this configuration.")
    best = made.best
    area = "" if best["val_auc"] is None else f", validation AUC {best['val_auc']:.4f}"
    typer.echo(f"best epoch {best['epoch'] + 1}{area}")
    typer.echo(printable(f"checkpoint: {made.checkpoint}"))
    typer.echo(printable(f"picture: {made.picture}"))


def main() -> None:
    """Run ``python -m dhs.train --config FILE``."""

    def with_option(
        config: Annotated[Path, typer.Option(help="The configuration, YAML.")],
        settings: Settings = None,
        resident: Resident = False,
        as_json: AsJson = False,
    ) -> None:
        train(config, settings, resident, as_json)

    with_option.__doc__ = train.__doc__
    typer.run(with_option)
