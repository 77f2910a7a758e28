"""Run a training from the command line, with progress, messages and a summary."""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dhs.arguments import existing
from dhs.train.config import read_config
from fastnorm.terminal import counting, fail, messages, say
from fastnorm.text import printable

if TYPE_CHECKING:
    from dhs.train.run import Trained


def train_and_print(
    file: Path, settings: Sequence[str] | None, resident: bool, as_json: bool
) -> None:
    """Train from a configuration file and print the result.

    Parameters
    ----------
    file : Path
        YAML configuration.
    settings : sequence of str, optional
        Items ``section.key=value``; each replaces a value of the file.
    resident : bool
        Keep all cutouts on the device, like ``dataset.resident``.
    as_json : bool
        Print one JSON object instead of text.

    Raises
    ------
    typer.Exit
        The status is 2, after a message on stderr, if an argument is invalid or the training
        was interrupted or failed.
    """
    started = time.perf_counter()
    is_first = os.environ.get("RANK", "0") == "0"
    with messages(TypeError, ValueError, OSError, ImportError, RuntimeError), _warnings_at_once():
        config = read_config(
            file, [*(settings or ()), *(["dataset.resident=true"] if resident else [])]
        )
        data = config.located_dataset()
        existing(Path(data.parquet_path if data.mode == "pack" else data.manifest_path))
        # All errors so far are shown before torch is imported.
        from dhs.train.run import train

        try:
            with counting("training", "cutouts") as show:
                trained = train(
                    config,
                    file.stem,
                    report=lambda line: None if as_json else typer.echo(line),
                    progress=show,
                )
        except KeyboardInterrupt:
            fail("interrupted; run the same command again to resume from the last saved state.")
    if is_first:
        _print(trained, time.perf_counter() - started, as_json)


@contextmanager
def _warnings_at_once() -> Iterator[None]:
    """Show warnings on one line each, when they are issued: a training takes hours."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        say("warning", "yellow", str(message))

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def _print(trained: Trained, seconds: float, as_json: bool) -> None:
    best = trained.best
    if as_json:
        report = {
            "checkpoint": str(trained.checkpoint),
            "picture": str(trained.picture),
            "best": best,
            "was_complete": trained.was_complete,
            "seconds": round(seconds, 3),
        }
        typer.echo(json.dumps(report))
        return
    if trained.was_complete:
        typer.echo("already complete with this configuration.")
    area = "" if best["val_auc"] is None else f", validation AUC {best['val_auc']:.4f}"
    typer.echo(f"best epoch {best['epoch'] + 1}{area}")
    typer.echo(printable(f"checkpoint: {trained.checkpoint}"))
    typer.echo(printable(f"picture: {trained.picture}"))
