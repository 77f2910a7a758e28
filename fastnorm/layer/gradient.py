"""The exact subgradient of the normalisation, through the median and the MAD.

For ``y = (x - m) / s`` with ``m`` the median and ``s = MAD + eps`` of the
values ``v`` of the footprint, and ``g`` the gradient of ``y``::

    dL/dx_i  = g_i / s                         every pixel
    dL/ds    = -sum(g_i * y_i) / s
    dL/dm    = -sum(g_i) / s - dL/ds * (sign(c - m) + sign(e - m)) / 2
    dL/dv    gains dL/dm / 2 at each of the two middle values, and
             dL/ds * sign(v - m) / 2 at each of the two values, c and e,
             whose deviations are the middle ones

For an odd number of values the two middle values are the same one, which gets
both halves. Among equal values the first in sorting order gets the gradient,
which makes it a subgradient. Clipped pixels and NaN pass no gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor


def subgradient(
    grad: Tensor,
    grad_median: Tensor,
    grad_scale: Tensor,
    images: Tensor,
    mask: Tensor | None,
    median: Tensor,
    scale: Tensor,
    pixels: Tensor,
    clip: float | None,
    nan_to_zero: bool,
) -> Tensor:
    """Compute the gradient of the images from the gradients of the results.

    All floating tensors have the dtype of the computation, float32 or float64.

    Parameters
    ----------
    grad : (..., H, W) tensor
        Gradient of the normalised images, before they are turned or cast.
    grad_median, grad_scale : (...) tensors
        Gradients of the median and the scale.
    images : (..., H, W) tensor
        The images, after the gather.
    mask : bool tensor, broadcastable to ``images``, or None
        True is bad.
    median, scale : (...) tensors
        Results of the forward pass.
    pixels : (n,) int64 tensor
        Flat indices of the pixels that the statistics use.
    clip : float or None
        Limit of the result.
    nan_to_zero : bool
        Whether NaN became 0.

    Returns
    -------
    (..., H, W) tensor
    """
    x = torch.where(images.isnan(), 0, images) if nan_to_zero else images
    centre, width = median[..., None, None], scale[..., None, None]
    y = ((x - centre) / width).detach()
    passes = ~y.isnan() if clip is None else y.abs() <= clip
    grad = torch.where(passes, grad, 0)
    # Second derivatives multiply by y, and 0 times NaN would be NaN.
    y = torch.where(passes, (torch.where(passes, x, 0) - centre) / width, 0)
    result = grad / width
    grad_scale = grad_scale - (grad * y).sum((-2, -1)) / scale
    grad_median = grad_median - grad.sum((-2, -1)) / scale

    values = x.flatten(-2)[..., pixels]
    bad = values.isnan()
    if mask is not None:
        bad = bad | mask.expand(images.shape).flatten(-2)[..., pixels]
    count = (~bad).sum(-1, keepdim=True)
    ranks = torch.cat([(count - 1) // 2, count // 2], -1).clamp_min(0)
    defined = (count > 0) & median.isfinite()[..., None]

    def middle_two(of: Tensor) -> Tensor:
        return of.masked_fill(bad, torch.inf).sort(-1).indices.gather(-1, ranks)

    nearest = middle_two((values - median[..., None]).abs())
    side = (values.gather(-1, nearest) - median[..., None]).sign()
    to_scale = torch.where(defined, 0.5 * grad_scale[..., None] * side, 0)
    to_median = torch.where(defined, 0.5 * (grad_median[..., None] - to_scale.sum(-1, True)), 0)
    gain = torch.zeros_like(values)
    gain.scatter_add_(-1, nearest, to_scale)
    gain.scatter_add_(-1, middle_two(values), to_median.expand(to_scale.shape))
    result = result.flatten(-2).index_add(-1, pixels, gain).reshape(images.shape)
    return torch.where(images.isnan(), 0, result).contiguous()
