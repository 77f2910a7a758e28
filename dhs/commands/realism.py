"""``dhs realism``."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from dhs.config.options import AsJson, Seed
from dhs.jobs.malloc import keep_freed_memory
from fastnorm.terminal import counting, fail, finish, messages


def realism(
    model: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="As dhs train writes it.")],
    real: Annotated[
        list[Path],
        typer.Option(metavar="DATA", help="Real lenses: a pack, or files and folders (repeat)."),
    ],
    injected: Annotated[
        list[Path],
        typer.Option(
            metavar="DATA", help="Injections: the folder of dhs grid, a pack, or files (repeat)."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for realism.json and realism.png.")],
    label_col: Annotated[str, typer.Option(help="Of packs; 1 is a lens.")] = "label",
    split: Annotated[
        str | None, typer.Option(help="Of a pack of real lenses: train, val or test only.")
    ] = None,
    least_snr: Annotated[
        float | None, typer.Option(help="Of a grid: least arc_snr_r of an injection.")
    ] = None,
    sample: Annotated[int, typer.Option(help="Draw at most so many of each.", min=1)] = 2000,
    permutations: Annotated[int, typer.Option(help="Of the labels.", min=19)] = 200,
    seed: Seed = 1,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    allow_deprecated: Annotated[
        bool, typer.Option("--allow-deprecated", help="Use a checkpoint that is marked.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Ask whether the network sees a difference between real lenses and injections.

    A linear probe on its penultimate features: an AUC near 0.5 is good, and a high one means that
    a completeness measured with these injections need not be that of real lenses. Lenses that the
    network was trained on look different to it; --split test leaves them out.

    Exit status: 0 done; 1 done, and some files rejected; 2 nothing done.
    """
    started = time.perf_counter()
    _check_folder(out)
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
        record = write_check(out, gathered, found)
    report = {"out": str(out), "written": 2} | record
    done = f"{found.verdict}\nrealism.json and realism.png are in {out}"
    finish(report, gathered.rejected, started, done, as_json)


def _check_folder(out: Path) -> None:
    """Fail, before any work, where the folder cannot be made or written."""
    if out.exists() and not out.is_dir():
        fail(f"--out {out} is a file; name a folder.")
    writable = out if out.exists() else out.parent
    if not writable.is_dir():
        fail(f"--out {out}: the folder {writable} does not exist; make it first.")
    if not os.access(writable, os.W_OK | os.X_OK):
        fail(f"--out {out}: the folder {writable} is not writable; choose another.")
