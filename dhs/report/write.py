"""Write the report: every section in turn, then the page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dhs.audit import Audit
from dhs.audit.artefacts import Artefacts
from dhs.report import (
    annuli,
    calibration,
    checklist,
    checks,
    completeness,
    evaluation,
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
) -> list[Rejected]:
    """Write the report, which appears whole and needs nothing besides itself.

    Parameters
    ----------
    artefacts : Artefacts
    audit : Audit
        Of the same.
    out : Path
        .html.
    progress : function, optional
        Called with how many sections are done and how many there are.
    open_images : function, optional
        What makes injections of a grid again; `dhs.selection.images.InjectedRows` by default.

    Returns
    -------
    list of Rejected
        What could not be read, each once; the rest of the report is there.

    Raises
    ------
    OSError
        The file cannot be written.
    ImportError
        A package that draws is missing.
    """
    rejected: list[Rejected] = []
    shown, notices = annuli.choose_galaxies(artefacts.packs, rejected)
    makers: list[Callable[[], Section]] = [
        lambda: annuli.section(shown, notices),
        lambda: annuli.light_section(shown),
        lambda: training.section(artefacts.checkpoints, rejected),
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
    page = render([checklist.section(audit, every), *sections], artefacts.folders)
    with atomic_path(out) as temporary:
        # Names of files may hold bytes that are no UTF-8.
        temporary.write_bytes(page.encode("utf-8", "backslashreplace"))
    report(len(makers) + 1, len(makers) + 1)
    return every
