"""The section of completeness maps, with a slider that moves the threshold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from dhs.figures import DASH
from dhs.report.levels import Levels, completeness_levels
from dhs.report.parts import Block, Section, each, heading, in_script, missing, text
from dhs.report.style import badge, chart, figure, named, number, rate
from dhs.selection.completeness import FEWEST_PER_BIN
from dhs.selection.figure_style import drawn_thresholds
from dhs.selection.grid_result import GridResult
from dhs.selection.intervals import COMPUTED_AGAIN, TOO_FEW
from dhs.selection.seeing import hosts_text
from dhs.statistics.clusters import WARNED_CLUSTERS
from fastnorm.io import Rejected

SAYS = (
    "The fraction of injected arcs that is found, by Einstein radius and source magnitude, over "
    "the seeing and depth that the line above each map states. Net completeness leaves out the "
    "hosts that are above the threshold without an arc, which count as found otherwise. Move the "
    "slider to choose the score above which an arc counts as found. Intervals (95 %) take hosts as "
    "the sampling unit; at a false-positive rate that the grid sets itself, they include the "
    "scatter of the threshold."
)
NOT_ENOUGH = "n/a"
FEW_HOSTS = "\N{DAGGER}"
CELL_WIDTH, CELL_HEIGHT, BESIDE, BELOW = 54, 52, 170, 150


def section(grids: Sequence[GridResult], rejected: list[Rejected]) -> Section:
    """Return the section with a map, a slider and a table for every grid."""
    result = Section("completeness", "Completeness", SAYS)
    numbered = list(enumerate(grids))
    result.blocks += each(
        numbered, lambda item: item[1].folder, lambda item: _of_grid(*item), rejected
    )
    if not result.blocks:
        result.blocks.append(missing("No finished grid was found.", "dhs grid CONFIG"))
    return result


def grid_heading(grid: GridResult) -> list[Block]:
    """Return the blocks that identify a grid: folder, annulus, model, hosts."""
    metadata = grid.metadata
    failed = f"; {metadata['failed']:,} failed" if metadata["failed"] else ""
    words = (
        f"{grid.model}; hosts: {metadata['data_origin']}; "
        f"{metadata['injections']:,} injections{failed}"
    )
    seeing = hosts_text(grid)
    words += f"; {seeing}." if seeing else "."
    old = [text(f"{grid.warning} {COMPUTED_AGAIN}")] if grid.warning else []
    return [heading(str(grid.folder), badge(grid.spec)), text(words), *old]


def _of_grid(position: int, grid: GridResult) -> list[Block]:
    levels = completeness_levels(grid)
    start = int(np.searchsorted(levels.logits, drawn_thresholds(grid.thresholds)[0].logit))
    steps = [_step(levels, level) for level in range(len(levels.logits))]
    data = {
        "tried": levels.tried.tolist(),
        "fewest": FEWEST_PER_BIN,
        "marks": _marks(levels),
        "steps": [
            step | {"found": counts}
            for step, counts in zip(steps, levels.found.tolist(), strict=True)
        ],
    }
    radii = [f"{radius:g}" for radius in grid.centres["theta_e"]]
    bins = [name.replace("-", DASH) for name in grid.bins]
    key = f"map-{position}"
    drawn = _map(levels, start, radii, bins)
    map_chart = chart(
        key,
        drawn,
        "Map of completeness: Einstein radius across, source magnitude upwards",
        "Each cell shows the completeness and, below it, the number of injections. "
        f"{NOT_ENOUGH}: fewer than {FEWEST_PER_BIN} injections. {FEW_HOSTS}: fewer than "
        f"{WARNED_CLUSTERS} hosts.",
        least_width=CELL_WIDTH * len(radii) + BESIDE,
    )
    slider = {
        "key": key,
        "chart": map_chart,
        "data": in_script(json.dumps(data, allow_nan=False)),
        "start": start,
        "last": len(steps) - 1,
        "step": steps[start],
        "radii": radii,
        "rows": list(zip(bins, _texts(levels, start), strict=True)),
    }
    return [*grid_heading(grid), Block("slider", slider)]


def _step(levels: Levels, level: int) -> dict[str, Any]:
    """Return the texts for one threshold, in full and in short."""
    score = levels.scores[level]
    digits = 3 if 0.01 < score < 0.99 else 5
    name = levels.names[level]
    own = f", the grid's own threshold: {name}" if name else ""
    false = levels.negatives[level]
    if false is None:
        rates = "unknown: the grid scored no non-lenses"
        short = "false-positive rate unknown"
    else:
        share = false.found / false.negatives
        rates = (
            f"{rate(share)} ({rate(false.low)} to {rate(false.high)}), {false.found:,} of "
            f"{false.negatives:,} non-lenses"
        )
        short = f"false-positive rate {rate(share)}"
    whole = levels.overall[level]
    complete = number(whole.found / whole.tried)
    ends = f"{number(whole.low)} to {number(whole.high)}"
    interval = f"{TOO_FEW} hosts for an interval" if np.isnan(whole.low) else ends
    detail = (
        f"{complete} ({interval}), {whole.found:,} of {whole.tried:,} in {whole.hosts:,} hosts; "
        f"interval: {whole.interval}"
    )
    return {
        "score": f"{number(score, digits)}{own}",
        "rate": rates,
        "completeness": detail,
        "net": whole.net,
        "said": f"score above {number(score, digits)}, {short}, completeness {complete}, "
        f"net {whole.net}",
    }


def _texts(levels: Levels, level: int) -> list[list[str]]:
    """Return the texts of the table's cells."""
    return [
        [
            f"{number(found / tried, 2)} of {tried:,}{mark}"
            if tried >= FEWEST_PER_BIN
            else NOT_ENOUGH
            for found, tried, mark in zip(*row, strict=True)
        ]
        for row in zip(
            levels.found[level].tolist(), levels.tried.tolist(), _marks(levels), strict=True
        )
    ]


def _marks(levels: Levels) -> list[list[str]]:
    """Return the mark of every cell, for those with few hosts."""
    return [[f" {FEW_HOSTS}" if few else "" for few in row] for row in levels.few.tolist()]


def _map(levels: Levels, level: int, radii: list[str], bins: list[str]) -> Any:
    drawn = figure(
        {"title": "Einstein radius (arcsec)", "type": "category", "showgrid": False},
        {
            "title": "unlensed source r (AB mag)",
            "type": "category",
            "showgrid": False,
            # Bright sources on top.
            "autorange": "reversed",
        },
        height=CELL_HEIGHT * len(bins) + BELOW,
    )
    axes: dict[str, Any] = {
        "x": radii,
        "y": [named(name) for name in bins],
        "xgap": 1.5,
        "ygap": 1.5,
    }
    is_enough = levels.is_sufficient
    with np.errstate(invalid="ignore", divide="ignore"):
        share = levels.found[level] / levels.tried
    values = [
        [value if enough else None for value, enough in zip(*row, strict=True)]
        for row in zip(share.tolist(), is_enough.tolist(), strict=True)
    ]
    written = [
        [
            "" if value is None else f"{value:.2f}<br>{tried:,}{mark}"
            for value, tried, mark in zip(*row, strict=True)
        ]
        for row in zip(values, levels.tried.tolist(), _marks(levels), strict=True)
    ]
    drawn.add_heatmap(
        z=[[None if value else 0 for value in row] for row in is_enough.tolist()],
        text=np.where(is_enough, "", NOT_ENOUGH).tolist(),
        texttemplate="%{text}",
        colorscale=[[0, "#e6e6e3"], [1, "#e6e6e3"]],
        showscale=False,
        hoverinfo="skip",
        **axes,
    )
    drawn.add_heatmap(
        z=values,
        text=written,
        texttemplate="%{text}",
        colorscale="cividis",
        zmin=0,
        zmax=1,
        colorbar={
            "title": {"text": "completeness", "side": "right", "font": {"size": 13}},
            "tickfont": {"size": 12},
            "thickness": 14,
        },
        hoverongaps=False,
        hovertemplate="θ<sub>E</sub> %{x} arcsec, r %{y}: %{z:.3f}<extra></extra>",
        **axes,
    )
    return drawn
