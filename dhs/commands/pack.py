"""``dhs pack MANIFEST`` and ``dhs pack verify DIR``."""

from __future__ import annotations

import json
import time
from concurrent.futures import BrokenExecutor
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dhs.config.options import AsJson, group_with_default
from fastnorm.dispatch import threads
from fastnorm.terminal import SOME_REJECTED, counting, fail, finish, messages, say
from fastnorm.text import printable

if TYPE_CHECKING:
    from dhs.pack import PackResult

MOST_SHOWN = 50


app = typer.Typer(
    cls=group_with_default("create"),
    help="Pack cutouts of one file each into a few big files, and check such packs.\n\n"
    "dhs pack MANIFEST --out DIR is short for dhs pack create MANIFEST --out DIR.",
    subcommand_metavar="MANIFEST --out DIR | verify DIR",
    no_args_is_help=True,
    add_completion=False,
)

Workers = Annotated[int | None, typer.Option(help="At once.", show_default="every core allowed")]


@app.command()
def create(
    manifest: Annotated[Path, typer.Argument(help=".parquet or .csv: cutout_path, label, ...")],
    out: Annotated[Path, typer.Option(help="Folder for the pack; new, empty, or interrupted.")],
    data_origin: Annotated[
        str | None,
        typer.Option(
            help="Where the cutouts are from, as legacysurvey-dr10.",
            show_default="what the manifest says",
        ),
    ] = None,
    train_fraction: Annotated[
        float, typer.Option(help="Share of the sky for training, if there is no column split.")
    ] = 0.7,
    seed: Annotated[int, typer.Option(help="Of the splits.")] = 42,
    allow_rejects: Annotated[
        int, typer.Option(help="Finish though so many files are rejected.")
    ] = 0,
    mask_bits: Annotated[
        str,
        typer.Option(
            metavar="RELEASE:NAME,...",
            help="Bits of MASKBITS, in FITS files, that make a pixel bad, by name.",
            show_default="dr10, with those of stars, clusters, and pixels without a good value",
        ),
    ] = "dr10",
    shard_bytes: Annotated[int, typer.Option(help="Of the pixels of a shard, at most.")] = 2**31,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Pack the cutouts that a manifest lists: shards, masks if there are any, and a manifest.

    Neighbours on the sky go into the same split. An interrupted run is continued by the same
    command, to the same bytes.

    Exit status: 0 complete; 1 files were rejected, more than allowed, so that the pack is not
    finished; 2 wrong arguments, or a manifest with faults.
    """
    started = time.perf_counter()
    with messages(TypeError, ValueError, OSError, ImportError, BrokenExecutor):
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
                    mask_bits=MaskBits.parse(mask_bits),
                    progress=show,
                )
        except KeyboardInterrupt:
            fail(f"interrupted; the same command continues {out}.")
    report = result._asdict() | {"out": str(out), "written": result.cutouts * result.is_finished}
    shown = result.rejected if as_json else result.rejected[:MOST_SHOWN]
    empty = [name for name in ("train", "val") if name not in result.splits]
    if not result.is_finished:
        _say_not_finished(result)
    elif empty:
        say(
            "note",
            "yellow",
            f"no cutout is in {' or in '.join(empty)}, which a training needs; pack more, or "
            "say the splits in a column split.",
        )
    if len(shown) < len(result.rejected):
        where = out / "rejected.parquet"
        say("note", "yellow", f"the first {len(shown)} of them are below; all are in {where}.")
    is_allowed = result.is_finished and len(result.rejected) <= allow_rejects
    with suppress(typer.Exit) if is_allowed else nullcontext():
        finish(report, shown, started, _summary(result), as_json)


def _say_not_finished(result: PackResult) -> None:
    count = len(result.rejected)
    if not result.cutouts:
        why = "every file was rejected; mend them"
    else:
        files = "1 file was" if count == 1 else f"{count:,} files were"
        why = f"{files} rejected; mend what is listed, or allow for it (--allow-rejects {count})"
    say("error", "red", f"{result.out} is not finished: {why}, and run the same command again.")


def _summary(result: PackResult) -> str:
    splits = ", ".join(f"{count:,} {name}" for name, count in result.splits.items())
    cutouts = f"{result.cutouts:,} cutouts ({splits}), {len(result.shards)} shards"
    if result.was_complete:
        return f"{result.out} is complete already, with these settings: {cutouts}"
    return f"{cutouts}, manifest.parquet, in {result.out}"


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Of a pack.")],
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Check a pack: every hash, every row, its splits, its metadata.

    Exit status: 0 all as its manifest says; 1 faults, which are listed; 2 it cannot be opened.
    """
    started = time.perf_counter()
    with messages(TypeError, ValueError, OSError):
        from dhs.pack import verify_pack

        count = threads.num_threads() if workers is None else workers
        try:
            with counting("checking", "cutouts") as show:
                found = verify_pack(folder, workers=count, progress=show)
        except KeyboardInterrupt:
            fail("interrupted; nothing is known of the cutouts that were left.")
    if as_json:
        faults = [
            {"path": printable(item.path), "reason": printable(item.reason)}
            for item in found.faults
        ]
        seconds = round(time.perf_counter() - started, 3)
        report = found._asdict() | {"folder": str(folder), "faults": faults, "seconds": seconds}
        typer.echo(json.dumps(report))
        raise typer.Exit(SOME_REJECTED if faults else 0)
    shown = found.faults[:MOST_SHOWN]
    if len(shown) < len(found.faults):
        say("note", "yellow", f"{len(found.faults):,} faults; the first {len(shown)} are:")
    done = (
        f"{folder}: {found.intact:,} of {found.cutouts:,} cutouts are as recorded, "
        f"in {found.shards} shards, from {found.data_origin}"
    )
    finish({"written": found.intact}, shown, started, done, as_json)
