"""Builds every section of the report, then writes the page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dhs.audit import Audit
from dhs.audit.artefacts import Artefacts
from dhs.audit.followed import why_followed
from dhs.report import (
    annuli,
    calibration,
    candidates,
    checklist,
    checks,
    completeness,
    evaluation,
    found,
    gallery,
    provenance,
    training,
)
from dhs.report.page import render
from dhs.report.parts import Section
from dhs.selection.figure_gallery import OpenImages
from fastnorm.atomic import atomic_path
from fastnorm.io import Rejected


def write_report(
    artefacts: Artefacts,
    audit: Audit,
    out: Path,
    progress: Callable[[int, int], None] | None = None,
    open_images: OpenImages | None = None,
    plan: bool | None = None,
) -> list[Rejected]:
    """Write the report as one self-contained file, atomically.

    Parameters
    ----------
    artefacts : Artefacts
        Artefacts to show.
    audit : Audit
        Audit of the same artefacts.
    out : Path
        HTML file to write.
    progress : function, optional
        Called with the number of sections done and their total.
    open_images : function, optional
        Recreates injections of a grid; `dhs.selection.images.InjectedRows` by default.
    plan : bool, optional
        Show the checklist of the retraining plan, or leave it out. By default it is shown if
        `dhs.audit.followed.why_followed` gives a reason.

    Returns
    -------
    list of Rejected
        Files that could not be read, each once; the report contains everything else.

    Raises
    ------
    OSError
        The file cannot be written.
    ImportError
        A plotting package is missing.
    """
    rejected: list[Rejected] = []
    why = why_followed(artefacts) if plan is None else ""
    is_planned = bool(why) if plan is None else plan
    best = candidates.read_all(artefacts)
    shown, notices = annuli.choose_galaxies(artefacts.packs, rejected)
    makers: list[Callable[[], Section]] = [
        lambda: annuli.section(shown, notices),
        lambda: annuli.light_section(shown),
        lambda: training.section(artefacts.checkpoints, rejected),
        lambda: candidates.section(best, rejected),
        lambda: evaluation.section(artefacts.evaluations, rejected),
        lambda: calibration.section(artefacts.evaluations, rejected),
        lambda: completeness.section(artefacts.grids, rejected),
        lambda: gallery.section(artefacts.grids, rejected, open_images),
        lambda: checks.realism_section(artefacts.realism, rejected),
        lambda: checks.comparison_section(artefacts.comparisons, rejected),
        lambda: provenance.section(artefacts, rejected),
    ]
    report = progress or (lambda done, total: None)
    sections: list[Section] = []
    for done, make in enumerate(makers):
        report(done, len(makers) + 1)
        sections.append(make())
    failed = {item.path: item for item in reversed([*artefacts.rejected, *rejected])}
    every = sorted(failed.values(), key=lambda item: str(item.path))
    judged = audit if is_planned else audit.without_plan()
    first = found.section(artefacts, judged, best, is_planned=is_planned, rejected=every)
    if is_planned:
        sections.insert(0, checklist.plan_section(audit, why, every))
    else:
        sections.insert(-1, checklist.checks_section(judged, every))
    page = render([first, *sections], artefacts.folders)
    with atomic_path(out) as temporary:
        # File names may contain bytes that are not valid UTF-8.
        temporary.write_bytes(page.encode("utf-8", "backslashreplace"))
    report(len(makers) + 1, len(makers) + 1)
    return every
