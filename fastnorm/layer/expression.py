"""The normalisation as an expression of plain PyTorch operations, with the values of the operator.

It sorts the pixels of the footprint, which takes many times as long as the kernels do. PyTorch can
differentiate it in every mode and any number of times, and map it over batches.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastnorm.normalize import tensors


def normalized(
    images: Tensor,
    pixels: Tensor,
    index: Tensor | None = None,
    dihedral: Tensor | None = None,
    mask: Tensor | None = None,
    eps: float = 1e-8,
    clip: float | None = None,
    nan_to_zero: bool = False,
    dtype: torch.dtype | None = None,
    channels_last: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute what `fastnorm.layer.operator.normalize_footprint` does, without its checks.

    Parameters
    ----------
    images, pixels, index, dihedral, mask, eps, clip, nan_to_zero, dtype, channels_last
        Same as in `fastnorm.layer.operator.normalize_footprint`.

    Returns
    -------
    out, median, scale : tensors
        Same as there. Clipped pixels and NaN have no derivative.
    """
    rows, bad, is_row = images, None if mask is None else mask.expand(images.shape), None
    if index is not None:
        # As on a GPU, the planes of an index out of range are NaN.
        is_row = (index >= 0) & (index < images.shape[0])
        index = torch.where(is_row, index, 0)
        rows, bad = rows[index], None if bad is None else bad[index]
    x = rows.to(tensors.computed_in(images.dtype))
    if nan_to_zero:
        x = torch.where(x.isnan(), 0, x)
    median, mad = _median_mad(x, bad, pixels)
    # The optimiser of the ONNX exporter takes a constant of 1e-8 for 0, and leaves out the sum.
    scale = (mad.double() + eps * (mad >= 0).double()).to(x.dtype)
    if is_row is not None:
        inside = is_row.reshape(-1, *[1] * (median.ndim - 1))
        median, scale = (torch.where(inside, each, torch.nan) for each in (median, scale))
    out = _divided(x, median[..., None, None], scale[..., None, None], clip, nan_to_zero)
    if dihedral is not None:
        out = tensors.turn(out, dihedral)
    # The transforms of torch.func have no other layout.
    has_layout = channels_last and not torch._C._are_functorch_transforms_active()
    layout = torch.channels_last if has_layout else torch.contiguous_format
    return out.to(dtype or images.dtype).contiguous(memory_format=layout), median, scale


def _median_mad(x: Tensor, bad: Tensor | None, pixels: Tensor) -> tuple[Tensor, Tensor]:
    values = x.flatten(-2)[..., pixels.long()]
    left_out = values.isnan()
    if bad is not None:
        left_out = left_out | bad.flatten(-2)[..., pixels.long()]
    median = _middle_value(values, left_out)
    is_defined = ~median.isnan()
    median = torch.where(is_defined, median, 0)
    deviation = torch.where(left_out, 0, values) - median[..., None]
    # Infinities less an infinite median are NaN, and so would be the derivative of their size.
    left_out = left_out | deviation.isnan()
    mad = _middle_value(torch.where(left_out, 0, deviation).abs(), left_out)
    return median, torch.where(is_defined, mad, 0)


def _middle_value(values: Tensor, left_out: Tensor) -> Tensor:
    """Return the median of the last axis without some of its values; 0 if none is left."""
    count = (~left_out).sum(-1, keepdim=True)
    ordered = _sorted(torch.where(left_out, torch.inf, values))
    ranks = torch.cat([(count - 1) // 2, count // 2], -1).clamp_min(0)
    first, second = ordered.gather(-1, ranks).unbind(-1)
    middle = torch.where(count[..., 0] % 2 == 1, first, (first + second) * 0.5)
    return torch.where(count[..., 0] > 0, middle, 0)


def _sorted(values: Tensor) -> Tensor:
    # ONNX cannot sort stably. Of equal values, the order decides which has the derivative.
    if torch.onnx.is_in_onnx_export():
        return values.sort(dim=-1).values
    return values.sort(stable=True, dim=-1).values


def _divided(
    x: Tensor, median: Tensor, scale: Tensor, clip: float | None, nan_to_zero: bool
) -> Tensor:
    fixed = ((x - median) / scale).detach()
    passes = ~fixed.isnan() if clip is None else fixed.abs() <= clip
    if nan_to_zero:
        fixed = torch.where(fixed.isnan(), 0, fixed)
    if clip is not None:
        fixed = fixed.clamp(-clip, clip)
    # Pixels without a derivative are 0 here, since 0 times an infinity would be NaN.
    return torch.where(passes, (torch.where(passes, x, 0) - median) / scale, fixed)
