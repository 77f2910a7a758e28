"""Figures of injections: the host, the arc alone, and their sum side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dhs.constants import PIXEL_SCALE
from dhs.injection.cutouts import InjectedCutout
from fastnorm.annulus import Annulus
from fastnorm.figure import COLOUR_WEIGHTS
from fastnorm.io import INSTALL_EXTRA
from fastnorm.normalize import annulus_median_mad
from fastnorm.pictures import save_picture
from fastnorm.text import printable

try:
    from astropy.visualization import make_lupton_rgb
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ImportError as error:
    raise ImportError(f"figures need matplotlib and astropy: {INSTALL_EXTRA}") from error

# Stretch in units of the noise in r, and softening, as in `fastnorm.figure.colour_picture`.
STRETCH_IN_MAD, SOFTENING = 12.0, 6.0
# The arc alone has no noise, so its stretch is this fraction of its brightest pixel.
ARC_STRETCH = 0.35
BAR_ARCSEC = 5.0

# Inches.
PANEL, GAP, CAPTION, TOP, EDGE = 2.9, 0.1, 0.42, 1.1, 0.25
COLUMNS = ("host", "arc alone, own stretch", "host and arc")


def injection_figure(injected: Sequence[InjectedCutout], title: str) -> Figure:
    """Draw one row per injection, with a caption: the host, the arc, and their sum.

    Parameters
    ----------
    injected : sequence of InjectedCutout
        At least one injection.
    title : str
        Title above all rows.

    Returns
    -------
    matplotlib.figure.Figure
        Three axes per row. The host and the sum both use the stretch of the host.

    Raises
    ------
    ValueError
        ``injected`` is empty.
    """
    if not injected:
        raise ValueError("injected is empty; give at least one injection to draw.")
    width = 2 * EDGE + len(COLUMNS) * (PANEL + GAP) - GAP
    row_height = PANEL + CAPTION
    height = TOP + row_height * len(injected) + EDGE
    figure = Figure(figsize=(width, height))
    place = 1 - 0.34 / height
    figure.text(EDGE / width, place, title, size=16, weight="bold", va="center")
    for column, name in enumerate(COLUMNS):
        middle = EDGE + column * (PANEL + GAP) + PANEL / 2
        figure.text(
            middle / width, 1 - 0.84 / height, name, size=13, ha="center", va="center", color="0.25"
        )
    for row, item in enumerate(injected):
        top = height - TOP - row * row_height
        figure.text(
            EDGE / width,
            (top - CAPTION / 2) / height,
            _caption(item),
            size=12.5,
            va="center",
            parse_math=False,
        )
        level, stretch = _levels(item.cutout.pixels)
        arc_level, arc_stretch = np.zeros(3), ARC_STRETCH * float(_weighted(item.arc).max())
        pictures = (
            _picture(item.cutout.pixels, level, stretch),
            _picture(item.arc, arc_level, arc_stretch),
            _picture(item.stamp, level, stretch),
        )
        for column, picture in enumerate(pictures):
            left = EDGE + column * (PANEL + GAP)
            bottom = top - CAPTION - PANEL
            axes = figure.add_axes((left / width, bottom / height, PANEL / width, PANEL / height))
            axes.imshow(picture, origin="lower", interpolation="nearest")
            axes.set_axis_off()
            if column == 0:
                _draw_bar(axes, *picture.shape[:2])
    return figure


def draw_injections(injected: Sequence[InjectedCutout], title: str, path: str | Path) -> None:
    """Write the figure of `injection_figure` as PNG, PDF or SVG.

    Parameters
    ----------
    injected : sequence of InjectedCutout
        At least one injection.
    title : str
        Title above all rows.
    path : str or Path
        File to write, atomically.

    Raises
    ------
    ValueError
        ``injected`` is empty.
    """
    figure = injection_figure(injected, title)
    save_picture(figure, Path(path), dpi=110)


def _caption(item: InjectedCutout) -> str:
    row = item.row
    snr = row["arc_snr_r"]
    parts = (
        printable(_short(item.cutout.id)),
        f'θ_E {row["theta_e_arcsec"]:.2f}"',
        f"magnified {row['magnification']:.1f} times",
        f"arc SNR in r {snr:.1f}" if np.isfinite(snr) else "no noise in r",
    )
    return "    ".join(parts)


def _short(name: str, most: int = 34) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _weighted(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Map the bands z, r and g to red, green and blue."""
    bands: NDArray[np.float32] = pixels[::-1] * COLOUR_WEIGHTS[:, None, None]
    return bands


def _levels(pixels: NDArray[np.float32]) -> tuple[NDArray[np.float64], float]:
    """Return the black levels of red, green and blue and the stretch, from the host's sky."""
    bands = _weighted(pixels)
    annulus = Annulus.default(*bands.shape[1:])
    median, mad = annulus_median_mad(bands, annulus.r_in, annulus.r_out)
    noise = float(mad[1]) or float(np.abs(bands).max()) / 100 or 1.0
    return np.asarray(median - mad, np.float64), STRETCH_IN_MAD * noise


def _picture(
    pixels: NDArray[np.float32], level: NDArray[np.float64], stretch: float
) -> NDArray[np.uint8]:
    # astropy divides by the brightness before it checks for zeros.
    with np.errstate(invalid="ignore", divide="ignore"):
        picture: NDArray[np.uint8] = make_lupton_rgb(
            *_weighted(pixels), minimum=level.tolist(), stretch=stretch, Q=SOFTENING
        )
    return picture


def _draw_bar(axes: Axes, height: int, width: int) -> None:
    """Draw a scale bar in the corner."""
    length = BAR_ARCSEC / PIXEL_SCALE
    start, row = 0.06 * width, 0.07 * height
    axes.plot([start, start + length], [row, row], color="white", linewidth=2)
    axes.text(
        start + length / 2,
        row + 0.02 * height,
        f'{BAR_ARCSEC:g}"',
        color="white",
        size=11,
        ha="center",
        va="bottom",
    )
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(-0.5, height - 0.5)
