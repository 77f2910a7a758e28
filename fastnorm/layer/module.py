"""The normalisation as a layer, which stores the annulus in the model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastnorm.annulus import Annulus
from fastnorm.layer.operator import normalize_outer_annulus


class OuterAnnulusNorm(nn.Module):
    """The first layer of a lens finder, which normalises raw images in nanomaggies.

    The radii are part of the state dict, so that loading weights trained with
    a different annulus fails.

    Parameters
    ----------
    r_in, r_out : float
        Radii of the annulus in pixels.
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
        super().__init__()
        self.annulus = Annulus(r_in, r_out)
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
        """Normalise (..., H, W) images; see `fastnorm.layer.operator.normalize_outer_annulus`.

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
            Same as in `fastnorm.layer.operator.normalize_outer_annulus`.
        """
        out: Tensor = normalize_outer_annulus(
            images,
            self.annulus.r_in,
            self.annulus.r_out,
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

    def extra_repr(self) -> str:
        return (
            f"r_in={self.annulus.r_in}, r_out={self.annulus.r_out}, clip={self.clip}, "
            f"nan_to_zero={self.nan_to_zero}, eps={self.eps}, dtype={self.dtype}, "
            f"channels_last={self.channels_last}"
        )

    def get_extra_state(self) -> Tensor:
        return torch.tensor([self.annulus.r_in, self.annulus.r_out], dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        loaded = Annulus(*state.tolist())
        if loaded != self.annulus:
            raise ValueError(
                f"the state dict has the annulus ({loaded.r_in}, {loaded.r_out}), but this layer "
                f"has ({self.annulus.r_in}, {self.annulus.r_out}); models with different annuli "
                "must never be mixed. Build the layer with the annulus that the model was trained "
                "with."
            )
