"""``dhs score``."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from dhs.commands.flat import say_flat
from dhs.commands.paths import require_checkpoints, require_paths, require_tables
from dhs.commands.words import in_options
from dhs.config.options import AsJson
from dhs.constants import BANDS
from dhs.jobs.malloc import keep_freed_memory
from fastnorm.terminal import check_out, console, counting, fail, finish, messages, say
from fastnorm.text import printable

FORMATS = {"ra": ".5f", "dec": ".5f", "label": "d"}
MOST_DIGITS = 6
"""Most digits of a printed score; scores that are closer are told apart by their logits."""


def score(
    model: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="Use this checkpoint from dhs train.")
    ],
    data: Annotated[
        list[Path],
        typer.Argument(metavar="DATA...", help="Score a pack, a manifest, or files and folders."),
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="Write the table here: .parquet, in the order of the input; or .csv, .fits or "
            ".vot, with ranks and the highest first, and .parquet beside it."
        ),
    ],
    ensemble: Annotated[
        list[Path] | None,
        typer.Option(metavar="CHECKPOINT", help="Take another member of an ensemble; repeatable."),
    ] = None,
    combine: Annotated[
        str,
        typer.Option(help="Combine members by the mean of their logits, or trained on --truth."),
    ] = "mean",
    truth: Annotated[
        Path | None,
        typer.Option(metavar="MANIFEST", help="Read the labels for --combine trained from here."),
    ] = None,
    label_col: Annotated[
        str, typer.Option(help="Read labels from this column: 1 is a lens, 0 a non-lens.")
    ] = "label",
    across_annuli: Annotated[
        bool, typer.Option("--across-annuli", help="Allow members with different preprocessing.")
    ] = False,
    batch_size: Annotated[
        int | None,
        typer.Option(
            help="Use this many cutouts per forward pass.",
            show_default="chosen by memory and recorded",
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="Use auto, cpu or cuda.")] = "auto",
    engine: Annotated[
        str,
        typer.Option(
            help="Use auto, eager or compile; auto compiles the network for many cutouts."
        ),
    ] = "auto",
    allow_deprecated: Annotated[
        bool, typer.Option("--allow-deprecated", help="Allow a deprecated checkpoint.")
    ] = False,
    data_origin: Annotated[
        str | None,
        typer.Option(
            help="Record the origin of the cutouts, for example legacysurvey-dr10.",
            show_default="the origin in the pack or manifest",
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace a table of other cutouts or checkpoints."),
    ] = False,
    show: Annotated[int, typer.Option(help="Print this many of the highest scores.", min=0)] = 10,
    as_json: AsJson = False,
) -> None:
    """Score cutouts with one or more checkpoints, each under its own annulus.

    Run the same command again to resume an interrupted run; the output is identical.

    Exit status: 0 all scored; 1 some rejected, the others scored; 2 invalid arguments, or
    incomplete.
    """
    started = time.perf_counter()
    check_out(out, ".parquet", ".csv", ".fits", ".vot")
    require_checkpoints(model, *(ensemble or []))
    require_paths(truth)
    require_tables(data)
    with messages(TypeError, ValueError, OSError, ImportError), in_options():
        from dhs.score import score as score_cutouts
        from dhs.score.table import describe_members, highest, specs_of

        keep_freed_memory()
        try:
            with counting("scoring", "cutouts") as advance:
                result = score_cutouts(
                    [model, *(ensemble or [])],
                    data,
                    out,
                    combine=combine,
                    truth=truth,
                    label_col=label_col,
                    across_annuli=across_annuli,
                    batch_size=batch_size,
                    device=device,
                    engine=engine,
                    allow_deprecated=allow_deprecated,
                    data_origin=data_origin,
                    overwrite=overwrite,
                    progress=advance,
                )
        except KeyboardInterrupt:
            fail(f"interrupted; run the same command again to resume {out}.")
        best = highest(result.out, show) if result.out is not None else []
    named = describe_members(result.metadata)
    report = {
        "out": None if result.out is None else str(result.out),
        "copy": None if result.copy is None else str(result.copy),
        "notes": list(result.notes),
        "written": result.written,
        "checkpoint": str(model),
        "model": named,
        "spec": "; ".join(map(str, specs_of(result.metadata))),
        "batch_size": result.metadata["batch_size"],
        "device": result.metadata["device"],
        "inference": result.metadata["inference"],
        "flat_bands": result.flat_bands,
        "highest": [item | {"id": printable(item["id"])} for item in best],
    }
    if best and not as_json:
        _print_best(report["highest"], f"{named}; {report['spec']}")
    for note in result.notes:
        say("note", "yellow", note)
    say_flat(result.flat_bands)
    state = "already scored with these settings" if result.was_complete else "scored"
    files = " and ".join(str(path) for path in (result.out, result.copy) if path is not None)
    done = f"{result.written} cutouts {state}, in {files}"
    finish(report, result.rejected, started, done, as_json)


def _print_best(highest: list[dict[str, Any]], model: str) -> None:
    from rich.table import Table
    from rich.text import Text

    from dhs.statistics.digits import digits_to_tell_apart

    console(sys.stdout).print(f"{len(highest)} highest scores; {model}", markup=False)
    columns = ["score"]
    scores, logits = ([item[key] for item in highest] for key in ("score", "logit"))
    digits = {"score": digits_to_tell_apart(scores, 3, MOST_DIGITS)}
    if len({f"{value:.{MOST_DIGITS}f}" for value in scores}) < len(set(logits)):
        # Near 1, scores of different logits look equal.
        columns.append("logit")
        digits["logit"] = digits_to_tell_apart(logits, 2, MOST_DIGITS)
    table = Table()
    table.add_column("id", overflow="fold")
    known = [name for name in ("ra", "dec", "label") if any(name in item for item in highest)]
    is_flat = any(item.get("flat_bands") for item in highest)
    for name in (*columns, *known, *(["flat or NaN bands"] if is_flat else [])):
        table.add_column(name, justify="right")
    for item in highest:
        shown = [f"{item[name]:.{digits[name]}f}" for name in columns]
        shown += [f"{item[name]:{FORMATS[name]}}" if name in item else "" for name in known]
        if is_flat:
            flat = item.get("flat_bands")
            shown.append(f"{flat} of {len(BANDS)}" if flat else "")
        table.add_row(Text(item["id"]), *shown)
    console(sys.stdout).print(table)


if __name__ == "__main__":
    raise SystemExit("This module runs as dhs score, or python -m dhs score.")
