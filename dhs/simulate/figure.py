"""Figure of the first cutouts of a simulated survey."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dhs.constants import PIXEL_SCALE
from dhs.simulate.scene import BRIGHT, LIMIT
from fastnorm.figure import colour_picture
from fastnorm.io import INSTALL_EXTRA
from fastnorm.pictures import save_picture

try:
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch, Rectangle
except ImportError as error:
    raise ImportError(f"figures need matplotlib and astropy: {INSTALL_EXTRA}") from error

PER_SIDE = 8
MOST_DRAWN = PER_SIDE**2

# Okabe and Ito's orange and sky blue differ for any colour vision. The dashes help too.
FRAMES: dict[str, dict[str, Any]] = {
    BRIGHT: {"edgecolor": "#E69F00", "linestyle": "-"},
    LIMIT: {"edgecolor": "#56B4E9", "linestyle": (0, (3, 1.2))},
}
NAMES = {BRIGHT: "bright arc", LIMIT: "arc near the limit"}

# Inches.
PANEL, GAP, TOP, EDGE, FRAME = 1.5, 0.07, 0.95, 0.12, 3.0


def survey_figure(images: NDArray[np.float32], tiers: Sequence[str], title: str) -> Figure:
    """Draw cutouts in rows of eight, with a frame around those that have an arc.

    Parameters
    ----------
    images : (N, 3, H, W) float32
        Cutouts in g, r, z, nanomaggies. N is 1 to 64.
    tiers : (N,) sequence of str
        ``""``, ``"bright"`` or ``"limit"``.
    title : str
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        There are no images, there are more than 64, or the number of tiers differs.
    """
    count = len(images)
    if not 1 <= count <= MOST_DRAWN or count != len(tiers):
        raise ValueError(
            f"images has {count} cutouts and tiers has {len(tiers)} entries; give 1 to "
            f"{MOST_DRAWN} of both."
        )
    rows = -(-count // PER_SIDE)
    width = 2 * EDGE + PER_SIDE * (PANEL + GAP) - GAP
    height = TOP + EDGE + rows * (PANEL + GAP) - GAP
    figure = Figure(figsize=(width, height))
    for k, (image, tier) in enumerate(zip(images, tiers, strict=True)):
        row, column = divmod(k, PER_SIDE)
        left = EDGE + column * (PANEL + GAP)
        bottom = height - TOP - (row + 1) * PANEL - row * GAP
        axes = figure.add_axes((left / width, bottom / height, PANEL / width, PANEL / height))
        axes.imshow(colour_picture(image), origin="lower", interpolation="nearest")
        axes.set_axis_off()
        if tier in FRAMES:
            inset = FRAME / 72 / PANEL / 2
            axes.add_patch(_frame((inset, inset), 1 - 2 * inset, tier, axes.transAxes))
    middle = 1 - TOP * 0.30 / height
    figure.text(EDGE / width, middle, title, size=17, weight="bold", va="center")
    side = f"{image.shape[-1] * PIXEL_SCALE:.1f}"
    under = f'z, r, g as red, green, blue; {side}" a side; no frame: no arc'
    figure.text(EDGE / width, 1 - TOP * 0.70 / height, under, size=13, va="center")
    figure.legend(
        [_frame((0.0, 0.0), 1.0, tier, None) for tier in FRAMES],
        [NAMES[tier] for tier in FRAMES],
        loc="center right",
        bbox_to_anchor=(1 - EDGE / width, 1 - TOP / 2 / height),
        ncols=2,
        fontsize=13,
        frameon=False,
        handlelength=1.4,
        handleheight=1.4,
        borderaxespad=0,
    )
    return figure


def draw_survey(
    images: NDArray[np.float32], tiers: Sequence[str], title: str, path: str | Path
) -> None:
    """Write the figure of `survey_figure` as PNG, PDF or SVG.

    Parameters
    ----------
    images : (N, 3, H, W) float32
        Cutouts in g, r, z, nanomaggies. N is 1 to 64.
    tiers : (N,) sequence of str
        ``""``, ``"bright"`` or ``"limit"``.
    title : str
        Title of the figure.
    path : str or Path
        File to write, atomically.

    Raises
    ------
    ValueError
        Same as in `survey_figure`.
    """
    figure = survey_figure(images, tiers, title)
    save_picture(figure, Path(path), dpi=130)


def _frame(corner: tuple[float, float], side: float, tier: str, transform: Any) -> Patch:
    style: dict[str, Any] = FRAMES[tier] | {"linewidth": FRAME, "fill": False}
    if transform is not None:
        style |= {"transform": transform, "clip_on": False}
    return Rectangle(corner, side, side, **style)
