"""Figures as files: PNG, PDF or SVG, whole or absent, with the same bytes every time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastnorm.atomic import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURE_SUFFIXES = (".png", ".pdf", ".svg")
NO_DATE = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
STYLE: dict[Any, Any] = {
    # Text stays text: a PDF embeds its fonts, an SVG names them.
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    # Without a salt, the ids in an SVG are random.
    "svg.hashsalt": "fastnorm",
}


def save_picture(
    figure: Figure,
    path: Path,
    dpi: float = 150,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a figure in the format that the suffix names, atomically.

    PDF and SVG have no date, so equal figures give equal bytes with the same matplotlib.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    path : Path
        File to write, ending in .png, .pdf or .svg.
    dpi : float
        Pixels per inch; in PDF and SVG, those of the images in the figure.
    progress : function, optional
        Called with the number of axes drawn so far and in total.

    Raises
    ------
    ValueError
        The suffix is another one.
    OSError
        The file cannot be written.
    """
    from matplotlib import rc_context

    if path.suffix not in PICTURE_SUFFIXES:
        raise ValueError(f"path={str(path)!r} must end in .png, .pdf or .svg.")
    if progress is not None:
        _add_marks(figure, progress)
    with atomic_path(path) as temporary, rc_context(STYLE):
        figure.savefig(
            temporary,
            format=path.suffix[1:],
            dpi=dpi,
            facecolor="white",
            metadata=NO_DATE.get(path.suffix),
        )


def _add_marks(figure: Figure, progress: Callable[[int, int], None]) -> None:
    """Add an artist to each axes that draws nothing and tells that its turn has come."""
    from matplotlib.artist import Artist

    done, total = 0, len(figure.axes)

    class Mark(Artist):
        def draw(self, renderer: Any) -> None:
            nonlocal done
            done = min(done + 1, total)
            progress(done, total)

    for axes in figure.axes:
        axes.add_artist(Mark())


def remove_other_formats(path: Path) -> None:
    """Remove the pictures of the same name in other formats, which show an earlier result."""
    for suffix in PICTURE_SUFFIXES:
        if suffix != path.suffix:
            path.with_suffix(suffix).unlink(missing_ok=True)
