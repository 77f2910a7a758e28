"""The normalisation as a layer, which stores its footprint in the model."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fastnorm.annulus import Annulus
from fastnorm.footprint import EllipticalAnnulus, Footprint, PixelFootprint, open_footprint
from fastnorm.layer.operator import normalize_footprint
from fastnorm.normalize.tensors import constant_pixels, remember


class FootprintNorm(nn.Module):
    """A layer that normalises raw images by the median and MAD of a footprint.

    The footprint is part of the state dict, so that loading weights trained with
    a different one fails.

    Parameters
    ----------
    footprint : Annulus, EllipticalAnnulus, or (H, W) bool array or tensor
        Pixels that the statistics use.
    clip : float or None
        Limit the result to ``[-clip, clip]``.
    nan_to_zero : bool
        Replace NaN by 0 before the statistics and after the division.
    eps : float
        Added to the MAD in float64.
    dtype : torch.dtype, optional
        Dtype of the result; that of the images by default.
    channels_last : bool
        Store the result in ``torch.channels_last`` format.

    Raises
    ------
    TypeError
        ``footprint`` is not a footprint.
    ValueError
        It is an array that does not have two dimensions.

    Examples
    --------
    >>> layer = FootprintNorm(torch.ones(64, 64) > 0)
    >>> layer(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 3, 64, 64])
    """

    def __init__(
        self,
        footprint: Any,
        *,
        clip: float | None = 10.0,
        nan_to_zero: bool = True,
        eps: float = 1e-8,
        dtype: torch.dtype | None = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.footprint: Footprint = open_footprint(footprint)
        self._key = remember(self.footprint)
        self.clip = clip
        self.nan_to_zero = nan_to_zero
        self.eps = eps
        self.dtype = dtype
        self.channels_last = channels_last

    def forward(
        self,
        images: Tensor,
        *,
        index: Tensor | None = None,
        dihedral: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Normalise (..., H, W) images; see `fastnorm.layer.operator.normalize_footprint`.

        Parameters
        ----------
        images : (..., H, W) tensor
            float16, bfloat16, float32 or float64, in nanomaggies.
        index : (N,) int64 tensor, optional
            Rows of ``images`` to gather.
        dihedral : (N,) integer tensor, optional
            Dihedral element of every image, 0 to 7: how to flip and turn it.
        mask : bool tensor, broadcastable to ``images``, optional
            True is bad.

        Returns
        -------
        (..., H, W) tensor
            The normalised images.

        Raises
        ------
        TypeError, ValueError, BackendUnavailableError
            Same as in `fastnorm.layer.operator.normalize_footprint`; or the footprint does not
            fit the images.
        """
        if images.ndim < 2:
            raise ValueError(
                f"images has shape {tuple(images.shape)}; expected two or more dimensions, "
                "(..., H, W)."
            )
        # A compiler must take the size as a constant, because the table depends on it.
        height, width = operator.index(images.shape[-2]), operator.index(images.shape[-1])
        out: Tensor = normalize_footprint(
            images,
            constant_pixels(self._key, height, width, images.device),
            index,
            dihedral,
            mask,
            self.eps,
            self.clip,
            self.nan_to_zero,
            self.dtype,
            self.channels_last,
        )[0]
        return out

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A pickled layer may arrive in a process that does not know its footprint.
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._key = remember(self.footprint)

    def extra_repr(self) -> str:
        return (
            f"{self.footprint}, clip={self.clip}, nan_to_zero={self.nan_to_zero}, "
            f"eps={self.eps}, dtype={self.dtype}, channels_last={self.channels_last}"
        )

    def get_extra_state(self) -> Tensor:
        """Return the footprint: radii, radii with q and phi, or a (H, W) bool tensor."""
        match self.footprint:
            case Annulus(r_in, r_out):
                return torch.tensor([r_in, r_out], dtype=torch.float64)
            case EllipticalAnnulus(r_in, r_out, q, phi):
                return torch.tensor([r_in, r_out, q, phi], dtype=torch.float64)
            case PixelFootprint(height, width) as listed:
                mask = np.zeros(height * width, bool)
                mask[listed.pixels(height, width)] = True
                return torch.from_numpy(mask).reshape(height, width)
        raise AssertionError(self.footprint)

    def set_extra_state(self, state: Tensor) -> None:
        loaded: Footprint
        if state.dtype == torch.bool:
            loaded = open_footprint(state.cpu())
        else:
            loaded = (Annulus if state.numel() == 2 else EllipticalAnnulus)(*state.tolist())
        if loaded != self.footprint:
            raise ValueError(
                f"the state dict has {_described(loaded)}, but this layer has "
                f"{_described(self.footprint)}; models with different annuli must never be mixed. "
                "Build the layer with the annulus that the model was trained with."
            )


class OuterAnnulusNorm(FootprintNorm):
    """The first layer of a lens finder, which normalises raw images in nanomaggies.

    The radii are part of the state dict, so that loading weights trained with
    a different annulus fails.

    Parameters
    ----------
    r_in, r_out : float
        Radii of the annulus in pixels.
    clip, nan_to_zero, eps, dtype, channels_last
        Same as in `FootprintNorm`.

    Raises
    ------
    TypeError, ValueError
        The radii are not valid; see `fastnorm.Annulus`.

    Examples
    --------
    >>> layer = OuterAnnulusNorm(32.5, 45.0)
    >>> layer(torch.zeros(2, 3, 101, 101)).shape
    torch.Size([2, 3, 101, 101])
    """

    def __init__(
        self,
        r_in: float,
        r_out: float,
        *,
        clip: float | None = 10.0,
        nan_to_zero: bool = True,
        eps: float = 1e-8,
        dtype: torch.dtype | None = None,
        channels_last: bool = False,
    ) -> None:
        self.annulus = Annulus(r_in, r_out)
        super().__init__(
            self.annulus,
            clip=clip,
            nan_to_zero=nan_to_zero,
            eps=eps,
            dtype=dtype,
            channels_last=channels_last,
        )

    def extra_repr(self) -> str:
        radii = f"r_in={self.annulus.r_in}, r_out={self.annulus.r_out}"
        return super().extra_repr().replace(str(self.footprint), radii, 1)


def _described(footprint: Footprint) -> str:
    if isinstance(footprint, Annulus):
        return f"the annulus ({footprint.r_in}, {footprint.r_out})"
    return f"the footprint {footprint}"
