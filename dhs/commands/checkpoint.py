"""``dhs checkpoint``: show, list, deprecate, import."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dhs.commands.paths import require_checkpoints, require_folders
from dhs.config.options import AsJson
from fastnorm.terminal import (
    SOME_REJECTED,
    check_out,
    fail,
    messages,
    print_rejected,
    say,
    wide_console,
)
from fastnorm.text import printable, quoted, visible

if TYPE_CHECKING:
    from dhs.checkpoint import Checkpoint
    from fastnorm.io import Rejected

app = typer.Typer(
    help="Show, list, deprecate and import checkpoints.",
    no_args_is_help=True,
    add_completion=False,
)

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Search this folder, at any depth.")]

ASSUMED_BECAUSE = {
    "annulus": "because radii of 0 or None mean the legacy annulus",
    "arch": "from the names of its tensors",
    "base_ch": "from the shape of its stem",
}
"""Reasons for values that an imported file does not state."""


@app.command()
def show(
    file: Annotated[Path, typer.Argument(help="Read this .safetensors file.")],
    as_json: AsJson = False,
) -> None:
    """Print everything that a checkpoint records.

    Exit status: 0 printed; 2 the file cannot be read.
    """
    require_checkpoints(file)
    with messages(ValueError, OSError):
        from dhs import checkpoint

        found = checkpoint.read(file)
    if as_json:
        typer.echo(json.dumps(found.to_dict()))
        return
    values: dict[str, Any] = {
        "file": found.path,
        "status": found.status,
        "deprecated": found.deprecated and f"{found.deprecated} ({found.deprecated_at})",
        "architecture": found.architecture,
        "preprocessing": found.spec,
        "data origin": found.data_origin,
        "created": found.created,
        "fingerprint": found.fingerprint,
        "spec fingerprint": found.spec.fingerprint,
        "weights SHA-256": found.weights_sha256,
        "tensors": len(found.tensors),
        "metrics": found.metrics,
        "data": found.data,
        "config": found.config,
        "versions": found.versions,
        "extra": found.extra,
        "imported from": found.imported_from,
    }
    for name, value in values.items():
        if value:
            shown = json.dumps(value, indent=2) if isinstance(value, dict) else visible(str(value))
            typer.echo(printable(f"{name + ':':22}{shown}"))


@app.command("list")
def list_(folder: Folder, as_json: AsJson = False) -> None:
    """Print a table of the checkpoints in a folder, with annulus and status.

    Exit status: 0 all read; 1 some files cannot be read; 2 the folder does not exist.
    """
    require_folders("checkpoints", [folder])
    with messages(OSError):
        from dhs.checkpoint.folder import find

        found = find(folder)
    if as_json:
        report = {"checkpoints": [_summary(item) for item in found.checkpoints]}
        _print_json(report, found.old, found.others, found.rejected)
    else:
        rows = [
            _summary(item)
            | {"file": item.path.relative_to(folder), "fingerprint": item.fingerprint[:12]}
            for item in found.checkpoints
        ]
        title = f"{len(rows)} checkpoints in {folder}"
        _print_table(title, list(rows[0]) if rows else [], [list(row.values()) for row in rows])
        notes = ["not imported: dhs checkpoint import"] * len(found.old)
        notes += ["not a dhs checkpoint"] * len(found.others)
        if notes:
            others = [path.relative_to(folder) for path in found.old + found.others]
            _print_table("others", ["file", ""], zip(others, notes, strict=True))
    _end(found.rejected, as_json)


@app.command()
def deprecate(
    folder: Folder,
    reason: Annotated[str, typer.Option(help="Record why the checkpoints must no longer be used.")],
    as_json: AsJson = False,
) -> None:
    """Mark checkpoints as deprecated if their legacy annulus lies inside the galaxy.

    A marked checkpoint warns whenever it is used, and dhs score refuses it. Checkpoints with
    another annulus, or with the legacy annulus on 64 x 64 crops, where it is correct, do not
    change. A folder with marked checkpoints gets a DEPRECATED.md. This file also lists .pt files,
    which cannot be marked.

    Exit status: 0 done; 1 some files cannot be read or written; 2 nothing done.
    """
    require_folders("checkpoints", [folder])
    with messages(ValueError, OSError):
        from dhs.checkpoint.folder import deprecate_folder

        done = deprecate_folder(folder, reason)
    if as_json:
        report: dict[str, Any] = {
            "marked": [_summary(item) for item in done.now],
            "marked_before": [_summary(item) for item in done.before],
            "left": [_summary(item) for item in done.left],
            "notices": [printable(path) for path in done.notices],
        }
        _print_json(report, list(done.old), done.others, done.rejected)
    else:
        rows = [
            (item.path.relative_to(folder), _radii(item), item.status, what)
            for items, what in (
                (done.now, "marked"),
                (done.before, "already marked"),
                (done.left, "not marked"),
            )
            for item in items
        ]
        title = f"{len(done.now)} checkpoints marked in {folder}"
        _print_table(title, ["file", "annulus", "status", ""], rows)
        if done.old:
            title = "cannot be marked: run dhs checkpoint import first"
            old = [(path.relative_to(folder), said) for path, said in done.old.items()]
            _print_table(title, ["file", "annulus"], old)
        for path in done.others:
            typer.echo(visible(f"{path} is not a dhs checkpoint"))
        for path in done.notices:
            typer.echo(visible(f"written: {path}"))
    _end(done.rejected, as_json)


@app.command("import")
def import_(
    old: Annotated[Path, typer.Argument(metavar="OLD.pt", help="Convert this file.")],
    out: Annotated[Path, typer.Option(help="Write the checkpoint to this .safetensors file.")],
    annulus: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="R_IN R_OUT", help="Set the radii in pixels, if the file records none."
        ),
    ] = None,
    crop: Annotated[
        bool | None,
        typer.Option(
            "--crop/--no-crop",
            help="State whether cutouts are cropped, if the file does not record it.",
            show_default=False,
        ),
    ] = None,
    data_origin: Annotated[
        str | None,
        typer.Option(
            help="State 'simulated', or survey and release, if the file does not record the origin."
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            help="State the side of the cutouts before any crop, in pixels.", show_default="101"
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="ENTRY", help="Read the weights from this entry of the file, if it has several."
        ),
    ] = None,
    arch: Annotated[
        str | None,
        typer.Option(
            help="Set the architecture, if neither the file nor the names of its tensors tell it."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Convert an old .pt file to a checkpoint that records its annulus.

    No code in the file is executed.

    Exit status: 0 written; 2 refused.
    """
    check_out(out, ".safetensors")
    if out.exists():
        fail(f"--out {out} already exists; choose another file.")
    require_checkpoints(old)
    with messages(TypeError, ValueError, OSError):
        from dhs.checkpoint.published import import_old
        from dhs.constants import CUTOUT_SIZE

        result = import_old(
            old,
            out,
            annulus=annulus,
            crop=crop,
            data_origin=data_origin,
            size=CUTOUT_SIZE if size is None else size,
            weights=weights,
            arch=arch,
        )
    assert result.imported_from is not None
    if as_json:
        typer.echo(json.dumps(_summary(result) | {"imported_from": result.imported_from}))
        return
    typer.echo(printable(f"{out}: {result.arch}, {result.spec}; {result.status}"))
    for name, value in result.imported_from["defaults"].items():
        reason = ASSUMED_BECAUSE.get(name, f"because {old} does not record it")
        say("assumed", "yellow", f"{name} = {value}, {reason}.")
    if result.imported_from["left_out"]:
        say("not imported", "yellow", ", ".join(result.imported_from["left_out"]))
    if "inside" in result.status:
        say(
            "warning",
            "yellow",
            "the annulus lies inside the galaxy; mark the checkpoint with "
            f"dhs checkpoint deprecate {quoted(out.parent)} --reason ...",
        )


def _summary(item: Checkpoint) -> dict[str, Any]:
    auc = item.metrics.get("val_auc", item.metrics.get("best_auc"))
    return {
        "file": printable(item.path),
        "arch": item.arch,
        "annulus": _radii(item),
        "status": item.status,
        "val AUC": None if auc is None else round(auc, 4),
        "data origin": item.data_origin,
        "created": item.created,
        "fingerprint": item.fingerprint,
    }


def _radii(item: Checkpoint) -> str:
    return str(item.spec.annulus)


def _print_json(
    report: dict[str, Any], old: list[Path], others: list[Path], rejected: list[Rejected]
) -> None:
    report["not_imported"] = [printable(path) for path in old]
    report["others"] = [printable(path) for path in others]
    report["rejected"] = [
        {"path": printable(item.path), "reason": printable(item.reason)} for item in rejected
    ]
    typer.echo(json.dumps(report))


def _print_table(
    title: str,
    columns: list[str],
    rows: Iterable[Sequence[object]],
) -> None:
    from rich.table import Table
    from rich.text import Text

    out = wide_console(sys.stdout)
    out.print(Text(visible(title)))
    table = Table()
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        # Text, not markup: file names may contain brackets.
        table.add_row(*(Text("" if cell is None else visible(str(cell))) for cell in row))
    if table.row_count:
        out.print(table)


def _end(rejected: list[Rejected], as_json: bool) -> None:
    if not rejected:
        return
    if not as_json:
        print_rejected(rejected)
    raise typer.Exit(SOME_REJECTED)


if __name__ == "__main__":
    raise SystemExit("This module runs as dhs checkpoint, or python -m dhs checkpoint.")
