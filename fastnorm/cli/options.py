"""Options and messages shared by the ``fastnorm`` commands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from fastnorm.terminal import say

Radii = Annotated[
    tuple[float, float] | None,
    typer.Option(
        metavar="R_IN R_OUT",
        help="Use the annulus of these radii in pixels.",
        show_default="65 and 90 % of the half-width",
    ),
]
BackendName = Annotated[
    str | None,
    typer.Option(help="Use a backend that `fastnorm backends` lists.", show_default="the fastest"),
]
MaskBitNames = Annotated[
    str,
    typer.Option(
        "--mask-bits",
        metavar="RELEASE:NAME,...",
        help="Name the MASKBITS bits that make a pixel bad, or 'dr10:' for none.",
        show_default="dr10, bits of stars, clusters, and pixels without a good value",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


def say_flat(flat: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """Warn of flat bands, given as names of cutouts and bands; return them for JSON."""
    if flat:
        from fastnorm.normalize.flat import describe_flat

        count = sum(len(bands.split(", ")) for _, bands in flat)
        say("warning", "yellow", describe_flat(flat, count))
    return [{"id": name, "bands": bands} for name, bands in flat]
