"""``dhs realism``."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from dhs.commands.paths import require_checkpoints, require_tables
from dhs.config.options import AsJson, PictureFormat, Seed
from dhs.jobs.malloc import keep_freed_memory
from fastnorm.terminal import counting, fail, finish, messages


def realism(
    model: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="Use this checkpoint from dhs train.")
    ],
    real: Annotated[
        list[Path],
        typer.Option(
            metavar="DATA", help="Read real lenses from a pack, or files and folders; repeatable."
        ),
    ],
    injected: Annotated[
        list[Path],
        typer.Option(
            metavar="DATA",
            help="Read injections from a folder of dhs grid, a pack, or files; repeatable.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Write realism.json and a picture to this folder.")],
    label_col: Annotated[
        str, typer.Option(help="Read labels in packs from this column; 1 is a lens.")
    ] = "label",
    split: Annotated[
        str | None,
        typer.Option(help="Use only this split of a pack of real lenses: train, val or test."),
    ] = None,
    least_snr: Annotated[
        float | None, typer.Option(help="Skip injections of a grid with a smaller arc_snr_r.")
    ] = None,
    sample: Annotated[
        int, typer.Option(help="Draw a sample of at most this many cutouts of each kind.", min=1)
    ] = 2000,
    permutations: Annotated[
        int, typer.Option(help="Draw this many permutations of the labels.", min=19)
    ] = 200,
    seed: Seed = 1,
    device: Annotated[str, typer.Option(help="Use auto, cpu or cuda.")] = "auto",
    allow_deprecated: Annotated[
        bool, typer.Option("--allow-deprecated", help="Allow a deprecated checkpoint.")
    ] = False,
    picture_format: PictureFormat = "png",
    as_json: AsJson = False,
) -> None:
    """Test whether the network can tell injected arcs from real lenses.

    A linear probe is fitted to the penultimate features. An AUC near 0.5 is good. With a high AUC,
    the completeness measured with these injections may not apply to real lenses. Lenses of the
    training set look different to the network; --split test excludes them.

    Exit status: 0 done; 1 done, with some files rejected; 2 nothing done.
    """
    started = time.perf_counter()
    _check_folder(out)
    require_checkpoints(model)
    require_tables([*real, *injected])
    with messages(TypeError, ValueError, OSError, ImportError):
        from dhs.realism.probe import probe
        from dhs.realism.run import gather, write_check

        keep_freed_memory()
        with counting("features", "cutouts") as show:
            gathered = gather(
                model,
                real,
                injected,
                label_col=label_col,
                split=split,
                least_snr=least_snr,
                sample=sample,
                seed=seed,
                device=device,
                allow_deprecated=allow_deprecated,
                progress=show,
            )
        found = probe(
            gathered.real,
            gathered.injected,
            real_groups=gathered.real_groups,
            injected_groups=gathered.injected_groups,
            permutations=permutations,
            seed=seed,
        )
        out.mkdir(exist_ok=True)
        record = write_check(out, gathered, found, picture_format)
    report = {"out": str(out), "written": 2} | record
    done = f"{found.verdict}\nrealism.json and realism.{picture_format} are in {out}"
    finish(report, gathered.rejected, started, done, as_json)


def _check_folder(out: Path) -> None:
    """Fail before any work if the folder cannot be created or written."""
    if out.exists() and not out.is_dir():
        fail(f"--out {out} is a file; name a folder.")
    writable = out if out.exists() else out.parent
    if not writable.is_dir():
        fail(f"--out {out}: the folder {writable} does not exist; create it first.")
    if not os.access(writable, os.W_OK | os.X_OK):
        fail(f"--out {out}: the folder {writable} is not writable; choose another.")


if __name__ == "__main__":
    raise SystemExit("This module runs as dhs realism, or python -m dhs realism.")
