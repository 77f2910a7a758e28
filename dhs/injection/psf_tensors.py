"""Convolution with PSFs on the device of the images."""

from __future__ import annotations

from functools import lru_cache
from itertools import count

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dhs.constants import PIXEL_SCALE
from dhs.injection.psf import SIDE, padded_size
from dhs.injection.psf_models import Profile, psf_profile


def transform_size(height: int, width: int, side: int = SIDE) -> tuple[int, int]:
    """Return the size of a transform that convolves an image with a PSF, and is fast.

    Parameters
    ----------
    height, width : int
        Size of the image, pixels.
    side : int
        Side of the PSF, pixels.

    Returns
    -------
    (int, int)
        Multiples of 4 without prime factors above 5.

    Raises
    ------
    ValueError
        The PSF is larger than 2 H - 1 by 2 W - 1.
    """
    rows, columns = padded_size(height, width, side, side)
    return fast_length(rows), fast_length(columns)


@lru_cache(maxsize=64)
def fast_length(least: int) -> int:
    """Return the smallest length from ``least`` on that the libraries of transforms are fast at."""
    return next(n for n in count(least) if n % 4 == 0 and pow(30, n.bit_length(), n) == 0)


def psf_transfer(
    fwhm: Tensor,
    size: tuple[int, int],
    pixel_scale: float = PIXEL_SCALE,
    side: int = SIDE,
    profile: Profile = psf_profile(),  # noqa: B008
) -> Tensor:
    """Compute the transforms of PSFs on the device of their widths.

    The PSFs are those of `dhs.injection.PSF.of_profile`. They are even in both axes, so that their
    transforms are real, and sums of cosines over a quadrant.

    Parameters
    ----------
    fwhm : (B, 3) tensor
        Full width at half maximum, arcsec.
    size : (int, int)
        Size of the transform, see `transform_size`.
    pixel_scale : float
        Arcsec per pixel.
    side : int
        Pixels per side of the PSF, odd.
    profile : Profile
        See `dhs.injection.psf_models.psf_profile`.

    Returns
    -------
    (B, 3, rows, columns + 2) tensor
        The values of half the plane, as of ``torch.fft.rfft2``, each of them twice, so that a
        product with the real and the imaginary parts is one product of real numbers.
    """
    offset = torch.arange(side // 2 + 1, device=fwhm.device, dtype=fwhm.dtype) * pixel_scale
    square = offset[:, None] ** 2 + offset**2
    quadrant = profile.value(profile.sharpness / fwhm[:, :, None, None] ** 2 * square)
    rows, columns = _cosines(size, len(offset), fwhm.dtype, fwhm.device)
    total = rows[0] @ (quadrant @ columns[:, 0, None])
    transfer: Tensor = rows @ (quadrant / total[..., None]) @ columns
    return transfer


def convolve(images: Tensor, transfer: Tensor) -> Tensor:
    """Convolve images with PSFs, like `dhs.injection.PSF.convolve`.

    Parameters
    ----------
    images : (B, 1, H, W) float32 tensor
        Images in one band.
    transfer : (B, 3, rows, columns + 2) float32 tensor
        Result of `psf_transfer` for a size that fits the images.

    Returns
    -------
    (B, 3, H, W) tensor
    """
    height, width = images.shape[2:]
    size = transfer.shape[2], transfer.shape[3] - 2
    seen = torch.view_as_real(torch.fft.rfft2(images, size)).flatten(3) * transfer
    whole: Tensor = torch.fft.irfft2(torch.view_as_complex(seen.view(*seen.shape[:3], -1, 2)), size)
    return whole[:, :, :height, :width].contiguous()


@lru_cache(maxsize=16)
def _cosines(
    size: tuple[int, int], half: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return tables (rows, half) and (half, columns + 2) that sum over a quadrant, kept there."""

    def table(length: int, frequencies: int) -> NDArray[np.float64]:
        phase = np.outer(np.arange(frequencies), np.arange(half)) * (2 * np.pi / length)
        # All pixels but those on the axes are there twice.
        cosines: NDArray[np.float64] = np.cos(phase) * np.where(np.arange(half), 2.0, 1.0)
        return cosines

    rows = table(size[0], size[0])
    columns = np.repeat(table(size[1], size[1] // 2 + 1), 2, axis=0).T
    return _on(device, rows, dtype), _on(device, columns, dtype)


def _on(device: torch.device, table: NDArray[np.float64], dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(table)).to(device, dtype)
