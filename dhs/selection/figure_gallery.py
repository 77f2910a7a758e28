"""Gallery of detected and missed injections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from dhs.figures import EDGE, SMALL, USUAL, add_axes, figure_with_heading
from dhs.selection.figure_style import grid_heading, require_injections
from dhs.selection.grid_result import GridResult, label
from dhs.statistics.thresholds import Threshold
from fastnorm.figure import colour_picture
from fastnorm.io import INSTALL_EXTRA

try:
    from matplotlib.figure import Figure
except ImportError as error:
    raise ImportError(f"figures need matplotlib and astropy: {INSTALL_EXTRA}") from error

COLUMNS = 6
CANDIDATES = 600
"""Largest number of candidates, found and missed each, from which images are chosen by arc SNR."""

# Inches.
PANEL, GAP, NAME, CAPTION = 1.42, 0.06, 0.3, 0.34


class InjectedImages(Protocol):
    """Interface of `dhs.selection.images.InjectedRows`: recreated images of injections."""

    table: pd.DataFrame

    def read(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor | None]: ...


OpenImages = Callable[[Path, Sequence[int]], InjectedImages]


class Chosen(NamedTuple):
    """Injections to show.

    ``ids`` (n,) int64: by rising arc SNR. ``total``: number of all found, or all missed,
    injections.
    """

    ids: NDArray[np.int64]
    total: int


def choose(grid: GridResult, threshold: Threshold) -> dict[str, Chosen]:
    """Choose injections to show; the choice does not depend on their order in the file.

    Parameters
    ----------
    grid : GridResult
        Its injections are read in batches.
    threshold : Threshold

    Returns
    -------
    dict of Chosen
        Under "found" and "missed": at most six injections each, spread evenly over the arc SNRs
        of a random sample.
    """
    seed = np.uint64(int(grid.metadata["draws_fingerprint"][:16], 16))
    samples = {"found": _Sample(seed), "missed": _Sample(seed)}
    for batch in grid.batches("injection_id", "arc_snr_r", "logit"):
        ids, snr, logits = (batch[name] for name in ("injection_id", "arc_snr_r", "logit"))
        samples["found"].add(ids, snr, logits > threshold.logit)
        samples["missed"].add(ids, snr, logits <= threshold.logit)
    return {name: Chosen(sample.spread(), sample.total) for name, sample in samples.items()}


def gallery_figure(grid: GridResult, threshold: Threshold, open_images: OpenImages) -> Figure:
    """Draw injections found and missed at a threshold, each in its host.

    Parameters
    ----------
    grid : GridResult
    threshold : Threshold
    open_images : function
        Called with the grid's folder and injection ids; returns an `InjectedImages` object, as
        `dhs.selection.images.InjectedRows` does.

    Returns
    -------
    matplotlib.figure.Figure
        Two rows of at most six images.

    Raises
    ------
    ValueError
        No injection has a score.
    """
    require_injections(grid)
    chosen = choose(grid, threshold)
    row_height = NAME + PANEL + CAPTION
    width = 2 * EDGE + COLUMNS * (PANEL + GAP) - GAP
    lines = grid_heading(
        grid,
        f"Injected arcs at {label(threshold)}",
        "z, r, g as red, green, blue; from faint to bright arcs; r: unlensed source",
    )
    figure = figure_with_heading((width, 2 * row_height + EDGE), lines)
    scored = sum(item.total for item in chosen.values())
    images = open_images(grid.folder, np.concatenate([c.ids for c in chosen.values()]).tolist())
    first = 0
    for row, (name, item) in enumerate(chosen.items()):
        top = (len(chosen) - row) * row_height + EDGE
        place = (top - NAME / 2) / figure.get_figheight()
        says = f"{name}: {item.total:,} of {scored:,}"
        figure.text(EDGE / width, place, says, size=USUAL + 1, weight="bold", va="center")
        rows = np.arange(first, first + len(item.ids))
        if len(rows):
            _draw_row(figure, images, rows, top - NAME - PANEL)
        first += len(rows)
    return figure


def _draw_row(
    figure: Figure, images: InjectedImages, rows: NDArray[np.int64], bottom: float
) -> None:
    width, height = figure.get_size_inches()
    pixels, _ = images.read(rows)
    for column, (row, image) in enumerate(zip(rows.tolist(), pixels, strict=True)):
        left = EDGE + column * (PANEL + GAP)
        axes = add_axes(figure, left, bottom, PANEL, PANEL)
        axes.imshow(colour_picture(image.cpu().numpy()), origin="lower", interpolation="nearest")
        axes.set_axis_off()
        place = (left / width, (bottom - 0.03) / height)
        caption = _caption(images.table.iloc[row])
        figure.text(*place, caption, size=SMALL, va="top", linespacing=1.1)


def _caption(values: Any) -> str:
    radius, magnitude = values["theta_e_arcsec"], values["source_r_mag"]
    return (
        rf'$\theta_\mathrm{{E}}$ {radius:.2f}"  $r$ {magnitude:.1f}'
        f"\nSNR {values['arc_snr_r']:.1f}  score {values['score']:.3f}"
    )


class _Sample:
    """A random sample of bounded size that does not depend on how its members are batched."""

    def __init__(self, seed: np.uint64) -> None:
        self._seed = seed
        self.total = 0
        self._order = np.empty(0, np.uint64)
        self._ids = np.empty(0, np.int64)
        self._snr = np.empty(0)

    def add(
        self, ids: NDArray[np.int64], snr: NDArray[np.float64], members: NDArray[np.bool_]
    ) -> None:
        self.total += int(members.sum())
        order = np.r_[self._order, _mixed(ids[members].astype(np.uint64), self._seed)]
        kept = np.argsort(order)[:CANDIDATES]
        self._order = order[kept]
        self._ids = np.r_[self._ids, ids[members]][kept]
        self._snr = np.r_[self._snr, snr[members]][kept]

    def spread(self) -> NDArray[np.int64]:
        """Return ids at even steps of the sample by rising arc SNR; a NaN SNR comes last."""
        by_snr = self._ids[np.lexsort((self._order, self._snr))]
        count = min(COLUMNS, len(by_snr))
        return by_snr[((np.arange(count) + 0.5) * len(by_snr) / max(count, 1)).astype(np.int64)]


def _mixed(ids: NDArray[np.uint64], seed: np.uint64) -> NDArray[np.uint64]:
    """Hash each id to a random number with the SplitMix64 finaliser (Steele et al. 2014)."""
    mixed: NDArray[np.uint64] = ids ^ seed
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))
