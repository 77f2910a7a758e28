"""The section with the checklist of the retraining plan."""

from __future__ import annotations

from collections.abc import Sequence

from dhs.audit import Audit, Line, Verdict
from dhs.report.parts import Block, Section, heading, table, text
from fastnorm.io import Rejected
from fastnorm.text import printable

SAYS = (
    "The conditions that must hold before results with the corrected annulus replace the "
    "published ones, each with the evidence that was found."
)
MARKS = {
    Verdict.HOLDS: ("holds", "\N{CHECK MARK}"),
    Verdict.FAILS: ("fails", "\N{BALLOT X}"),
    Verdict.UNKNOWN: ("unknown", "?"),
}


def section(audit: Audit, rejected: Sequence[Rejected]) -> Section:
    """Return the section with verdicts, their evidence, and the files that could not be read."""
    result = Section("plan", "The retraining plan", SAYS)
    state = "The plan is fulfilled." if audit.holds else "The plan is not fulfilled yet."
    result.blocks = [
        text(f"{state} {audit.summary}"),
        Block("checklist", {"lines": [_line(line) for line in audit.lines]}),
    ]
    if rejected:
        rows = [[printable(item.path), printable(item.reason)] for item in rejected]
        result.blocks += [
            heading("Unreadable files"),
            table("Files that could not be read, with the reason", ["file", "reason"], rows),
        ]
    return result


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
