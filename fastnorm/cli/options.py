"""Options shared by the ``fastnorm`` commands."""

from __future__ import annotations

from typing import Annotated

import typer

Radii = Annotated[
    tuple[float, float] | None,
    typer.Option(
        metavar="R_IN R_OUT",
        help="Radii of the annulus in pixels.",
        show_default="65 and 90 % of the half-width",
    ),
]
BackendName = Annotated[
    str | None,
    typer.Option(help="A name that `fastnorm backends` lists.", show_default="the fastest"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
