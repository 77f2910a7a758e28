"""Define the directive ``gpu-evidence``, which shows the tables of the measured GPU, if any."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "benchmarks" / "results" / "gpu_evidence.json"
sys.path.insert(0, str(ROOT))

from benchmarks.gpu_evidence import page  # noqa: E402


def evidence(file: Path) -> Iterator[str]:
    """Yield Markdown: the tables of a file, or that nothing was measured."""
    content = json.loads(file.read_text("utf-8")) if file.exists() else None
    if content is None or not page.is_measured(content):
        yield "**Not measured yet**: no GPU has run `make gpu-evidence` for this version."
        return
    yield from page.introduction(content)
    for _, title, body in page.sections(content):
        yield from ("", f"**{title}**", "", *body)


class GpuEvidence(SphinxDirective):
    """The directive ``{gpu-evidence}``, without arguments."""

    def run(self) -> list[nodes.Node]:
        if FILE.exists():
            self.env.note_dependency(str(FILE))
        parsed = nodes.container()
        self.state.nested_parse(StringList(list(evidence(FILE)), str(FILE)), 0, parsed)
        return parsed.children


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("gpu-evidence", GpuEvidence)
    return {"parallel_read_safe": True}
