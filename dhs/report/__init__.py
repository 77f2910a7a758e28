"""One HTML file that shows the artefacts in a set of folders."""

from __future__ import annotations

from dhs.report.write import write_report

__all__ = ["write_report"]
