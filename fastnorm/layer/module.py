"""The normalisation as a layer, which stores its footprint in the model."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import astuple
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from fastnorm.annulus import Annulus
from fastnorm.footprint import (
    EllipticalAnnulus,
    Footprint,
    PixelFootprint,
    is_same,
    open_footprint,
)
from fastnorm.kinds import flag
from fastnorm.layer.arguments import check_settings, check_tensors
from fastnorm.layer.buffers import EXTRA_STATE, Buffers
from fastnorm.layer.expression import normalized
from fastnorm.layer.mismatch import FootprintMismatchError, tell_missing
from fastnorm.layer.operator import normalize_footprint
from fastnorm.normalize.axes import check_fit, has_bands_last
from fastnorm.normalize.tensors import constant_pixels, remember

SETTINGS_ROUNDING = 1e-5
"""Relative difference of two settings that an average of many float32 states may have."""


class FootprintNorm(nn.Module):
    """A layer that normalises raw images by the median and MAD of a footprint.

    The footprint, ``clip``, ``nan_to_zero`` and ``eps`` are part of the state dict, so that loading
    weights trained with different ones fails.

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
        ``footprint`` is not a footprint, or ``clip`` or ``eps`` is not a number.
    ValueError
        ``footprint`` is an array that does not have two dimensions, or ``clip``, ``eps`` or
        ``dtype`` is not allowed.

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
        check_settings(clip, eps, dtype)
        self._buffers = Buffers(self)
        self.is_compared = True
        self.footprint: Footprint = open_footprint(footprint)
        self._key = remember(self.footprint)
        self.clip = clip
        self.nan_to_zero = flag("nan_to_zero", nan_to_zero)
        self.eps = eps
        self.dtype = dtype
        self.channels_last = flag("channels_last", channels_last)

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
        check_tensors(images, index, dihedral, mask)
        if images.ndim < 2:
            raise ValueError(
                f"images has shape {tuple(images.shape)}; expected two or more dimensions, "
                "(..., H, W)."
            )
        if not self.is_compared:
            raise ValueError(
                "the state dict of this layer was put on the meta device, and its footprint was "
                "not compared with that of the layer; give the layer a device in device_map, not "
                "'disk'. It has no weights."
            )
        # A compiler must take the size as a constant, because the table depends on it.
        height, width = operator.index(images.shape[-2]), operator.index(images.shape[-1])
        if has_bands_last(images.shape[:-2], height, width):
            check_fit(self.footprint, images)
        # ONNX has no such operator; its graph sorts the pixels instead.
        compute = normalized if torch.onnx.is_in_onnx_export() else normalize_footprint
        out: Tensor = compute(
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

    def __prepare_scriptable__(self) -> NoReturn:
        raise NotImplementedError(
            f"torch.jit.script cannot compile {type(self).__name__}, whose table of pixels depends "
            "on the size of the images; use torch.compile, torch.export.export or "
            "torch.onnx.export."
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A pickled layer may arrive in a process that does not know its footprint.
        super().__setstate__({"is_compared": True} | state)  # type: ignore[no-untyped-call]
        self._buffers = Buffers(self)
        self._key = remember(self.footprint)

    def extra_repr(self) -> str:
        return (
            f"{self.footprint}, clip={self.clip}, nan_to_zero={self.nan_to_zero}, "
            f"eps={self.eps}, dtype={self.dtype}, channels_last={self.channels_last}"
        )

    def get_extra_state(self) -> Tensor:
        """Return the footprint and how it is used, as a tensor that may be cast and averaged.

        An annulus is its radii, an ellipse its radii, q and phi; ``clip`` (0 for None), the decimal
        logarithm of ``eps`` and ``nan_to_zero`` follow. A boolean array is the first plane of
        (4, H, W), and these three are the others.
        """
        settings = self._settings()
        match self.footprint:
            case Annulus() | EllipticalAnnulus() as ring:
                return torch.tensor([*astuple(ring), *settings], dtype=torch.float64, device="cpu")
            case PixelFootprint(height, width) as listed:
                state = np.zeros((4, height * width), np.float32)
                state[0, listed.pixels(height, width)] = 1
                state[1:] = np.array(settings)[:, None]
                return torch.from_numpy(state).reshape(4, height, width)
        raise AssertionError(self.footprint)

    def _settings(self) -> tuple[float, float, float]:
        # The logarithm, because 1e-8 is 0 in float16.
        limit = 0.0 if self.clip is None or math.isinf(self.clip) else self.clip
        return (limit, math.log10(self.eps), float(self.nan_to_zero))

    def set_extra_state(self, state: Tensor) -> None:
        self.require_same(state, "the state dict", "this layer")

    def require_same(self, state: Tensor, theirs: str, ours: str) -> None:
        """Refuse the state of a layer with another footprint or other settings.

        Parameters
        ----------
        state : Tensor
            What `get_extra_state` returned, of this or an earlier version.
        theirs, ours : str
            Names of the owner of ``state`` and of this layer, for the message.

        Raises
        ------
        FootprintMismatchError
            The footprint or a setting differs.
        ValueError
            ``state`` is not of such a layer.
        """
        rounding = torch.finfo(state.dtype).eps if state.is_floating_point() else 0.0
        loaded, settings = _opened(state.detach().cpu().double())
        own = self.footprint
        is_own = loaded == own
        if isinstance(loaded, Annulus | EllipticalAnnulus) and isinstance(
            own, Annulus | EllipticalAnnulus
        ):
            is_own = is_same(loaded, own, rounding)
        if not is_own:
            raise FootprintMismatchError(
                f"{theirs} has {_described(loaded)}, but {ours} has "
                f"{_described(own)}; models with different annuli must never be mixed. "
                "Build the layer with the annulus that the model was trained with."
            )
        # Older states have the footprint alone.
        if settings is not None and not np.allclose(
            settings, self._settings(), rtol=max(rounding, SETTINGS_ROUNDING), atol=0
        ):
            raise FootprintMismatchError(
                f"{theirs} has {_named(settings)}, but {ours} has "
                f"{_named(self._settings())}; build the layer with the settings that the model "
                "was trained with."
            )

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        super()._load_from_state_dict(
            state_dict,
            prefix,
            local_metadata,
            strict,
            missing_keys,
            unexpected_keys,
            error_msgs,
        )
        key = f"{prefix}{EXTRA_STATE}"
        if key not in state_dict:
            tell_missing(key, strict, error_msgs)


def _opened(state: Tensor) -> tuple[Footprint, list[float] | None]:
    """Return the footprint of a state, and its settings if it has them."""
    if state.ndim == 1 and state.numel() in (2, 4, 5, 7):
        count = 2 if state.numel() in (2, 5) else 4
        numbers: list[float] = state.tolist()
        ring = (Annulus if count == 2 else EllipticalAnnulus)(*numbers[:count])
        return ring, numbers[count:] or None
    if state.ndim == 2 or (state.ndim == 3 and len(state) == 4 and state.numel()):
        plane = state if state.ndim == 2 else state[0]
        if bool(((plane == 0) | (plane == 1)).all()):
            settings = None if state.ndim == 2 else state[1:, 0, 0].tolist()
            return open_footprint(plane == 1), settings
    raise ValueError(
        f"the state dict has no footprint of this version, but a tensor of shape "
        f"{tuple(state.shape)}; load weights that this layer, or an earlier version, saved."
    )


def has_footprint(state: Tensor) -> bool:
    """Tell whether a tensor may be the state of a layer, of any footprint."""
    try:
        _opened(state.detach().cpu().double())
    except (TypeError, ValueError):
        return False
    return True


def _named(settings: Sequence[float]) -> str:
    clip, exponent, nan_to_zero = settings
    limit = f"clip={clip:.6g}" if clip else "clip=None"
    return f"{limit}, eps={10**exponent:.4g}, nan_to_zero={nan_to_zero > 0.5}"


class OuterAnnulusNorm(FootprintNorm):
    """The first layer of a lens finder, which normalises raw images in nanomaggies.

    The radii, ``clip``, ``nan_to_zero`` and ``eps`` are part of the state dict, so that loading
    weights trained with different ones fails.

    Parameters
    ----------
    r_in, r_out : float
        Radii of the annulus in pixels.
    clip, nan_to_zero, eps, dtype, channels_last
        Same as in `FootprintNorm`.

    Raises
    ------
    TypeError, ValueError
        The radii are not valid, see `fastnorm.Annulus`; or a setting is not.

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
