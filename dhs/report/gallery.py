"""The section with injections that were found and injections that were missed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from dhs.audit.artefact_checks import reason_of
from dhs.report.completeness import grid_heading
from dhs.report.parts import (
    Block,
    Section,
    details,
    each,
    missing,
    note,
    picture,
    table,
    unreadable,
)
from dhs.report.pixels import png, png_file
from dhs.report.style import number
from dhs.selection.figure_gallery import OpenImages, choose
from dhs.selection.figure_style import drawn_thresholds
from dhs.selection.grid_result import GridResult, label
from fastnorm.figure import colour_picture
from fastnorm.io import Rejected

SAYS = (
    "Arcs injected into real or simulated galaxies, from faint to bright, in z, r and g as red, "
    "green and blue. Point at an image, or reach it with the Tab key, to see the parameters of "
    "the injection, with the PSF and the depth of its host in r."
)
PARAMETERS = {
    "theta_e_arcsec": ("Einstein radius", "″", 2),
    "q_lens": ("lens axis ratio", "", 2),
    "source_r_mag": ("source r", " mag", 2),
    "source_re_arcsec": ("source radius", "″", 2),
    "lensed_r_mag": ("arc r", " mag", 2),
    "magnification": ("magnification", "", 1),
    "arc_snr_r": ("arc SNR", "", 1),
    "host_psf_fwhm": ("PSF FWHM", "″", 2),
    "host_depth_5sig": ("depth", " mag", 2),
    "psf_fwhm": ("PSF FWHM, cell centre", "″", 2),
    "depth_5sig": ("depth, cell centre", " mag", 2),
    "score": ("score", "", 3),
}
"""Columns of ``injections.parquet``: their label, their unit, and the decimals to show. Centres of
cells stand in for the seeing and depth of the host where these are not recorded."""


def section(
    grids: Sequence[GridResult],
    rejected: list[Rejected],
    open_images: OpenImages | None = None,
) -> Section:
    """Return the section with images of every grid at its first false-positive-rate threshold.

    Parameters
    ----------
    grids : sequence of GridResult
        Grids to show.
    rejected : list of Rejected
        Grids whose injections cannot be recreated are appended.
    open_images : function, optional
        Recreates injections of a grid; `dhs.selection.images.InjectedRows` by default.
    """
    if open_images is None:
        from dhs.selection.images import InjectedRows

        open_images = InjectedRows
    result = Section("gallery", "Injections found and missed", SAYS)

    def of_grid(item: tuple[int, GridResult]) -> list[Block]:
        return _of_grid(*item, open_images, rejected)

    numbered = list(enumerate(grids))
    result.blocks += each(numbered, lambda item: item[1].folder, of_grid, rejected)
    if not result.blocks:
        result.blocks.append(missing("No finished grid was found.", "dhs grid CONFIG"))
    return result


def _of_grid(
    position: int, grid: GridResult, open_images: OpenImages, rejected: list[Rejected]
) -> list[Block]:
    threshold = drawn_thresholds(grid.thresholds)[0]
    chosen = choose(grid, threshold)
    ids = np.concatenate([item.ids for item in chosen.values()])
    try:
        images = open_images(grid.folder, ids.tolist())
        pixels, _ = images.read(np.arange(len(ids)))
    except Exception as error:
        rejected.append(Rejected(grid.folder, reason_of(error)))
        return [*grid_heading(grid), unreadable(rejected[-1]), *_kept_picture(grid)]
    pictures = [png(colour_picture(image.cpu().numpy())) for image in pixels]
    blocks, first = grid_heading(grid), 0
    for name, item in chosen.items():
        rows = range(first, first + len(item.ids))
        entries = [_entry(name, images.table.iloc[row], pictures[row]) for row in rows]
        title = f"{name.capitalize()} at {label(threshold)}: {item.total:,}"
        blocks.append(
            Block("gallery", {"key": f"gallery-{position}-{name}", "title": title, "of": entries})
        )
        first += len(item.ids)
    blocks.append(details("The parameters as a table", [_table(chosen, images.table)]))
    return blocks


def _entry(name: str, values: pd.Series, uri: str) -> dict[str, Any]:
    radius, magnitude = values["theta_e_arcsec"], values["source_r_mag"]
    short = f"θE {radius:.2f}″, r {magnitude:.1f}, SNR {values['arc_snr_r']:.1f}"
    return {
        "uri": uri,
        "alt": f"{name} arc of Einstein radius {radius:.2f} arcsec, source r {magnitude:.1f} mag, "
        f"arc SNR {values['arc_snr_r']:.1f}, score {values['score']:.3f}",
        "short": short,
        "parameters": _parameters(values),
    }


def _parameters(values: pd.Series) -> list[tuple[str, str]]:
    return [
        (words, number(float(values[column]), digits) + unit)
        for column, (words, unit, digits) in _shown(values.index).items()
    ]


def _shown(columns: pd.Index) -> dict[str, tuple[str, str, int]]:
    """Return the parameters to show of those that the injections record."""
    return {
        column: words
        for column, words in PARAMETERS.items()
        if column in columns and f"host_{column}" not in columns
    }


def _table(chosen: dict[str, Any], values: pd.DataFrame) -> Block:
    outcomes = [name for name, item in chosen.items() for _ in item.ids]
    known = _shown(values.columns)
    head = ["injection", "outcome", "host"]
    head += [f"{name} ({unit.strip()})" if unit else name for name, unit, _ in known.values()]
    rows = []
    for (_, row), outcome in zip(values.iterrows(), outcomes, strict=True):
        named = [row["injection_id"], outcome, row["host_id"]]
        numbers = [number(float(row[name]), digits) for name, (*_, digits) in known.items()]
        rows.append(named + numbers)
    return table("Parameters of the injections shown", head, rows)


def _kept_picture(grid: GridResult) -> list[Block]:
    """Return the gallery that the grid drew when it ran, or a note if it does not exist."""
    path = grid.folder / "gallery.png"
    if not path.is_file():
        return [note("The grid has no gallery.png of its own either.")]
    said = "The gallery that the grid drew when it ran, with the parameters below each image."
    try:
        return [picture(png_file(path), "Injections found and missed, drawn by the grid", said)]
    except (ValueError, OSError) as error:
        return [note(f"The grid's own gallery.png cannot be shown: {error}")]
