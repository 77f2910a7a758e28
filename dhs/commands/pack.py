"""``dhs pack MANIFEST`` and ``dhs pack verify DIR``."""

from __future__ import annotations

import json
import os
import time
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dhs.commands.flat import say_flat
from dhs.commands.paths import require_paths
from dhs.commands.words import in_options
from dhs.config.options import AsJson, IdCol, LabelCol, PathPattern, group_with_default
from fastnorm.dispatch import threads
from fastnorm.terminal import SOME_REJECTED, counting, fail, finish, messages, say
from fastnorm.text import printable

if TYPE_CHECKING:
    from dhs.pack import PackResult


app = typer.Typer(
    cls=group_with_default("create"),
    help="Pack single-cutout files into a few large files, and verify such packs.\n\n"
    "dhs pack MANIFEST --out DIR is short for dhs pack create MANIFEST --out DIR.",
    subcommand_metavar="MANIFEST|FOLDER --out DIR | verify DIR",
    no_args_is_help=True,
    add_completion=False,
)

Workers = Annotated[
    int | None,
    typer.Option(help="Use this many workers.", show_default="number of available cores"),
]


@app.command()
def create(
    manifest: Annotated[
        Path,
        typer.Argument(
            metavar="MANIFEST|FOLDER",
            help="Read cutout_path, label and others from this .parquet or .csv; or take all "
            "cutouts of this folder, without labels.",
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Write to this folder: new, empty, or left by an interrupted run.")
    ],
    label_col: LabelCol = None,
    id_col: IdCol = None,
    path_pattern: PathPattern = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Replace the pack in the folder once the new one is complete."
        ),
    ] = False,
    data_origin: Annotated[
        str | None,
        typer.Option(
            help="Record the origin of the cutouts, for example legacysurvey-dr10.",
            show_default="the origin in the manifest",
        ),
    ] = None,
    train_fraction: Annotated[
        float,
        typer.Option(
            help="Use this fraction of the sky for training, if there is no column split."
        ),
    ] = 0.7,
    seed: Annotated[int, typer.Option(help="Draw the splits from this seed.")] = 42,
    allow_rejects: Annotated[
        int, typer.Option(help="Accept at most this many rejected files in a finished pack.")
    ] = 0,
    allow_flat: Annotated[
        bool,
        typer.Option(
            "--allow-flat", help="Accept cutouts with flat bands: the MAD of their annulus is 0."
        ),
    ] = False,
    mask_bits: Annotated[
        str,
        typer.Option(
            metavar="RELEASE:NAME,...",
            help="Name the MASKBITS bits that make a pixel of a FITS file bad.",
            show_default="dr10, with the bits of stars, clusters, and pixels without a good value",
        ),
    ] = "dr10",
    shard_bytes: Annotated[
        int, typer.Option(help="Put at most this many bytes of pixels into a shard.")
    ] = 2**31,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Pack the cutouts of a manifest or folder into shards, masks if needed, and a new manifest.

    Neighbours on the sky are in the same split. Run the same command again to resume an
    interrupted run; the output is identical.

    Exit status: 0 complete; 1 more files were rejected than allowed, and the pack is not
    finished; 2 invalid arguments, or an invalid manifest.
    """
    started = time.perf_counter()
    require_paths(manifest)
    with messages(TypeError, ValueError, OSError, ImportError, RuntimeError), in_options():
        from dhs.pack import write_pack
        from fastnorm.io.maskbits import MaskBits

        count = threads.num_threads() if workers is None else workers
        try:
            with counting("packing", "cutouts") as show:
                result = write_pack(
                    manifest,
                    out,
                    data_origin=data_origin,
                    train_fraction=train_fraction,
                    seed=seed,
                    workers=count,
                    shard_bytes=shard_bytes,
                    allow_rejects=allow_rejects,
                    allow_flat=allow_flat,
                    mask_bits=MaskBits.parse(mask_bits),
                    label_col=label_col,
                    id_col=id_col,
                    path_pattern=path_pattern,
                    overwrite=overwrite,
                    progress=show,
                    warn=lambda text: say("warning", "yellow", text),
                )
        except KeyboardInterrupt:
            fail(f"interrupted; run the same command again to resume {out}.")
    report = result._asdict() | {"out": str(out), "written": result.cutouts * result.is_finished}
    empty = [name for name in ("train", "val") if name not in result.splits]
    if not result.is_finished:
        _say_not_finished(result, out)
    elif not result.has_labels:
        say(
            "note",
            "yellow",
            f"{out} has no labels, so it can be scored, but not trained on; for labels, give a "
            "table with the columns cutout_path and label.",
        )
    elif empty:
        say(
            "note",
            "yellow",
            f"no cutout is in {' or in '.join(empty)}, which training needs; pack more cutouts, "
            "or set the splits in a column split.",
        )
    if result.was_complete and result.rejected:
        _say_mended(len(result.rejected))
    say_flat(result.flat_bands)
    is_allowed = result.is_finished and len(result.rejected) <= allow_rejects
    with suppress(typer.Exit) if is_allowed else nullcontext():
        where = result.out / "rejected.parquet"
        finish(report, result.rejected, started, _summary(result), as_json, where)


def _say_not_finished(result: PackResult, out: Path) -> None:
    count = len(result.rejected)
    if not result.cutouts:
        why = "every file was rejected; fix them"
    else:
        files = "1 file was" if count == 1 else f"{count:,} files were"
        why = f"{files} rejected; fix those listed, or allow them (--allow-rejects {count})"
    # A pack that is replaced is written to another folder first.
    is_new = os.path.realpath(result.out) == os.path.realpath(out)
    state = "is not finished" if is_new else "is as before, because the new pack is not finished"
    say("error", "red", f"{out} {state}: {why}, and run the same command again.")


def _say_mended(rejected: int) -> None:
    files, they = (
        ("1 file was", "it is") if rejected == 1 else (f"{rejected:,} files were", "they are")
    )
    say(
        "note",
        "yellow",
        f"{files} rejected when this pack was written; if {they} mended, give --overwrite to pack "
        "all files again.",
    )


def _summary(result: PackResult) -> str:
    splits = ", ".join(f"{count:,} {name}" for name, count in result.splits.items())
    cutouts = f"{result.cutouts:,} cutouts ({splits}), {len(result.shards)} shards"
    if result.was_complete:
        return f"{result.out} is already complete with these settings: {cutouts}"
    return f"{cutouts}, manifest.parquet, in {result.out}"


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Check the pack in this folder.")],
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Check every hash, every row, the splits and the metadata of a pack.

    Exit status: 0 the pack matches its manifest; 1 it has faults, which are listed; 2 it cannot
    be opened.
    """
    started = time.perf_counter()
    require_paths(folder)
    with messages(TypeError, ValueError, OSError):
        from dhs.pack import verify_pack

        count = threads.num_threads() if workers is None else workers
        try:
            with counting("checking", "cutouts") as show:
                found = verify_pack(folder, workers=count, progress=show)
        except KeyboardInterrupt:
            fail("interrupted; the remaining cutouts were not checked.")
    if as_json:
        faults = [
            {"path": printable(item.path), "reason": printable(item.reason)}
            for item in found.faults
        ]
        seconds = round(time.perf_counter() - started, 3)
        report = found._asdict() | {"folder": str(folder), "faults": faults, "seconds": seconds}
        typer.echo(json.dumps(report))
        raise typer.Exit(SOME_REJECTED if faults else 0)
    for remark in found.remarks:
        say("warning", "yellow", remark)
    say_flat(found.flat_bands)
    done = (
        f"{folder}: {found.intact:,} of {found.cutouts:,} cutouts match the manifest, "
        f"in {found.shards} shards, from {found.data_origin}"
    )
    finish({"written": found.intact}, found.faults, started, done, as_json)


if __name__ == "__main__":
    raise SystemExit("This module runs as dhs pack, or python -m dhs pack.")
