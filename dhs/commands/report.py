"""``dhs report``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from dhs.config.options import AsJson
from fastnorm.terminal import check_out, counting, finish, messages, say


def report(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="DIR...", help="Search these folders for artefacts, at any depth."),
    ],
    out: Annotated[Path, typer.Option(help="Write the report to this .html file.")],
    as_json: AsJson = False,
) -> None:
    """Write one HTML file that shows the artefacts in folders and works offline.

    The report has the checklist of the retraining plan, the annuli, training curves, recall,
    calibration, completeness with a slider for the threshold, injections found and missed, and
    the command behind every artefact.

    Exit status: 0 written; 1 written, but a file could not be read or nothing was found; 2 not
    written.
    """
    started = time.perf_counter()
    check_out(out, ".html")
    with messages(ValueError, OSError, ImportError):
        from dhs.audit import audit
        from dhs.audit.artefacts import find_artefacts
        from dhs.report import write_report

        artefacts = find_artefacts(folders)
        judged = audit(artefacts)
        with counting("writing", "sections") as show:
            rejected = write_report(artefacts, judged, out, show)
    if artefacts.is_empty:
        say("warning", "yellow", "no artefact was found; the report lists the commands to run.")
    size = out.stat().st_size
    done = {
        "out": str(out),
        "bytes": size,
        "written": int(not artefacts.is_empty),
        "audit": judged.to_dict(),
    }
    finish(done, rejected, started, f"{out}, {size / 1e6:.1f} MB; {judged.summary}", as_json)


if __name__ == "__main__":
    raise SystemExit("This module runs as dhs report, or python -m dhs report.")
