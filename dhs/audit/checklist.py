"""A checklist: its lines, the evidence of each, and the verdicts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from fastnorm.io import Rejected


class Verdict(StrEnum):
    """Of one line of the plan."""

    HOLDS = "holds"
    FAILS = "fails"
    UNKNOWN = "cannot be judged"


@dataclass(frozen=True)
class Line:
    """One line of the checklist.

    Attributes
    ----------
    key : str
        Its name, for scripts.
    title : str
        What the plan asks.
    verdict : Verdict
    evidence : tuple of str
        What was found, and where.
    files : tuple of str
        What the evidence is from.
    missing : str or None
        What would let the line hold, where it does not.
    """

    key: str
    title: str
    verdict: Verdict
    evidence: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    missing: str | None = None


@dataclass(frozen=True)
class Audit:
    """The checklist of the plan, judged.

    Attributes
    ----------
    folders : tuple of str
    lines : tuple of Line
    rejected : tuple of Rejected
        Files that cannot be read.
    """

    folders: tuple[str, ...]
    lines: tuple[Line, ...]
    rejected: tuple[Rejected, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether every line does."""
        return all(line.verdict is Verdict.HOLDS for line in self.lines)

    @property
    def summary(self) -> str:
        """How many lines have which verdict, in one sentence."""
        hold, fail, unknown = (
            sum(line.verdict is verdict for line in self.lines) for verdict in Verdict
        )
        return (
            f"{len(self.lines)} lines: {hold} {'holds' if hold == 1 else 'hold'}, "
            f"{fail} {'fails' if fail == 1 else 'fail'}, {unknown} cannot be judged."
        )

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            "holds": self.holds,
            "summary": self.summary,
            "folders": list(self.folders),
            "lines": [asdict(line) | {"verdict": str(line.verdict)} for line in self.lines],
            "rejected": [{"path": str(item.path), "reason": item.reason} for item in self.rejected],
        }


class Finding(NamedTuple):
    """What was found on one thing, as an architecture; ``notes`` are more evidence. See `Line`."""

    verdict: Verdict
    evidence: str
    files: tuple[str, ...] = ()
    missing: str | None = None
    notes: tuple[str, ...] = ()


def line(key: str, title: str, findings: Iterable[Finding]) -> Line:
    """Put findings together: one that fails fails the line, and so on."""
    given = list(findings)
    order = [Verdict.HOLDS, Verdict.UNKNOWN, Verdict.FAILS]
    missing = dict.fromkeys(item.missing for item in given if item.missing)
    return Line(
        key,
        title,
        max((item.verdict for item in given), key=order.index),
        tuple(said for item in given for said in (item.evidence, *item.notes)),
        tuple(dict.fromkeys(file for item in given for file in item.files)),
        " ".join(missing) or None,
    )
