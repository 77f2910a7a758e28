"""Sources that are pictures of real galaxies, interpolated in the source plane."""

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
    """Pictures of galaxies, to be lensed as sources.

    A picture is interpolated linearly between the centres of its pixels and is 0 beyond
    them, which keeps its flux; it is scaled to the fluxes of a `SourceParams` in every band, turned
    by its ``phi_rad`` and put at its ``beta``.

    Parameters
    ----------
    images : array_like
        (h, w): one picture for all; (3, h, w): one in every band g, r, z; (B, 3, h, w): one
        for every injection. Rows upwards in y; finite, with a positive sum each.
    pixel_scale : float
        Arcsec per pixel of the pictures, above 0.

    Raises
    ------
    TypeError, ValueError
        A value is not finite, a sum is not positive, or a shape is none of these.
    """

    def __init__(self, images: ArrayLike, pixel_scale: float) -> None:
        pictures = real_array("images", images)
        has_bands = pictures.ndim == 2 or pictures.shape[-3:-2] == (len(BANDS),)
        if pictures.ndim not in (2, 3, 4) or not has_bands:
            raise ValueError(
                f"images has shape {pictures.shape}; allowed are (h, w), (3, h, w) and "
                "(B, 3, h, w)."
            )
        if pictures.ndim == 2:
            pictures = np.stack([pictures] * len(BANDS))
        if pictures.ndim == 3:
            pictures = pictures[None]
        total = pictures.sum(axis=(2, 3))
        if not (total > 0).all():
            stamp, band = (int(i) for i in np.argwhere(~(total > 0))[0])
            raise ValueError(
                f"images[{stamp}, {band}] sums to {total[stamp, band]:g}, which is no light to "
                "scale: subtract the sky before, and give sums above 0."
            )
        self.pixel_scale = float(
            real_array("pixel_scale", pixel_scale, 0.0, 100.0, low_is_allowed=False, ndim=0)
        )
        # A density: the integral of every picture is 1.
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
        """Fill ``out``, (B, bands, H, W), with lensed pictures; arguments as of `render`.

        Raises
        ------
        ValueError
            There is neither one picture nor one per injection.
        """
        count, _, height, width = out.shape
        if len(self) not in (1, count):
            raise ValueError(
                f"stamps holds {len(self)} pictures for {count} injections; give 1 or {count}."
            )
        y, x = np.meshgrid(
            (np.arange(height) - (height - 1) / 2) * pixel_scale,
            (np.arange(width) - (width - 1) / 2) * pixel_scale,
            indexing="ij",
        )
        # As fine as the picture, so that none of its pixels falls between two samples.
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
        """Row and column in the picture that light at an image position comes from."""
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
        """Pixels that may see the picture: those that come close to it, and all near the lens."""
        rows, columns = self._pixels(density, lens, source, x, y)
        height, width = density.shape[-2:]
        margin = 2 + 2 * pixel_scale / self.pixel_scale
        is_near: NDArray[np.bool_] = (np.abs(rows - (height - 1) / 2) < height / 2 + margin) & (
            np.abs(columns - (width - 1) / 2) < width / 2 + margin
        )
        if lens is not None:
            # Light is stretched there, the other way.
            near = (lens.theta_e_arcsec[0] / 2) ** 2
            is_near |= (x - lens.x0_arcsec[0]) ** 2 + (y - lens.y0_arcsec[0]) ** 2 < near
        return is_near
