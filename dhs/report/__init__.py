"""One HTML file that shows what folders of artefacts hold."""

from __future__ import annotations

from dhs.report.write import write_report

__all__ = ["write_report"]
