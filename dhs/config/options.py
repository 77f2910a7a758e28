"""Options shared by several commands."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
LabelCol = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Read labels from this column: 1 is a lens, 0 a non-lens.",
        show_default="label",
    ),
]
IdCol = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Read ids from this column.",
        show_default="galaxy_id, or else the file names",
    ),
]
PathPattern = Annotated[
    str | None,
    typer.Option(
        metavar="PATTERN",
        help="Find the file of each row by columns in braces, as in 'cutouts/{TARGETID}.fits', "
        "relative to the table.",
        show_default="the column cutout_path",
    ),
]
PictureFormat = Annotated[
    Literal["png", "pdf", "svg"],
    typer.Option(
        help="Write the pictures in this format; those of an earlier run in another are removed."
    ),
]
Resident = Annotated[
    bool,
    typer.Option("--resident", help="Keep all cutouts on the device; same as dataset.resident."),
]
Seed = Annotated[int, typer.Option(help="Start all random numbers from this seed.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="SECTION.KEY=VALUE", help="Replace a value of the file; repeatable."
    ),
]


def group_with_default(name: str) -> type[TyperGroup]:
    """Return a command group that runs the command of this name by default."""

    class GroupWithDefault(TyperGroup):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            if args and args[0] not in {*self.commands, *ctx.help_option_names}:
                args = [name, *args]
            return super().parse_args(ctx, args)

    return GroupWithDefault
