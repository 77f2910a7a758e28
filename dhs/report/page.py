"""The HTML page: sections, style, script and the plotting library in one file."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import fastnorm
from dhs.report.parts import Section
from dhs.report.style import INSTALL
from fastnorm.text import visible

try:
    from jinja2 import Environment, StrictUndefined, Template
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs
except ImportError as error:
    raise ImportError(INSTALL) from error


def render(sections: Sequence[Section], folders: Sequence[Path]) -> str:
    """Render sections as an HTML page.

    Parameters
    ----------
    sections : sequence of Section
        Sections in the order of the page.
    folders : sequence of Path
        Folders that were searched.
    """
    return _template().render(
        sections=sections,
        folders=[folder.resolve().name if folder == Path() else str(folder) for folder in folders],
        written=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        version=fastnorm.__version__,
        style=Markup(_read("style.css")),
        script=Markup(_read("script.js")),
        plotly=Markup(get_plotlyjs()),
    )


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters["lines"] = _lines
    return environment.from_string(_read("template.html.j2"))


def _shown(value: Any) -> Any:
    """Show all letters that would change how others look, or what is copied with them."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _lines(text: str) -> Markup:
    """Keep the line breaks of a file's text."""
    return Markup("\n").join(visible(line) for line in text.split("\n"))


def _read(name: str) -> str:
    return resources.files("dhs.report").joinpath(name).read_text("utf-8")
