"""The function `dhs.preprocess.preprocess_stack` as a layer, bit-identical to it."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from dhs.constants import CUTOUT_SIZE
from dhs.preprocess.spec import PreprocessSpec
from fastnorm import OuterAnnulusNorm
from fastnorm.annulus import radius_map
from fastnorm.kinds import flag
from fastnorm.normalize.tensors import turn

RINGS = 32


class Preprocess(nn.Module):
    """A layer that turns raw cutouts in nanomaggies into the input of the backbone.

    Parameters
    ----------
    spec : PreprocessSpec
        Preprocessing to apply.
    size : int
        Side of the cutouts in pixels.
    dtype : torch.dtype, optional
        Dtype of the result; float32 by default.
    channels_last : bool
        Return the result in ``torch.channels_last``.

    Raises
    ------
    ValueError
        The crop does not fit the cutouts, or the annulus does not fit the crop.
    """

    def __init__(
        self,
        spec: PreprocessSpec,
        size: int = CUTOUT_SIZE,
        *,
        dtype: torch.dtype | None = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        channels_last = flag("channels_last", channels_last)
        side = spec.side(size)
        if side > size:
            raise ValueError(
                f"crop_size={spec.crop_size} does not fit cutouts of {size} x {size}; it must be "
                f"at most {size}, or use crop=False."
            )
        spec.annulus.mask(side, side)
        self.spec, self.size = spec, size
        first = (size - side) // 2
        self._window = slice(first, first + side)
        has_residual = spec.mode == "residual_radial_profile"
        self.normalize = OuterAnnulusNorm(
            spec.annulus.r_in,
            spec.annulus.r_out,
            clip=None if has_residual else spec.clip_range,
            nan_to_zero=not has_residual,
            eps=spec.eps,
            dtype=torch.float32 if has_residual or dtype is None else dtype,
            channels_last=channels_last and not has_residual,
        )
        self.residual = RadialResidual(side, spec.clip_range, dtype) if has_residual else None
        self.channels_last = channels_last

    def use_channels_last(self, channels_last: bool) -> None:
        """Return results in ``torch.channels_last`` from now on, or no longer."""
        self.channels_last = channels_last
        self.normalize.channels_last = channels_last and self.residual is None

    def forward(
        self,
        images: Tensor,
        *,
        index: Tensor | None = None,
        dihedral: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Preprocess a batch.

        Parameters
        ----------
        images : (N, C, size, size) tensor
            Raw cutouts in nanomaggies.
        index : (M,) int64 tensor, optional
            Rows of ``images`` to use.
        dihedral : (N or M,) integer tensor, optional
            Flip and rotation of each cutout, 0 to 7, applied after the normalisation.
        mask : bool tensor, broadcastable to ``images``, optional
            True marks a bad pixel.

        Returns
        -------
        (N or M, C, side, side) tensor
            Preprocessed cutouts.

        Raises
        ------
        ValueError
            The images do not have the size of this layer.
        """
        if images.ndim != 4 or images.shape[-2:] != (self.size, self.size):
            raise ValueError(
                f"images has shape {tuple(images.shape)}; this model takes (N, bands, {self.size}, "
                f"{self.size}). Build it with size=... for other cutouts."
            )
        if mask is not None:
            mask = mask.expand(images.shape)[..., self._window, self._window]
        # The normaliser reads the window in place, in 16 bits as well, so that a stack that stays
        # on a device is never copied.
        images = images[..., self._window, self._window]
        if images.dtype == torch.float64:
            images, index, mask = _gather(images, index, mask)
            images = images.float()
        if self.residual is None:
            return cast(Tensor, self.normalize(images, index=index, dihedral=dihedral, mask=mask))
        images, index, mask = _gather(images, index, mask)
        images = torch.where(images.isnan(), 0, images)
        out: Tensor = self.residual(self.normalize(images, mask=mask))
        if dihedral is not None:
            out = turn(out, dihedral)
        return out.contiguous(memory_format=torch.channels_last) if self.channels_last else out


def _gather(
    images: Tensor, index: Tensor | None, mask: Tensor | None
) -> tuple[Tensor, None, Tensor | None]:
    if index is None:
        return images, None, mask
    return images[index], None, None if mask is None else mask[index]


class RadialResidual(nn.Module):
    """A layer that subtracts the azimuthal median profile of every plane, then clips.

    NaN becomes 0.

    Parameters
    ----------
    side : int
        Side of the planes in pixels.
    clip_range : float
        Limit of the absolute value of the result.
    dtype : torch.dtype, optional
        Dtype of the result; float32 if None.
    """

    def __init__(self, side: int, clip_range: float, dtype: torch.dtype | None) -> None:
        super().__init__()
        ring = np.floor(radius_map(side, side)).astype(np.int64).reshape(-1)
        self._rings = [np.flatnonzero(ring == k) for k in range(RINGS)]
        # Sorted by ring, so that one gather collects all rings.
        self.register_buffer("_pixels", torch.from_numpy(np.concatenate(self._rings)), False)
        self.register_buffer("_ring", torch.from_numpy(np.minimum(ring, RINGS - 1)), False)
        self._lengths = [len(pixels) for pixels in self._rings]
        self.clip_range, self.dtype = clip_range, dtype

    def forward(self, planes: Tensor) -> Tensor:
        """Subtract the profile from float32 planes (..., H, W)."""
        flat = planes.flatten(-2)
        inside = torch.split(flat[..., cast(Tensor, self._pixels)], self._lengths, dim=-1)
        profile = torch.stack([_median(values) for values in inside], dim=-1)
        out = (flat - profile[..., cast(Tensor, self._ring)]).view_as(planes)
        out = torch.where(out.isnan(), 0, out).clamp(-self.clip_range, self.clip_range)
        return out if self.dtype is None else out.to(self.dtype)


def _median(values: Tensor) -> Tensor:
    """Return the median over the last axis like NumPy: NaN wins, middle pairs are averaged."""
    count = values.shape[-1]
    if count == 0:
        return values.new_zeros(values.shape[:-1])
    ordered = values.sort(dim=-1).values
    middle = ordered[..., count // 2]
    if count % 2 == 0:
        middle = (ordered[..., count // 2 - 1] + middle) / 2
    return torch.where(values.isnan().any(dim=-1), torch.nan, middle)
