"""Noise of the arc itself: photon noise and texture, both off by default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dhs.arguments import real_array
from dhs.constants import BANDS
from dhs.injection.streams import Purpose, generator

MOST_ELECTRONS = 1e15


@dataclass(frozen=True, eq=False)
class Noise:
    """Noise that an arc adds to the noise of its host.

    Attributes
    ----------
    gain : float, (3,) or (B, 3) array_like, optional
        Photoelectrons per nanomaggy in g, r, z, above 0. Turns on the Poisson noise of the
        arc's photons. None leaves it off.
    texture : float, (3,) or (B, 3) array_like, optional
        Standard deviation of Gaussian noise added to every pixel, in units of the host's own
        noise in that band (1.4826 MAD of its outer annulus), at least 0. None leaves it off.

    Raises
    ------
    TypeError, ValueError
        A gain is not above 0, a texture is negative, a value is not finite, or an array does
        not have one of these shapes.
    """

    gain: ArrayLike | None = None
    texture: ArrayLike | None = None

    def __post_init__(self) -> None:
        if self.gain is not None:
            gain = real_array("gain", self.gain, low=0.0, low_is_allowed=False)
            object.__setattr__(self, "gain", _per_band("gain", gain))
        if self.texture is not None:
            texture = real_array("texture", self.texture, low=0.0)
            object.__setattr__(self, "texture", _per_band("texture", texture))

    @classmethod
    def from_inverse_variance(
        cls,
        inverse_variance: ArrayLike,
        sky_nmgy_per_pixel: ArrayLike,
        texture: ArrayLike | None = None,
    ) -> Self:
        """Create noise with the gain of an image whose noise is that of its sky.

        The variance of a pixel is then ``sky / gain``, so ``gain = sky * inverse_variance``.

        Parameters
        ----------
        inverse_variance : (3,) or (B, 3) array_like
            Inverse variance of a pixel in g, r, z, nanomaggies^-2, above 0.
        sky_nmgy_per_pixel : (3,) or (B, 3) array_like
            Level of the subtracted sky, nanomaggies per pixel, above 0.
        texture : float, (3,) or (B, 3) array_like, optional
            Same as in the class.

        Returns
        -------
        Noise

        Raises
        ------
        TypeError, ValueError
            A value is out of its range.
        """
        weight = real_array("inverse_variance", inverse_variance, low=0.0, low_is_allowed=False)
        sky = real_array("sky_nmgy_per_pixel", sky_nmgy_per_pixel, low=0.0, low_is_allowed=False)
        return cls(weight * sky, texture)

    def apply(
        self,
        arc: NDArray[np.float32],
        host_noise: NDArray[np.float64],
        seed: int,
        ids: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        """Return the arcs with their noise, which depends only on the seed and the ids.

        Parameters
        ----------
        arc : (B, 3, H, W) float32
            Arcs without noise, nanomaggies.
        host_noise : (B, 3) float64
            Standard deviation of the host's pixels, nanomaggies.
        seed : int
            Random seed.
        ids : (B,) int64
            Ids of the injections.

        Returns
        -------
        (B, 3, H, W) float32
            ``arc`` itself if all noise is off.

        Raises
        ------
        ValueError
            The gain or the texture has neither one row nor one per injection, or a pixel has
            more than 1e15 electrons.
        """
        if self.gain is None and self.texture is None:
            return arc
        noisy = arc.copy()
        gain = _for_all("gain", self.gain, len(arc))
        texture = _for_all("texture", self.texture, len(arc))
        for i, number in enumerate(ids):
            if gain is not None:
                rng = generator(seed, int(number), Purpose.POISSON)
                for image, electrons_per_nmgy in zip(noisy[i], gain[i], strict=True):
                    # The FFT leaves values around -1e-9 where there is no light.
                    mean = np.clip(image.astype(np.float64), 0, None) * electrons_per_nmgy
                    if mean.max(initial=0) > MOST_ELECTRONS:
                        raise ValueError(
                            f"gain={electrons_per_nmgy:g} gives injection {number} a pixel of "
                            f"{mean.max():.3g} electrons; at most {MOST_ELECTRONS:g} are allowed."
                        )
                    image[:] = rng.poisson(mean) / electrons_per_nmgy
            if texture is not None:
                rng = generator(seed, int(number), Purpose.TEXTURE)
                sigma = (texture[i] * host_noise[i])[:, None, None]
                noisy[i] += (sigma * rng.standard_normal(arc.shape[1:])).astype(np.float32)
        return noisy


def _per_band(name: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    if values.ndim > 2 or (values.ndim and values.shape[-1] != len(BANDS)):
        raise ValueError(f"{name} has shape {values.shape}; expected a number, (3,) or (B, 3).")
    wide: NDArray[np.float64] = np.atleast_2d(values * np.ones(len(BANDS)))
    return wide


def _for_all(name: str, values: ArrayLike | None, count: int) -> NDArray[np.float64] | None:
    if values is None:
        return None
    wide = np.asarray(values, np.float64)
    if len(wide) not in (1, count):
        raise ValueError(f"{name} has values for {len(wide)} injections; give 1 or {count}.")
    return np.broadcast_to(wide, (count, wide.shape[1]))
