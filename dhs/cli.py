"""The command ``dhs``; every command is defined in `dhs.commands`."""

from __future__ import annotations

from typing import Annotated

import typer

import fastnorm
from dhs.commands import (
    audit,
    checkpoint,
    config,
    depth,
    evaluate,
    fetch,
    grid,
    init,
    pack,
    realism,
    report,
    score,
    show,
    survey,
    train,
)
from fastnorm.terminal import HELP_SETTINGS, Commands

app = typer.Typer(
    help="Find strong lenses in cutouts of the DESI Legacy Surveys.",
    cls=Commands,
    no_args_is_help=True,
    context_settings=HELP_SETTINGS,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dhs {fastnorm.__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Global options."""


app.command()(survey.simulate)
app.command()(survey.inject)
app.command()(fetch.fetch)
app.command()(depth.depth)
app.add_typer(pack.app, name="pack")
app.add_typer(config.app, name="config")
app.command()(init.init)
app.command()(train.train)
app.command()(score.score)
app.command()(show.show)
app.command()(evaluate.evaluate)
app.add_typer(grid.app, name="grid")
app.command()(realism.realism)
app.command()(audit.audit)
app.command()(report.report)
app.command()(audit.methods)
app.add_typer(checkpoint.app, name="checkpoint")

if __name__ == "__main__":
    app(prog_name="dhs")
