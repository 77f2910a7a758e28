"""Draw docs/levels.png: the sampling levels of pixels, and the remaining error.

Run as ``python -m docs.draw_levels`` from the root of the project.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from rich.console import Console

from benchmarks.lens_truth import truth
from dhs.constants import CUTOUT_SIZE, PIXEL_SCALE
from dhs.injection import LensParams, SourceParams, render
from dhs.injection.quadrature import make_plan
from dhs.injection.reference import pixel_levels
from dhs.injection.source import draw_clumps
from fastnorm.kernels.lens_columns import CLUMPS

TARGET = Path(__file__).with_name("levels.png")
HALF_ARCSEC = 4.2
LEVELS = ("1 sample", "2 x 2", "4 x 4", "4 x 4 cells of\n1 to 256 each")
# From Okabe and Ito: distinguishable with any colour vision.
COLOURS = ("#F0F0F0", "#56B4E9", "#E69F00", "#882255")


def main() -> None:
    lens = LensParams(1.5, 0.03, -0.04, 0.05, 0.02, 0.7, 0.6)
    source = SourceParams(0.28, 0.22, 0.3, 1.4, 0.6, 1.1)
    image = render(lens, source, bands=("r",))[0, 0]
    expected = truth(lens, source, Console(quiet=True))[0]
    clumps = draw_clumps(source, 0, np.arange(1))
    shape = (CUTOUT_SIZE, CUTOUT_SIZE)
    plan = make_plan(lens, source, clumps, np.ones((1, 1)), shape, PIXEL_SCALE, 4)
    offset = (np.arange(CUTOUT_SIZE) - (CUTOUT_SIZE - 1) / 2) * PIXEL_SCALE
    x, y = np.meshgrid(offset, offset)
    row = plan.table[0]
    level = pixel_levels(row, plan.clumps[0][: int(row[CLUMPS])], x, y, PIXEL_SCALE)

    figure = Figure(figsize=(13.4, 4.4), layout="constrained")
    axes = figure.subplots(1, 3)
    edge = CUTOUT_SIZE / 2 * PIXEL_SCALE
    options = {"origin": "lower", "extent": (-edge, edge, -edge, edge)}
    peak = expected.max()

    drawn = axes[0].imshow(image / peak, cmap="inferno", **options)
    axes[0].set_title("lensed source, before the PSF", size=13)
    figure.colorbar(drawn, ax=axes[0], shrink=0.8, label="of the brightest pixel")

    edges = np.arange(len(LEVELS) + 1) - 0.5
    norm = BoundaryNorm(edges, len(LEVELS))
    drawn = axes[1].imshow(level, cmap=ListedColormap(COLOURS), norm=norm, **options)
    axes[1].set_title("samples of a pixel", size=13)
    bar = figure.colorbar(drawn, ax=axes[1], shrink=0.8, ticks=range(len(LEVELS)))
    bar.ax.set_yticklabels(LEVELS)

    error = 100 * (image - expected) / peak
    most = float(np.abs(error).max())
    drawn = axes[2].imshow(error, cmap="RdBu_r", vmin=-most, vmax=most, **options)
    axes[2].set_title("difference from 32 x 32", size=13)
    figure.colorbar(drawn, ax=axes[2], shrink=0.8, label="% of the brightest pixel")
    for panel in axes:
        panel.set(xlim=(-HALF_ARCSEC, HALF_ARCSEC), ylim=(-HALF_ARCSEC, HALF_ARCSEC))
        panel.set_xlabel("x (arcsec)", size=12)
    axes[0].set_ylabel("y (arcsec)", size=12)
    figure.savefig(TARGET, dpi=90)


if __name__ == "__main__":
    main()
