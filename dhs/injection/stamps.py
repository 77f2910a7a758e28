"""Images of real galaxies as sources, interpolated in the source plane."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import map_coordinates

from dhs.arguments import real_array
from dhs.constants import BANDS
from dhs.injection.lens import source_position
from dhs.injection.params import LensParams, SourceParams

MOST_SAMPLES_PER_SIDE = 32


class GalaxyStamps:
    """Images of galaxies, to be lensed as sources.

    An image is interpolated linearly between the centres of its pixels and is 0 beyond them,
    which conserves its flux. A `SourceParams` sets its flux in every band, its rotation
    (``phi_rad``) and its position (``beta``).

    Parameters
    ----------
    images : array_like
        (h, w), one image for all injections and bands; (3, h, w), one image per band g, r, z;
        or (B, 3, h, w), one set of images per injection. y increases with the row. Values must
        be finite, and the sum of every image must be positive.
    pixel_scale : float
        Pixel scale of the images, arcsec per pixel, above 0.

    Raises
    ------
    TypeError, ValueError
        A value is not finite, a sum is not positive, or ``images`` has another shape.
    """

    def __init__(self, images: ArrayLike, pixel_scale: float) -> None:
        pictures = real_array("images", images)
        has_bands = pictures.ndim == 2 or pictures.shape[-3:-2] == (len(BANDS),)
        if pictures.ndim not in (2, 3, 4) or not has_bands:
            raise ValueError(
                f"images has shape {pictures.shape}; expected (h, w), (3, h, w) or (B, 3, h, w)."
            )
        if pictures.ndim == 2:
            pictures = np.stack([pictures] * len(BANDS))
        if pictures.ndim == 3:
            pictures = pictures[None]
        total = pictures.sum(axis=(2, 3))
        if not (total > 0).all():
            stamp, band = (int(i) for i in np.argwhere(~(total > 0))[0])
            raise ValueError(
                f"images[{stamp}, {band}] sums to {total[stamp, band]:g}; the sum must be "
                "positive. Check the sky subtraction."
            )
        self.pixel_scale = float(
            real_array("pixel_scale", pixel_scale, 0.0, 100.0, low_is_allowed=False, ndim=0)
        )
        # Normalised as a density: every image integrates to 1.
        self._density = pictures / (total[:, :, None, None] * self.pixel_scale**2)

    def __len__(self) -> int:
        return len(self._density)

    def render_into(
        self,
        out: NDArray[np.float32],
        lens: LensParams | None,
        source: SourceParams,
        bands: Sequence[str],
        pixel_scale: float,
        oversample: int,
    ) -> None:
        """Render lensed images of galaxies into ``out``.

        Parameters
        ----------
        out : (B, bands, H, W) float32 array
            Overwritten with the result, nanomaggies per pixel.
        lens : LensParams or None
            B lenses. None renders the unlensed images.
        source : SourceParams
            B sources, which set position, angle and fluxes.
        bands : sequence of str
            Which of "g", "r" and "z" to render, in this order.
        pixel_scale : float
            Pixel scale of ``out``, arcsec per pixel.
        oversample : int
            Least number of samples per pixel side.

        Raises
        ------
        ValueError
            There are neither one nor B sets of images.
        """
        count, _, height, width = out.shape
        if len(self) not in (1, count):
            raise ValueError(
                f"stamps has {len(self)} images for {count} injections; give 1 or {count}."
            )
        y, x = np.meshgrid(
            (np.arange(height) - (height - 1) / 2) * pixel_scale,
            (np.arange(width) - (width - 1) / 2) * pixel_scale,
            indexing="ij",
        )
        # Sampling as fine as the image misses none of its pixels.
        side = max(oversample, math.ceil(oversample * pixel_scale / (2 * self.pixel_scale)))
        side = min(side, MOST_SAMPLES_PER_SIDE)
        place = ((np.arange(side) + 0.5) / side - 0.5) * pixel_scale
        to_y, to_x = (part.ravel() for part in np.meshgrid(place, place, indexing="ij"))
        out[:] = 0
        for i in range(count):
            one = None if lens is None else lens[i]
            density = self._density[i % len(self)]
            is_lit = self._reaches(density, one, source[i], x, y, pixel_scale)
            at_x, at_y = x[is_lit][:, None] + to_x, y[is_lit][:, None] + to_y
            place_in_picture = self._pixels(density, one, source[i], at_x, at_y)
            for image, band in zip(out[i], bands, strict=True):
                flux = getattr(source, f"flux_nmgy_{band}")[i] * pixel_scale**2
                light = map_coordinates(
                    density[BANDS.index(band)], place_in_picture, order=1, mode="grid-constant"
                )
                image[is_lit] = flux * light.mean(axis=1)

    def _pixels(
        self,
        density: NDArray[np.float64],
        lens: LensParams | None,
        source: SourceParams,
        x: NDArray[np.float64],
        y: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Return the row and column in the galaxy image that an image position maps to."""
        beta_x, beta_y = x, y
        if lens is not None:
            beta_x, beta_y = (part[0] for part in source_position(lens, x[None], y[None]))
        beta_x, beta_y = beta_x - source.beta_x_arcsec[0], beta_y - source.beta_y_arcsec[0]
        cos, sin = np.cos(source.phi_rad[0]), np.sin(source.phi_rad[0])
        along, across = cos * beta_x + sin * beta_y, cos * beta_y - sin * beta_x
        height, width = density.shape[-2:]
        rows = across / self.pixel_scale + (height - 1) / 2
        return np.stack([rows, along / self.pixel_scale + (width - 1) / 2])

    def _reaches(
        self,
        density: NDArray[np.float64],
        lens: LensParams | None,
        source: SourceParams,
        x: NDArray[np.float64],
        y: NDArray[np.float64],
        pixel_scale: float,
    ) -> NDArray[np.bool_]:
        """Find the pixels that may show the galaxy: all near the lens, and those that map to it."""
        rows, columns = self._pixels(density, lens, source, x, y)
        height, width = density.shape[-2:]
        margin = 2 + 2 * pixel_scale / self.pixel_scale
        is_near: NDArray[np.bool_] = (np.abs(rows - (height - 1) / 2) < height / 2 + margin) & (
            np.abs(columns - (width - 1) / 2) < width / 2 + margin
        )
        if lens is not None:
            # Near the lens, a pixel covers a large part of the source plane.
            near = (lens.theta_e_arcsec[0] / 2) ** 2
            is_near |= (x - lens.x0_arcsec[0]) ** 2 + (y - lens.y0_arcsec[0]) ** 2 < near
        return is_near
