"""Point spread functions and convolution with them."""

from __future__ import annotations

import warnings
from typing import Self, TypedDict, Unpack

import numpy as np
import scipy.fft
from numpy.typing import ArrayLike, NDArray

from dhs.arguments import integer, real_array
from dhs.constants import BANDS, PIXEL_SCALE
from dhs.injection.psf_checks import off_centre, without_negatives
from dhs.injection.psf_models import MOFFAT_BETA, Profile, psf_profile
from fastnorm.dispatch import threads

# FWHM relative to r: seeing falls with the fifth root of the wavelength (Kolmogorov).
FWHM_OF_R = {"g": 1.07, "r": 1.0, "z": 0.94}
LEAST_FWHM_ARCSEC, MOST_FWHM_ARCSEC = 0.01, 20.0
SIDE = 63
NORMALISED = 1e-6


class Sampling(TypedDict, total=False):
    """Widths in the other bands, and the pixels; see `PSF.of_profile`."""

    fwhm_g_arcsec: ArrayLike | None
    fwhm_z_arcsec: ArrayLike | None
    pixel_scale: float
    side: int


class PSFNormalisationWarning(UserWarning):
    """A pixelised PSF had negative pixels or did not sum to 1, and was divided by its sum."""


class PSFCentreWarning(UserWarning):
    """The peak of a pixelised PSF is not in its middle, so that it moves every arc."""


class PSF:
    """One point spread function per band, for all injections or for each of them.

    Images integrated over pixels are convolved with the PSF of atmosphere and telescope, sampled
    at pixel centres. A PSF that already includes the pixel (an effective PSF, like the models of a
    survey's coadded images) blurs by an extra pixel, which broadens 1.3 arcsec by 1%.

    Parameters
    ----------
    images : array_like
        (h, w), (3, h, w) in g, r, z, or (B, 3, h, w). Sides must be odd, with the centre in the
        middle pixel, and values finite and not negative. An image that does not sum to 1 is
        normalised with a `PSFNormalisationWarning`. Negative pixels with at most 0.1 % of the sum
        of their image, as interpolation leaves them, become 0 with the same warning.

    Raises
    ------
    TypeError, ValueError
        A value is not finite or is too negative, a sum is 0, or a side is even.

    Warns
    -----
    PSFNormalisationWarning
        See above.
    PSFCentreWarning
        A peak is more than 0.1 pixels off the middle.
    """

    def __init__(self, images: ArrayLike) -> None:
        kernels = real_array("psf", images)
        if kernels.ndim not in (2, 3, 4) or (kernels.ndim > 2 and kernels.shape[-3] != len(BANDS)):
            raise ValueError(
                f"psf has shape {kernels.shape}; expected (h, w), (3, h, w) or (B, 3, h, w)."
            )
        if 0 in kernels.shape:
            raise ValueError(f"psf has shape {kernels.shape}; it must not be empty.")
        if kernels.shape[-1] % 2 == 0 or kernels.shape[-2] % 2 == 0:
            raise ValueError(
                f"psf has shape {kernels.shape}; both sides must be odd, so that the centre is a "
                "pixel."
            )
        kernels, said = without_negatives(kernels)
        if said is not None:
            warnings.warn(said, PSFNormalisationWarning, stacklevel=2)
        if kernels.ndim == 2:
            kernels = np.broadcast_to(kernels, (len(BANDS), *kernels.shape))
        if kernels.ndim == 3:
            kernels = kernels[None]
        total = kernels.sum(axis=(2, 3), keepdims=True)
        if not (total > 0).all():
            stamp, band = (int(i) for i in np.argwhere(~(total[:, :, 0, 0] > 0))[0])
            raise ValueError(f"psf[{stamp}, {band}] sums to 0; the sum must be positive.")
        worst = float(total.ravel()[np.abs(total - 1).argmax()])
        if said is None and abs(worst - 1) > NORMALISED:
            warnings.warn(
                f"the PSF sums to {worst:.9g} instead of 1; it is normalised.",
                PSFNormalisationWarning,
                stacklevel=2,
            )
        if (moved := off_centre(kernels)) is not None:
            warnings.warn(moved, PSFCentreWarning, stacklevel=2)
        self.images: NDArray[np.float64] = kernels / total

    def __len__(self) -> int:
        return len(self.images)

    @classmethod
    def gaussian(cls, fwhm_r_arcsec: ArrayLike, **sampling: Unpack[Sampling]) -> Self:
        """Create a Gaussian PSF; see `of_profile` for all other parameters and errors."""
        return cls.of_profile(psf_profile("gaussian"), fwhm_r_arcsec, **sampling)

    @classmethod
    def moffat(
        cls,
        fwhm_r_arcsec: ArrayLike,
        *,
        beta: float = MOFFAT_BETA,
        **sampling: Unpack[Sampling],
    ) -> Self:
        """Create a Moffat PSF, ``(1 + (r / alpha)^2)^-beta`` (Moffat 1969, A&A 3, 455).

        Parameters
        ----------
        fwhm_r_arcsec : float or (B,) array_like
            Full width at half maximum in r, in [0.01, 20] arcsec.
        beta : float
            Exponent, in (1, 100].
        **sampling
            ``fwhm_g_arcsec``, ``fwhm_z_arcsec``, ``pixel_scale`` and ``side``; see `of_profile`.

        Returns
        -------
        PSF

        Raises
        ------
        TypeError, ValueError
            An argument is out of its range.
        """
        return cls.of_profile(psf_profile("moffat", beta=beta), fwhm_r_arcsec, **sampling)

    @classmethod
    def of_profile(
        cls,
        profile: Profile,
        fwhm_r_arcsec: ArrayLike,
        *,
        fwhm_g_arcsec: ArrayLike | None = None,
        fwhm_z_arcsec: ArrayLike | None = None,
        pixel_scale: float = PIXEL_SCALE,
        side: int = SIDE,
    ) -> Self:
        """Create a PSF from a radial profile.

        Parameters
        ----------
        profile : Profile
            See `dhs.injection.psf_models.psf_profile`.
        fwhm_r_arcsec : float or (B,) array_like
            Full width at half maximum in r, in [0.01, 20] arcsec.
        fwhm_g_arcsec, fwhm_z_arcsec : float or (B,) array_like, optional
            Full width at half maximum in g and z, arcsec. By default 1.07 and 0.94 times the
            width in r.
        pixel_scale : float
            Arcsec per pixel.
        side : int
            Pixels per side of the images, odd.

        Returns
        -------
        PSF

        Raises
        ------
        TypeError, ValueError
            An argument is out of its range.
        """
        fwhm, square = _grid(fwhm_r_arcsec, fwhm_g_arcsec, fwhm_z_arcsec, pixel_scale, side)
        # One quadrant, whose first pixel is the centre, is mirrored.
        quadrant = profile.value(profile.sharpness * square / fwhm**2)
        half = np.concatenate([quadrant[..., :0:-1, :], quadrant], axis=2)
        images = np.concatenate([half[..., :0:-1], half], axis=3)
        return cls(images / images.sum(axis=(2, 3), keepdims=True))

    def convolve(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Convolve images with the PSF, without wrap-around, so that light leaves at the edges.

        Parameters
        ----------
        images : (B, 3, H, W) or (B, 1, H, W) float32
            A single band is convolved with the PSFs of all three bands.

        Returns
        -------
        (B, 3, H, W) float32

        Raises
        ------
        ValueError
            The PSF is larger than the padded stamp, 2 H - 1 by 2 W - 1, or there are neither
            one nor B PSFs.
        """
        count, _, height, width = images.shape
        rows, columns = self.images.shape[2:]
        if len(self) not in (1, count):
            raise ValueError(f"psf has {len(self)} PSFs for {count} images; give 1 or {count}.")
        size = padded_size(height, width, rows, columns)
        workers = threads.num_threads()
        transfer = self._transfer(size, workers)
        seen = scipy.fft.rfft2(images, size, workers=workers) * transfer
        convolved = scipy.fft.irfft2(seen, size, workers=workers, overwrite_x=True)
        result: NDArray[np.float32] = np.ascontiguousarray(convolved[:, :, :height, :width])
        return result

    def _transfer(self, size: tuple[int, int], workers: int) -> NDArray[np.complex64]:
        """Compute the transform of the PSF with its centre at the origin, complex64."""
        rows, columns = self.images.shape[2:]
        padded = np.zeros((*self.images.shape[:2], *size), np.float32)
        padded[:, :, :rows, :columns] = self.images
        padded = np.roll(padded, (-(rows // 2), -(columns // 2)), axis=(2, 3))
        transfer: NDArray[np.complex64] = scipy.fft.rfft2(padded, workers=workers)
        return transfer


def padded_size(height: int, width: int, rows: int, columns: int) -> tuple[int, int]:
    """Compute the size of the transform that convolves an image with a PSF.

    Parameters
    ----------
    height, width : int
        Size of the image, pixels.
    rows, columns : int
        Size of the PSF, pixels.

    Returns
    -------
    (int, int)

    Raises
    ------
    ValueError
        The PSF is larger than 2 H - 1 by 2 W - 1.
    """
    if rows > 2 * height - 1 or columns > 2 * width - 1:
        raise ValueError(
            f"the PSF is {rows} x {columns} pixels, larger than the padded stamp, "
            f"{2 * height - 1} x {2 * width - 1}; cut it to that size."
        )
    # Light that wraps around lands in the padding, for which half a PSF is enough.
    return (
        scipy.fft.next_fast_len(height + rows // 2, real=True),
        scipy.fft.next_fast_len(width + columns // 2, real=True),
    )


def _grid(
    fwhm_r: ArrayLike,
    fwhm_g: ArrayLike | None,
    fwhm_z: ArrayLike | None,
    pixel_scale: float,
    side: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the FWHM, (B, 3, 1, 1), and one quadrant of squared distances from the centre."""
    scale = float(real_array("pixel_scale", pixel_scale, 0.0, 100.0, low_is_allowed=False, ndim=0))
    side = integer("side", side, 1, 1023)
    if side % 2 == 0:
        raise ValueError(f"side={side} is not allowed: it must be odd.")

    def width(band: str, value: ArrayLike) -> NDArray[np.float64]:
        name = f"fwhm_{band}_arcsec"
        return real_array(name, value, LEAST_FWHM_ARCSEC, MOST_FWHM_ARCSEC)

    in_r = width("r", fwhm_r)
    widths = [
        FWHM_OF_R[band] * in_r if value is None else width(band, value)
        for band, value in zip(BANDS, (fwhm_g, fwhm_r, fwhm_z), strict=True)
    ]
    try:
        fwhm = np.stack(np.broadcast_arrays(*(np.atleast_1d(value) for value in widths)), axis=1)
    except ValueError as error:
        listed = ", ".join(str(value.shape) for value in widths)
        raise ValueError(
            f"the FWHM in g, r, z have shapes {listed}; give numbers or arrays of shape (B,)."
        ) from error
    offset = np.arange(side // 2 + 1) * scale
    return fwhm[:, :, None, None], offset[:, None] ** 2 + offset**2
