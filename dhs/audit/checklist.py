"""The checklist of an audit: lines, their evidence, and verdicts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any, NamedTuple

from fastnorm.io import Rejected
from fastnorm.text import visible

ALWAYS = ("unmixed", "readable", "known_origin", "lock")
"""Keys of the lines that must hold without a plan too, the most important first."""


class Verdict(StrEnum):
    """The verdict on one line of the plan."""

    HOLDS = "holds"
    FAILS = "fails"
    UNKNOWN = "cannot be judged"


@dataclass(frozen=True)
class Line:
    """One line of the checklist.

    Attributes
    ----------
    key : str
        Name of the line, for scripts.
    title : str
        Requirement of the plan.
    verdict : Verdict
        Whether the requirement is met.
    evidence : tuple of str
        Findings, with their files.
    files : tuple of str
        Files that the evidence comes from.
    missing : str or None
        What is missing if the line does not hold.
    """

    key: str
    title: str
    verdict: Verdict
    evidence: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    missing: str | None = None


@dataclass(frozen=True)
class Audit:
    """The checklist of the plan with its verdicts.

    Attributes
    ----------
    folders : tuple of str
        Folders that were searched.
    lines : tuple of Line
        Lines in the order of the plan.
    rejected : tuple of Rejected
        Files that cannot be read.
    noun : str
        Name of the lines in the summary.
    """

    folders: tuple[str, ...]
    lines: tuple[Line, ...]
    rejected: tuple[Rejected, ...] = ()
    noun: str = "lines"

    @property
    def holds(self) -> bool:
        """True if every line holds."""
        return all(line.verdict is Verdict.HOLDS for line in self.lines)

    @property
    def summary(self) -> str:
        """Number of lines with each verdict, as one sentence."""
        hold, fail, unknown = (
            sum(line.verdict is verdict for line in self.lines) for verdict in Verdict
        )
        return (
            f"{len(self.lines)} {self.noun}: {hold} {'holds' if hold == 1 else 'hold'}, "
            f"{fail} {'fails' if fail == 1 else 'fail'}, {unknown} cannot be judged."
        )

    def without_plan(self) -> Audit:
        """Return the checks that concern any run, without the requirements of the plan."""
        by_key = {line.key: line for line in self.lines}
        kept = tuple(by_key[key] for key in ALWAYS if key in by_key)
        return replace(self, lines=kept, noun="checks")

    def to_dict(self) -> dict[str, Any]:
        """Return the audit as a dict for JSON."""
        return {
            "holds": self.holds,
            "summary": self.summary,
            "folders": list(self.folders),
            "lines": [asdict(line) | {"verdict": str(line.verdict)} for line in self.lines],
            "rejected": [{"path": str(item.path), "reason": item.reason} for item in self.rejected],
        }


class Finding(NamedTuple):
    """The finding on one item, such as an architecture; ``notes`` are more evidence, see `Line`."""

    verdict: Verdict
    evidence: str
    files: tuple[str, ...] = ()
    missing: str | None = None
    notes: tuple[str, ...] = ()


def line(key: str, title: str, findings: Iterable[Finding]) -> Line:
    """Combine findings into a line; the worst verdict counts.

    Parameters
    ----------
    key : str
        Name of the line, for scripts.
    title : str
        Requirement of the plan.
    findings : iterable of Finding
        At least one finding.
    """
    given = list(findings)
    order = [Verdict.HOLDS, Verdict.UNKNOWN, Verdict.FAILS]
    missing = dict.fromkeys(item.missing for item in given if item.missing)
    return Line(
        key,
        title,
        max((item.verdict for item in given), key=order.index),
        tuple(visible(said) for item in given for said in (item.evidence, *item.notes)),
        tuple(dict.fromkeys(file for item in given for file in item.files)),
        visible(" ".join(missing)) or None,
    )
