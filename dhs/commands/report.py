"""``dhs report``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from dhs.commands.paths import require_folders
from dhs.config.options import AsJson
from fastnorm.opener import Open, open_written
from fastnorm.terminal import check_out, counting, finish, messages, say


def report(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="DIR...", help="Search these folders for artefacts, at any depth."),
    ],
    out: Annotated[Path, typer.Option(help="Write the report to this .html file.")],
    plan: Annotated[
        bool | None,
        typer.Option(
            "--plan/--no-plan",
            help="Show the checklist of the retraining plan, or leave it out.",
            show_default="shown if the folders follow it",
        ),
    ] = None,
    is_opened: Open = False,
    as_json: AsJson = False,
) -> None:
    """Write one HTML file that shows the artefacts in folders and works offline.

    The report begins with what was found: data, models, candidates, recall, completeness, and
    whether annuli are mixed. Then follow the annuli, training curves, candidates, recall,
    calibration, completeness with a slider for the threshold, injections found and missed, and
    the command behind every artefact. Folders follow the retraining plan, and its checklist comes
    second, if a network of the plan was trained on DR10, or a published model is among them.

    Exit status: 0 written; 1 written, but a file could not be read or nothing was found; 2 not
    written.
    """
    started = time.perf_counter()
    check_out(out, ".html")
    require_folders("artefacts", folders)
    with messages(ValueError, OSError, ImportError):
        from dhs.audit import audit
        from dhs.audit.artefacts import find_artefacts
        from dhs.audit.followed import why_followed
        from dhs.report import write_report

        artefacts = find_artefacts(folders)
        judged = audit(artefacts)
        is_planned = bool(why_followed(artefacts)) if plan is None else plan
        with counting("writing", "sections") as show:
            rejected = write_report(artefacts, judged, out, show, plan=plan)
    if artefacts.is_empty:
        say("warning", "yellow", "no artefact was found; the report lists the commands to run.")
    judged = judged if is_planned else judged.without_plan()
    size = out.stat().st_size
    done = {
        "out": str(out),
        "bytes": size,
        "written": int(not artefacts.is_empty),
        "plan": is_planned,
        "audit": judged.to_dict(),
    }
    if is_opened:
        done["opened"] = open_written(out)
    finish(done, rejected, started, f"{out}, {size / 1e6:.1f} MB; {judged.summary}", as_json)


if __name__ == "__main__":
    raise SystemExit("This module runs as dhs report, or python -m dhs report.")
