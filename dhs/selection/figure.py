"""All figures of a finished grid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dhs.figures import save
from dhs.selection.figure_curves import completeness_figure, score_figure
from dhs.selection.figure_gallery import OpenImages, gallery_figure
from dhs.selection.figure_maps import map_figure
from dhs.selection.figure_style import drawn_thresholds
from dhs.selection.grid_result import GridResult
from fastnorm.io import INSTALL_EXTRA
from fastnorm.pictures import remove_other_formats

try:
    from matplotlib.figure import Figure
except ImportError as error:
    raise ImportError(f"figures need matplotlib and astropy: {INSTALL_EXTRA}") from error


def draw_grid(
    folder: Path, open_images: OpenImages | None = None, picture_format: str = "png"
) -> list[Path]:
    """Write ``completeness.png``, ``maps.png``, ``scores.png`` and ``gallery.png``.

    Injections are read in batches, so memory use does not grow with their number.

    Parameters
    ----------
    folder : Path
        Folder of a finished grid; the figures are written there.
    open_images : function, optional
        Recreates the images of injections; `dhs.selection.images.InjectedRows` by default.
    picture_format : str
        ``png``, ``pdf`` or ``svg``; pictures that were drawn earlier in another one are removed.

    Returns
    -------
    list of Path

    Raises
    ------
    ValueError
        The folder does not hold a complete grid, no injection has a score, or the hosts of the
        gallery have changed.
    """
    grid = GridResult(folder)
    if open_images is None:
        from dhs.selection.images import InjectedRows

        open_images = InjectedRows
    # Maps and gallery show one threshold: the first one set by a false-positive rate.
    first = drawn_thresholds(grid.thresholds)[0]
    pictures: dict[str, Callable[[], Figure]] = {
        "completeness": lambda: completeness_figure(grid),
        "maps": lambda: map_figure(grid, first),
        "scores": lambda: score_figure(grid),
        "gallery": lambda: gallery_figure(grid, first, open_images),
    }
    written = []
    for name, draw in pictures.items():
        path = grid.folder / f"{name}.{picture_format}"
        save(draw(), path)
        remove_other_formats(path)
        written.append(path)
    return written
