"""Images embedded in the page as data addresses."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import AsinhNorm
from matplotlib.image import imsave
from numpy.typing import NDArray

PNG = b"\x89PNG\r\n\x1a\n"
MOST_BYTES = 4 * 2**20


def data_uri(content: bytes) -> str:
    """Encode a PNG as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def png(pixels: NDArray[Any]) -> str:
    """Encode pixels (H, W, 3 or 4), uint8 or float, as a data URI with the first row lowest."""
    stream = BytesIO()
    imsave(stream, pixels, format="png", origin="lower")
    return data_uri(stream.getvalue())


def coloured(
    image: NDArray[np.float32], low: float, high: float, linear: float, colours: str
) -> str:
    """Draw one band on an asinh scale, as a data URI.

    Parameters
    ----------
    image : (H, W) float32
        Pixels; those that are not finite are drawn grey.
    low, high : float
        Values at the ends of the colour map.
    linear : float
        Width of the linear part of the scale.
    colours : str
        Name of a matplotlib colour map.
    """
    shades = colormaps[colours](AsinhNorm(linear, low, high)(np.nan_to_num(image)))
    shades[~np.isfinite(image)] = (0.6, 0.6, 0.6, 1)
    return png(np.asarray(255 * shades, np.uint8))


def png_file(path: Path) -> str:
    """Read a PNG file as a data URI.

    Raises
    ------
    ValueError
        The file is not a PNG, or is larger than 4 MiB.
    OSError
        The file cannot be read.
    """
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise ValueError(f"{path} has {size} bytes; a report takes images of at most {MOST_BYTES}.")
    content = path.read_bytes()
    if not content.startswith(PNG):
        raise ValueError(f"{path} is not a PNG file.")
    return data_uri(content)
