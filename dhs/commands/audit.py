"""``dhs audit`` and ``dhs methods``."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dhs.commands.paths import require_checkpoints, require_folders, require_paths
from dhs.config.options import AsJson
from fastnorm.terminal import SOME_REJECTED, check_out, console, fail, messages
from fastnorm.text import printable, visible

if TYPE_CHECKING:
    from dhs.audit import Audit

Folders = Annotated[
    list[Path],
    typer.Argument(metavar="DIR...", help="Search these folders for artefacts, at any depth."),
]
_LOOKS = {"holds": ("[x]", "green"), "fails": ("[ ]", "red"), "cannot be judged": ("[?]", "yellow")}


def audit(folders: Folders, as_json: AsJson = False) -> None:
    """Check checkpoints, scores and grids against the retraining plan, line by line.

    Every line lists its evidence; a line that does not hold also lists what is missing. Artefacts
    made from simulated data are listed, but do not count where the plan requires DR10.

    Exit status: 0 every line holds; 1 some lines do not hold; 2 nothing was checked.
    """
    require_folders("artefacts", folders)
    with messages(ValueError, OSError):
        from dhs.audit import audit as judge
        from dhs.audit.artefacts import find_artefacts
        from dhs.audit.followed import why_followed

        artefacts = find_artefacts(folders)
        found, is_followed = judge(artefacts), bool(why_followed(artefacts))
    if as_json:
        typer.echo(json.dumps(found.to_dict()))
    else:
        _print(found, is_followed=is_followed)
    if not found.holds:
        raise typer.Exit(SOME_REJECTED)


def _print(audit: Audit, *, is_followed: bool) -> None:
    from rich.text import Text

    screen = console(sys.stdout)

    def show(first: str, said: str, colour: str = "") -> None:
        # Paths are not broken, so that they can be copied.
        text = textwrap.fill(
            visible(said),
            max(screen.width, 60) - 1,
            initial_indent=first,
            subsequent_indent=" " * 8,
            break_long_words=False,
            break_on_hyphens=False,
        )
        screen.print(Text(text, colour), soft_wrap=True)

    for line in audit.lines:
        mark, colour = _LOOKS[line.verdict]
        show(f"{mark} ", f"{line.title}: {line.verdict}", colour)
        for said in line.evidence:
            show("      ", said)
        told = " ".join(line.evidence)
        for file in line.files:
            if file not in told:
                show("      ", file)
        if line.missing:
            show("      ", f"missing: {line.missing}", "italic")
    screen.print(Text(audit.summary, "bold"))
    if not is_followed:
        # The report of such folders has these checks only.
        checks = audit.without_plan().summary
        said = "These folders do not follow the retraining plan; dhs report shows only what must"
        show("", f"{said} hold for any run, {checks}")


def methods(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="Read this .safetensors file.")
    ],
    grid: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Use the grid in this folder, scored with this checkpoint."
        ),
    ] = None,
    latex: Annotated[
        bool, typer.Option("--latex", help="Write LaTeX instead of plain text.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write to this file: .tex for LaTeX, .md for plain text."
        ),
    ] = None,
) -> None:
    """Write the paper's paragraph on the normalisation, from the preprocessing of a checkpoint.

    With --grid, a sentence on the selection function follows. The file records its checkpoint in
    a comment, so that dhs audit can compare the two.

    Exit status: 0 written; 2 refused.
    """
    if latex and out is not None and out.suffix == ".md":
        fail(f"--latex needs an --out that ends in .tex, got --out {out}.")
    require_checkpoints(checkpoint)
    require_paths(grid)
    with messages(ValueError, OSError):
        from dhs.audit.methods import TEXT_SUFFIXES, methods_text, write_methods
        from dhs.checkpoint import read
        from dhs.selection.grid_result import GridResult

        if out is not None and out.suffix in TEXT_SUFFIXES:
            check_out(out, out.suffix)
        loaded = read(checkpoint)
        result = None if grid is None else GridResult(grid)
        if out is None:
            typer.echo(printable(methods_text(loaded, result, latex=latex)), nl=False)
            return
        write_methods(out, loaded, result)
    typer.echo(printable(f"written: {out}"))


if __name__ == "__main__":
    raise SystemExit("This module runs as dhs audit and dhs methods, or python -m dhs audit.")
