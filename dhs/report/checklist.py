"""The section with the checklist of the retraining plan, or with the checks of any run."""

from __future__ import annotations

from collections.abc import Sequence

from dhs.audit import Audit, Line, Verdict
from dhs.report.parts import Block, Section, heading, table, text
from fastnorm.io import Rejected
from fastnorm.text import printable

PLAN, CHECKS = "plan", "checks"
PLAN_SAYS = (
    "The conditions that must hold before results with the corrected annulus replace the "
    "published ones, each with the evidence that was found."
)
CHECKS_SAYS = (
    "What must hold for any run: one preprocessing for all artefacts, readable files, known "
    "origins, and an installation that computes both annuli exactly."
)
MARKS = {
    Verdict.HOLDS: ("holds", "\N{CHECK MARK}"),
    Verdict.FAILS: ("fails", "\N{BALLOT X}"),
    Verdict.UNKNOWN: ("unknown", "?"),
}


def plan_section(audit: Audit, why: str, rejected: Sequence[Rejected]) -> Section:
    """Return the section with every line of the plan, its verdict and its evidence.

    Parameters
    ----------
    audit : Audit
        All lines of the plan.
    why : str
        Why the plan applies; "" if the user asked for it.
    rejected : sequence of Rejected
        Files that could not be read.
    """
    state = "The plan is fulfilled." if audit.holds else "The plan is not fulfilled yet."
    applies = f" It applies because {why}; --no-plan leaves it out." if why else ""
    blocks = [text(f"{state} {audit.summary}{printable(applies)}"), *_blocks(audit, rejected)]
    return Section(PLAN, "The retraining plan", PLAN_SAYS, blocks)


def checks_section(audit: Audit, rejected: Sequence[Rejected]) -> Section:
    """Return the section with the checks of any run, for folders that follow no plan.

    Parameters
    ----------
    audit : Audit
        Result of `dhs.audit.Audit.without_plan`.
    rejected : sequence of Rejected
        Files that could not be read.
    """
    plan = "The retraining plan is not judged here; dhs audit judges it, and --plan shows it."
    blocks = [text(f"{audit.summary} {plan}"), *_blocks(audit, rejected)]
    return Section(CHECKS, "Checks of the files", CHECKS_SAYS, blocks)


def _blocks(audit: Audit, rejected: Sequence[Rejected]) -> list[Block]:
    blocks = [Block("checklist", {"lines": [_line(line) for line in audit.lines]})]
    if rejected:
        rows = [[printable(item.path), printable(item.reason)] for item in rejected]
        blocks += [
            heading("Unreadable files"),
            table("Files that could not be read, with the reason", ["file", "reason"], rows),
        ]
    return blocks


def _line(line: Line) -> dict[str, object]:
    kind, mark = MARKS[line.verdict]
    return {
        "kind": kind,
        "mark": mark,
        "verdict": str(line.verdict),
        "title": line.title,
        "evidence": line.evidence,
        "files": line.files,
        "missing": line.missing,
    }
