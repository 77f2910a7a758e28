"""Pixels as pictures that are part of the page."""

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
    """PNG as an address that holds its content."""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def png(pixels: NDArray[Any]) -> str:
    """Draw (H, W, 3 or 4) uint8 or float, the first row lowest, as a data address."""
    stream = BytesIO()
    imsave(stream, pixels, format="png", origin="lower")
    return data_uri(stream.getvalue())


def coloured(
    image: NDArray[np.float32], low: float, high: float, linear: float, colours: str
) -> str:
    """Draw a plane (H, W) on an asinh scale, as a data address.

    Parameters
    ----------
    image : (H, W) float32
        What is not finite is grey.
    low, high : float
        Ends of the colours.
    linear : float
        Width of the linear part.
    colours : str
        Name of a colour map of matplotlib.
    """
    shades = colormaps[colours](AsinhNorm(linear, low, high)(np.nan_to_num(image)))
    shades[~np.isfinite(image)] = (0.6, 0.6, 0.6, 1)
    return png(np.asarray(255 * shades, np.uint8))


def png_file(path: Path) -> str:
    """A picture from a file, as a data address.

    Raises
    ------
    ValueError
        It is no PNG, or larger than 4 MiB.
    OSError
        It cannot be read.
    """
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise ValueError(f"{path} has {size} bytes, more than the {MOST_BYTES} of a picture here.")
    content = path.read_bytes()
    if not content.startswith(PNG):
        raise ValueError(f"{path} is no PNG.")
    return data_uri(content)
