"""Names and styles: annulus badges, numbers, and lines that differ by more than colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dhs.constants import CUTOUT_SIZE
from dhs.figures import BIN_STYLES, DASH, MINUS
from dhs.preprocess.spec import PreprocessSpec
from dhs.report.parts import Block, in_script
from dhs.statistics.digits import rate_text
from fastnorm.extras import how_to_install
from fastnorm.text import visible

INSTALL = f"reports need plotly and jinja2: {how_to_install('dhs')}"

try:
    from plotly import graph_objects as go
except ImportError as error:
    raise ImportError(INSTALL) from error

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
MARKS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x")
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
INK, FAINT, RULE = "#1b1b1b", "#595959", "#d9d9d6"
Legend = dict[str, Any]

_AXIS: dict[str, Any] = {
    "linecolor": FAINT,
    "gridcolor": "#ececea",
    "ticks": "outside",
    "tickcolor": FAINT,
    "zeroline": False,
    "automargin": True,
    "title": {"standoff": 8, "font": {"size": 13}},
    "tickfont": {"size": 12},
}
_LAYOUT: dict[str, Any] = {
    "template": "none",
    "font": {"family": FONT, "size": 13, "color": INK},
    "paper_bgcolor": "white",
    "plot_bgcolor": "white",
    "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
    "showlegend": False,
    # Dragging scrolls the page; zooming needs the button in the mode bar.
    "dragmode": False,
    "hoverlabel": {"font": {"family": FONT}},
}


def figure(x: Mapping[str, Any], y: Mapping[str, Any], *, height: int = 380) -> go.Figure:
    """Return an empty chart in the style of the page.

    Parameters
    ----------
    x, y : mapping
        Properties of the axes, see `plotly.graph_objects.layout.XAxis`; ``title`` is a string.
    height : int
        Height in CSS pixels.
    """
    axes = {name: _axis(**given) for name, given in (("xaxis", x), ("yaxis", y))}
    return go.Figure(layout=_LAYOUT | {"height": height} | axes)


def _axis(title: str, **given: Any) -> dict[str, Any]:
    return _AXIS | {"title": _AXIS["title"] | {"text": title}} | given


def line_style(position: int) -> dict[str, Any]:
    """Return the colour, dashes and width of the line at a position."""
    style = BIN_STYLES[position % len(BIN_STYLES)]
    return {"color": style["color"], "dash": DASHES[position % len(DASHES)], "width": 2}


def mark_style(position: int) -> dict[str, Any]:
    """Return the colour, symbol and size of the marker at a position."""
    return {
        "color": BIN_STYLES[position % len(BIN_STYLES)]["color"],
        "symbol": MARKS[position % len(MARKS)],
        "size": 8,
    }


def faint(colour: str, opacity: float = 0.16) -> str:
    """Return a transparent version of a colour of six hexadecimal digits."""
    red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def key_entry(name: str, position: int, *, dash: str | None = None, width: int = 2) -> Legend:
    """Return a legend entry; the page draws it, so that long names can wrap.

    Parameters
    ----------
    name : str
        Text of the entry.
    position : int
        Position of the line, see `line_style`.
    dash : str, optional
        Dashes that replace those of the position.
    width : int
        Line width in pixels.
    """
    style = line_style(position)
    gaps = {"solid": "none", "dash": "9 6", "dot": "3 3", "dashdot": "9 4 3 4"}
    gaps |= {"longdash": "14 6", "longdashdot": "14 4 3 4"}
    content = {"name": name, "colour": style["color"], "width": width}
    return content | {"gaps": gaps[dash or style["dash"]]}


def chart(
    key: str,
    drawn: go.Figure,
    label: str,
    summary: str,
    *,
    legend: Sequence[Legend] = (),
    least_width: int = 0,
) -> Block:
    """Return a chart with a description in words, for screen readers.

    Parameters
    ----------
    key : str
        Id on the page.
    drawn : plotly.graph_objects.Figure
        The chart.
    label : str
        Quantities that are drawn.
    summary : str
        Result that the chart shows.
    legend : sequence
        Entries, see `key_entry`.
    least_width : int
        Width in CSS pixels below which the chart scrolls.
    """
    content: dict[str, Any] = {"key": key, "label": label, "summary": summary}
    content |= {"legend": list(legend), "least_width": least_width, "height": drawn.layout.height}
    return Block("chart", content | {"json": in_script(drawn.to_json())})


def named(words: Any) -> str:
    """Escape a name for Plotly, which interprets tags and entities."""
    escaped = visible(str(words)).replace("&", "&amp;")
    return escaped.replace("<", "&lt;").replace(">", "&gt;")


def number(value: float | None, digits: int = 3) -> str:
    """Format a number with a real minus sign; return an en dash for None."""
    return DASH if value is None else f"{value:.{digits}f}".replace("-", MINUS)


def with_interval(value: float, low: float, high: float, digits: int = 3) -> str:
    """Format a number with its interval.

    Parameters
    ----------
    value, low, high : float
        The number and the ends of its interval.
    digits : int
        Number of decimals.
    """
    return f"{number(value, digits)} ({number(low, digits)} to {number(high, digits)})"


def rate(value: float) -> str:
    """Format a measured rate or a probability with two significant digits."""
    return rate_text(value, 2)


def radii(spec: PreprocessSpec) -> str:
    """Format the radii of an annulus in pixels."""
    return f"{spec.annulus} px"


def status_of(spec: PreprocessSpec, size: int | None = None) -> str:
    """Return the status of an annulus on cutouts of ``size`` pixels, by default CUTOUT_SIZE."""
    return spec.annulus_status(size or CUTOUT_SIZE)


def badge(spec: PreprocessSpec, size: int | None = None) -> Block:
    """Return the badge that names the annulus; every legacy artefact has one."""
    status = status_of(spec, size)
    kind = status.partition(",")[0]
    mark = {"corrected": "\N{CHECK MARK}", "legacy": "\N{WARNING SIGN}"}.get(kind, "?")
    said = f"{kind} annulus {radii(spec)}"
    return Block("badge", {"kind": kind, "mark": mark, "text": said, "title": status})


def model_name(architecture: str, spec: PreprocessSpec, size: int | None = None) -> str:
    """Return architecture and annulus, for legends.

    Parameters
    ----------
    architecture : str
        Name of the architecture.
    spec : PreprocessSpec
        Preprocessing of the model.
    size : int, optional
        Edge of its cutouts in pixels; ``CUTOUT_SIZE`` by default.
    """
    kind = status_of(spec, size).partition(",")[0]
    return f"{architecture}, {kind} annulus {radii(spec)}"
