"""``dhs config list`` and ``dhs config copy NAME``."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Annotated

import typer

from dhs.config.options import AsJson
from fastnorm.terminal import check_out, messages
from fastnorm.text import printable

INDENT = "    "

app = typer.Typer(
    help="List and copy the configurations that are installed with the package.",
    no_args_is_help=True,
    add_completion=False,
)


@app.command("list")
def list_installed(as_json: AsJson = False) -> None:
    """List the installed configurations, with the commands that read them."""
    from dhs.config.installed import installed

    found = installed()
    if as_json:
        keys = ("name", "command", "purpose")
        typer.echo(json.dumps([{key: getattr(item, key) for key in keys} for item in found]))
        return
    for item in found:
        typer.echo(item.name + (f" ({item.command})" if item.command else ""))
        typer.echo(textwrap.fill(item.purpose, 80, initial_indent=INDENT, subsequent_indent=INDENT))


@app.command()
def copy(
    name: Annotated[str, typer.Argument(help="Copy the configuration of this name.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Write this file.", show_default="NAME in the working directory"),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file.")
    ] = False,
) -> None:
    """Copy an installed configuration into a file that you can edit.

    Exit status: 0 copied; 2 nothing done.
    """
    from dhs.config.installed import copy_installed

    if out is not None:
        check_out(out, ".yaml")
    with messages(ValueError, OSError):
        written = copy_installed(name, out, overwrite)
    typer.echo(printable(f"copied to {written}"))


if __name__ == "__main__":
    raise SystemExit("This module runs as dhs config, or python -m dhs config.")
