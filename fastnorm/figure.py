"""Figures of cutouts with the corrected annulus beside the legacy one, or any other."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastnorm.annulus import LEGACY_ANNULUS, Annulus, AnnulusWarning
from fastnorm.footprint import is_same
from fastnorm.io import BANDS, INSTALL_EXTRA, Cutout
from fastnorm.normalize import annulus_median_mad, normalize_outer_annulus
from fastnorm.pictures import save_picture
from fastnorm.text import printable

try:
    from astropy.visualization import make_lupton_rgb
    from matplotlib.axes import Axes
    from matplotlib.colors import AsinhNorm
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Circle, Patch
except ImportError as error:
    raise ImportError(f"figures need matplotlib and astropy: {INSTALL_EXTRA}") from error

ROWS_SHARE = 0.25
"""Share of the time of a figure in which its rows are made; in the rest, they are drawn."""

# Orange, green and sky blue of Okabe and Ito, distinct for any colour vision.
LEGACY_STYLE: dict[str, Any] = {"color": "#E69F00", "linestyle": (0, (4, 2)), "linewidth": 1.7}
GIVEN_STYLE: dict[str, Any] = {"color": "#009E73", "linestyle": (0, (4, 2)), "linewidth": 1.7}
CORRECTED_STYLE: dict[str, Any] = {"color": "#56B4E9", "linestyle": "-", "linewidth": 1.7}

MASKED = (0.8, 0.475, 0.655, 0.55)
"""Colour of masked pixels: Okabe and Ito's reddish purple, half transparent."""

# Weights of z, r and g that make old galaxies warm and arcs blue.
COLOUR_WEIGHTS = np.array([1.5, 3.0, 6.0], np.float32)
RANGE_IN_MAD = (-5.0, 100.0)
LINEAR_IN_MAD = 8.0

# Sizes in inches.
WIDTH, TOP, PANEL, ROW_HEIGHT, TICKS = 15.8, 0.8, 3.0, 4.4, 0.6
LEFT_EDGES = {"colour": 0.75, "compared": 4.2, "corrected": 7.6, "bar": 10.7, "table": 11.9}
MINUS = "\N{MINUS SIGN}"


class Compared(NamedTuple):
    """An annulus that is drawn beside the corrected one: its name, the annulus, its lines."""

    name: str
    annulus: Annulus
    style: dict[str, Any]


def colour_picture(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Map z, r and g to red, green and blue, after Lupton et al. (2004).

    Parameters
    ----------
    pixels : (3, H, W) float32
        Bands g, r, z in nanomaggies; values that are not finite are drawn as 0.

    Returns
    -------
    (H, W, 3) uint8
        Black is one MAD below the sky of the corrected annulus, and the
        stretch follows its noise in the r band.
    """
    bands = np.nan_to_num(pixels[::-1], nan=0.0, posinf=0.0, neginf=0.0)
    bands = bands * COLOUR_WEIGHTS[:, None, None]
    median, mad = _statistics(bands, Annulus.default(*bands.shape[1:]))
    noise = float(mad[1]) or float(np.abs(bands).max()) / 100 or 1.0
    minimum = [float(level) for level in median - mad]
    # astropy divides by the brightness before it looks for zeros.
    with np.errstate(invalid="ignore", divide="ignore"):
        picture: NDArray[np.uint8] = make_lupton_rgb(
            *bands, minimum=minimum, stretch=12 * noise, Q=6
        )
    return picture


def mark_masked(axes: Axes, mask: NDArray[np.bool_] | None) -> None:
    """Colour the masked pixels of a picture; ``mask`` is (H, W), True is bad, or None."""
    if mask is not None and mask.any():
        marks = np.multiply.outer(mask, MASKED)
        axes.imshow(marks, origin="lower", interpolation="nearest")


def annuli_of(cutouts: Sequence[Cutout], annulus: Annulus | None = None) -> list[tuple[float, ...]]:
    """Return the radii of the annuli in the figure of `comparison_figure`, each once.

    Parameters
    ----------
    cutouts : sequence of Cutout
        At least one.
    annulus : Annulus, optional
        Same as in `comparison_figure`.

    Returns
    -------
    list of (float, float)
        The one that is compared first, then the corrected one of every size.
    """
    first = _compared(cutouts, annulus).annulus
    rings = [first, *(Annulus.default(*cutout.pixels.shape[1:]) for cutout in cutouts)]
    return list(dict.fromkeys((ring.r_in, ring.r_out) for ring in rings))


def comparison_figure(
    cutouts: Sequence[Cutout],
    annulus: Annulus | None = None,
    units: Mapping[Path, str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Figure:
    """Draw one row per cutout: colours and annuli, both normalisations, their statistics.

    Masked pixels are purple.

    Parameters
    ----------
    cutouts : sequence of Cutout
        At least one.
    annulus : Annulus, optional
        Annulus to draw beside the corrected one; by default, and where it is the corrected one,
        the legacy annulus.
    units : mapping of Path to str, optional
        Units of the pixels of files that are not in nanomaggies.
    progress : function, optional
        Called with the number of rows so far.

    Returns
    -------
    matplotlib.figure.Figure
        Five axes per row: colours, r band normalised with this and with
        the corrected annulus, their colour bar, table.

    Raises
    ------
    ValueError
        ``cutouts`` is empty, or an annulus has fewer than 100 pixels on one of them.
    """
    if not cutouts:
        raise ValueError("cutouts is empty; give at least one cutout to draw.")
    compared = _compared(cutouts, annulus)
    height = TOP + ROW_HEIGHT * len(cutouts)
    figure = Figure(figsize=(WIDTH, height))
    middle = 1 - TOP / 2 / height
    title = "Outer-annulus normalisation"
    figure.text(LEFT_EDGES["colour"] / WIDTH, middle, title, size=18, weight="bold", va="center")
    lines = [Line2D([], [], **style) for style in (compared.style, CORRECTED_STYLE)]
    is_masked = any(cutout.mask is not None and cutout.mask.any() for cutout in cutouts)
    figure.legend(
        [*lines, *([Patch(color=MASKED[:3])] if is_masked else [])],
        [*_annulus_labels(cutouts, compared), *(["masked"] if is_masked else [])],
        loc="center right",
        bbox_to_anchor=(1, middle),
        ncols=3,
        fontsize=14,
        frameon=False,
        handlelength=2.5,
        columnspacing=1.2,
    )
    for row, cutout in enumerate(cutouts):
        bottom = height - TOP - ROW_HEIGHT * (row + 1) + TICKS
        unit = (units or {}).get(cutout.path, "nanomaggy")
        _draw_row(figure, cutout, bottom, compared, unit)
        if progress is not None:
            progress(row + 1)
    return figure


def draw_comparison(
    cutouts: Sequence[Cutout],
    path: str | Path,
    annulus: Annulus | None = None,
    units: Mapping[Path, str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the figure of `comparison_figure` as a PNG, PDF or SVG file.

    Parameters
    ----------
    cutouts : sequence of Cutout
        At least one.
    path : str or Path
        File to write; it appears when it is complete.
    annulus, units
        Same as in `comparison_figure`.
    progress : function, optional
        Called with the number of cutouts drawn so far and in total.

    Raises
    ------
    ValueError
        Same as in `comparison_figure`.
    """
    total = len(cutouts)

    def tell(rows: int, axes: float = 0.0) -> None:
        if progress is not None:
            progress(int(total * (ROWS_SHARE * rows / total + (1 - ROWS_SHARE) * axes)), total)

    tell(0)
    figure = comparison_figure(cutouts, annulus, units, tell)
    save_picture(figure, Path(path), dpi=130, progress=lambda done, axes: tell(total, done / axes))


@contextmanager
def _silent() -> Iterator[None]:
    with warnings.catch_warnings():
        # Showing the legacy annulus is the purpose here.
        warnings.simplefilter("ignore", AnnulusWarning)
        yield


def _statistics(
    pixels: NDArray[np.float32], annulus: Annulus, mask: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    with _silent():
        median, mad = annulus_median_mad(pixels, annulus.r_in, annulus.r_out, mask=mask)
    return median, mad


def _compared(cutouts: Sequence[Cutout], given: Annulus | None) -> Compared:
    corrected = {Annulus.default(*cutout.pixels.shape[1:]) for cutout in cutouts}
    is_corrected = given is not None and all(is_same(given, ring) for ring in corrected)
    if given is None or is_corrected or is_same(given, LEGACY_ANNULUS):
        return Compared("legacy", LEGACY_ANNULUS, LEGACY_STYLE)
    return Compared("given", given, GIVEN_STYLE)


def _annulus_labels(cutouts: Sequence[Cutout], compared: Compared) -> list[str]:
    first = f"{compared.name}, {compared.annulus.r_in:g} to {compared.annulus.r_out:g} px"
    shapes = {cutout.pixels.shape[1:] for cutout in cutouts}
    if len(shapes) > 1:
        return [first, "corrected, 65 to 90 % of the half-width"]
    annulus = Annulus.default(*shapes.pop())
    return [first, f"corrected, {annulus.r_in:g} to {annulus.r_out:g} px"]


def _draw_row(figure: Figure, cutout: Cutout, bottom: float, compared: Compared, unit: str) -> None:
    height = figure.get_figheight()

    def add_axes(name: str, width: float) -> Axes:
        left = LEFT_EDGES[name]
        return figure.add_axes((left / WIDTH, bottom / height, width / WIDTH, PANEL / height))

    plane = cutout.pixels.shape[1:]
    panels = {
        "compared": compared,
        "corrected": Compared("corrected", Annulus.default(*plane), CORRECTED_STYLE),
    }
    heading = (bottom + PANEL + 0.45) / height
    figure.text(LEFT_EDGES["colour"] / WIDTH, heading, _title(cutout), size=15, parse_math=False)

    axes = add_axes("colour", PANEL)
    axes.imshow(colour_picture(cutout.pixels), origin="lower", interpolation="nearest")
    mark_masked(axes, None if cutout.mask is None else cutout.mask.max(axis=0))
    for shown in panels.values():
        _draw_annulus(axes, shown.annulus, plane, shown.style)
    axes.set_title("z, r, g as red, green, blue", size=13)
    axes.set_ylabel("row (px)", size=12)
    axes.set_xlabel("column (px)", size=12)
    axes.tick_params(labelsize=11)

    mask = None if cutout.mask is None else cutout.mask[1]
    for place, shown in panels.items():
        axes = add_axes(place, PANEL)
        with _silent():
            normalised = normalize_outer_annulus(
                cutout.pixels[1], shown.annulus.r_in, shown.annulus.r_out, mask=mask
            )
        image = axes.imshow(
            normalised,
            origin="lower",
            interpolation="nearest",
            cmap="inferno",
            norm=AsinhNorm(LINEAR_IN_MAD, *RANGE_IN_MAD),
        )
        mark_masked(axes, mask)
        _draw_annulus(axes, shown.annulus, plane, shown.style | {"linewidth": 1.2})
        axes.set_title(f"r normalised, {shown.name}", size=13)
        axes.set_xlabel("column (px)", size=12)
        axes.tick_params(labelsize=11, labelleft=False)

    bar = figure.colorbar(image, cax=add_axes("bar", 0.14), extend="both")
    bar.set_ticks(
        [-5, 0, 5, 10, 20, 50, 100], labels=[f"{MINUS}5", "0", "5", "10", "20", "50", "100"]
    )
    bar.minorticks_off()
    bar.ax.tick_params(labelsize=11)
    bar.set_label(f"(flux {MINUS} median) / MAD", size=12)
    axes = add_axes("table", WIDTH - LEFT_EDGES["table"] - 0.2)
    _draw_table(axes, cutout, list(panels.values()), unit)


def _title(cutout: Cutout) -> str:
    # A dollar sign would start a formula.
    name = printable(cutout.id).replace("$", r"\$")
    if cutout.ra is None or cutout.dec is None:
        return f"{name}   (position not known)"
    sign = MINUS if cutout.dec < 0 else "+"
    return f"{name}   RA {cutout.ra:.5f}°   Dec {sign}{abs(cutout.dec):.5f}°"


def _draw_annulus(
    axes: Axes, annulus: Annulus, plane: tuple[int, ...], style: Mapping[str, Any]
) -> None:
    height, width = plane
    # Move both circles half a line width into the annulus, so that 32 px and 32.5 px stay apart.
    inset = style["linewidth"] / 2 * max(plane) / (72 * PANEL)
    for radius in (annulus.r_in + inset, annulus.r_out - inset):
        axes.add_patch(Circle((width // 2, height // 2), radius, fill=False, **style))


def _draw_table(axes: Axes, cutout: Cutout, panels: Sequence[Compared], unit: str) -> None:
    axes.set_axis_off()
    pairs = [_statistics(cutout.pixels, shown.annulus, cutout.mask) for shown in panels]
    bands = np.array([values for pair in pairs for values in pair], np.float64).T
    largest = float(np.abs(bands).max())
    is_usual = math.isfinite(largest) and largest > 0
    exponent = 3 * math.floor(math.log10(largest) / 3) if is_usual else 0
    unit = f"$10^{{{exponent}}}$ {unit}" if exponent else unit

    columns = (0.32, 0.54, 0.78, 1.0)

    def put(x: float, y: float, text: str, **style: Any) -> None:
        axes.text(x, y, text.replace("-", MINUS), size=13, va="center", **style)

    put(0.0, 0.95, f"annulus statistics, {unit}")
    for right, shown in zip(columns[1::2], panels, strict=True):
        put(right, 0.82, shown.name, ha="right", weight="bold")
        axes.plot([right - 0.38, right], [0.76, 0.76], **shown.style)
    for x, name in zip(columns, ("median", "MAD") * 2, strict=True):
        put(x, 0.68, name, ha="right")
    for y, name, values in zip((0.55, 0.43, 0.31), BANDS, bands, strict=True):
        put(0.0, y, name, weight="bold")
        for x, value in zip(columns, values, strict=True):
            put(x, y, _short(value / 10.0**exponent), ha="right")
    shifts = [
        f"{name} {(first - corrected) / mad:+.2f}" if mad and math.isfinite(mad) else f"{name} -"
        for name, (first, _, corrected, mad) in zip(BANDS, bands, strict=True)
    ]
    put(0.0, 0.14, f"{panels[0].name} - corrected median, in MAD:")
    put(0.0, 0.03, "     ".join(shifts))
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)


def _short(value: float) -> str:
    digits = 3 if abs(value) < 10 else 2 if abs(value) < 100 else 1
    return f"{value:.{digits}f}"
