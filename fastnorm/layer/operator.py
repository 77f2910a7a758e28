"""``torch.ops.fastnorm.normalize_outer_annulus``: one operator, differentiable and compilable.

It takes raw images, optionally gathers rows of a larger stack, normalises every
plane, and optionally turns or flips each image as it stores it. On the CPU it runs
the Numba kernel between torch operations; on a GPU one Triton kernel does all steps.
The results depend on the arguments only. There is no state and no synchronisation,
so that compilers may reorder the operator and CUDA graphs may capture it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastnorm.annulus import Annulus
from fastnorm.layer.gradient import subgradient
from fastnorm.normalize import cpu, gpu, tensors


@torch.library.custom_op("fastnorm::normalize_outer_annulus", mutates_args=(), device_types="cpu")
def normalize_outer_annulus(
    images: Tensor,
    r_in: float,
    r_out: float,
    index: Tensor | None = None,
    dihedral: Tensor | None = None,
    mask: Tensor | None = None,
    eps: float = 1e-8,
    clip: float | None = None,
    nan_to_zero: bool = False,
    dtype: torch.dtype | None = None,
    channels_last: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise images by the median and MAD of their outer annulus.

    Parameters
    ----------
    images : (..., H, W) tensor
        float16, bfloat16, float32 or float64.
    r_in, r_out : float
        Radii of the annulus in pixels.
    index : (N,) int64 tensor, optional
        Rows of ``images`` to gather, in this order; repeats are allowed. On a GPU
        the range is checked only if the environment has ``FASTNORM_DEBUG=1``, since
        the check waits for the device; results for a row out of range are undefined.
    dihedral : (N,) integer tensor, optional
        Element 0 to 7 of the dihedral group for every image, ``k + 4 * f``: after
        the normalisation reverse the columns if ``f``, then make ``k`` quarter
        turns. Images must be square.
    mask : bool tensor, broadcastable to ``images``, optional
        True is bad; gathered like the images.
    eps : float
        Added to the MAD in float64.
    clip : float, optional
        Limit the result to ``[-clip, clip]``; NaN stays NaN.
    nan_to_zero : bool
        Replace NaN by 0 before the statistics and after the division.
    dtype : torch.dtype, optional
        Floating dtype of the result; that of ``images`` by default.
    channels_last : bool
        Store (N, C, H, W) in ``torch.channels_last`` format.

    Returns
    -------
    out : (..., H, W) tensor
        The normalised images.
    median, scale : (...) tensors
        Median and ``MAD + eps`` of every plane, in the unit of ``images``; float64
        for float64 images, else float32.

    Raises
    ------
    TypeError, BackendUnavailableError
        Same as in `fastnorm.normalize_outer_annulus`.
    ValueError
        Same as in `fastnorm.normalize_outer_annulus`; or ``index`` or ``dihedral`` is
        out of range.
    """
    tensors.check_index(index, images)
    tensors.check_channels_last(channels_last, images)
    rows, bad = _gather(images.detach(), index, mask)
    tensors.check_dihedral(dihedral, rows, rows.shape[0] if rows.ndim > 2 else 1)
    out, median, scale = cpu.normalize_outer_annulus(
        rows,
        r_in,
        r_out,
        mask=bad,
        eps=eps,
        clip=clip,
        nan_to_zero=nan_to_zero,
        dtype=dtype,
        return_stats=True,
    )
    if dihedral is not None:
        out = tensors.turn_each(out, dihedral)
    if channels_last:
        out = out.contiguous(memory_format=torch.channels_last)
    return out, median, scale


@normalize_outer_annulus.register_kernel("cuda")
def _(
    images: Tensor,
    r_in: float,
    r_out: float,
    index: Tensor | None = None,
    dihedral: Tensor | None = None,
    mask: Tensor | None = None,
    eps: float = 1e-8,
    clip: float | None = None,
    nan_to_zero: bool = False,
    dtype: torch.dtype | None = None,
    channels_last: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    done = gpu.normalize(
        images,
        r_in,
        r_out,
        index=index,
        dihedral=dihedral,
        mask=mask,
        eps=eps,
        clip=clip,
        nan_to_zero=nan_to_zero,
        dtype=dtype,
        channels_last=channels_last,
    )
    assert done.out is not None
    return done.out, done.median, done.scale


def _gather(
    images: Tensor, index: Tensor | None, mask: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    if index is None:
        return images, mask
    return images[index], None if mask is None else mask.expand(images.shape)[index]


@normalize_outer_annulus.register_fake
def _(
    images: Tensor,
    r_in: float,
    r_out: float,
    index: Tensor | None = None,
    dihedral: Tensor | None = None,
    mask: Tensor | None = None,
    eps: float = 1e-8,
    clip: float | None = None,
    nan_to_zero: bool = False,
    dtype: torch.dtype | None = None,
    channels_last: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    shape = images.shape if index is None else (index.shape[0], *images.shape[1:])
    layout = torch.channels_last if channels_last else torch.contiguous_format
    out = images.new_empty(shape, dtype=dtype or images.dtype).contiguous(memory_format=layout)
    statistics = images.new_empty(shape[:-2], dtype=_computed_in(images))
    return out, statistics, torch.empty_like(statistics)


def _computed_in(images: Tensor) -> torch.dtype:
    return torch.float64 if images.dtype == torch.float64 else torch.float32


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    images, r_in, r_out, index, dihedral, mask, _, clip, nan_to_zero, _, _ = inputs
    ctx.settings = (r_in, r_out, clip, nan_to_zero)
    ctx.save_for_backward(images, index, dihedral, mask, output[1], output[2])


@torch.library.custom_op("fastnorm::normalize_outer_annulus_backward", mutates_args=())
def normalize_outer_annulus_backward(
    grad: Tensor,
    grad_median: Tensor,
    grad_scale: Tensor,
    images: Tensor,
    index: Tensor | None,
    dihedral: Tensor | None,
    mask: Tensor | None,
    median: Tensor,
    scale: Tensor,
    r_in: float,
    r_out: float,
    clip: float | None,
    nan_to_zero: bool,
) -> Tensor:
    """Compute the gradient of the images of `normalize_outer_annulus`.

    Parameters
    ----------
    grad : (..., H, W) tensor
        Gradient of ``out``.
    grad_median, grad_scale : (...) tensors
        Gradients of ``median`` and ``scale``.
    images : (..., H, W) tensor
        The raw images.
    index : (N,) int64 tensor or None
        Rows of ``images``.
    dihedral : (N,) integer tensor or None
        Dihedral element of every image, 0 to 7.
    mask : bool tensor, broadcastable to ``images``, or None
        True is bad.
    median, scale : (...) tensors
        Results of the forward pass.
    r_in, r_out : float
        Radii of the annulus in pixels.
    clip : float or None
        Limit of the result.
    nan_to_zero : bool
        Whether NaN became 0.

    Returns
    -------
    tensor of the shape and dtype of ``images``

    See Also
    --------
    fastnorm.layer.gradient.subgradient : The formula.
    """
    rows, bad = _gather(images, index, mask)
    computed = _computed_in(images)
    if dihedral is not None:
        grad = tensors.turn_back(grad, dihedral)
    result = subgradient(
        grad.to(computed),
        grad_median,
        grad_scale,
        rows.to(computed),
        bad,
        median,
        scale,
        Annulus(r_in, r_out),
        clip,
        nan_to_zero,
    ).to(images.dtype)
    if index is None:
        return result
    return torch.zeros_like(images).index_add(0, index, result)


@normalize_outer_annulus_backward.register_fake
def _(grad: Tensor, grad_median: Tensor, grad_scale: Tensor, images: Tensor, *rest: Any) -> Tensor:
    return torch.empty_like(images, memory_format=torch.contiguous_format)


def _backward(
    ctx: Any, grad: Tensor, grad_median: Tensor, grad_scale: Tensor
) -> tuple[Tensor | None, ...]:
    result = normalize_outer_annulus_backward(
        grad, grad_median, grad_scale, *ctx.saved_tensors, *ctx.settings
    )
    return result, *[None] * 10


normalize_outer_annulus.register_autograd(_backward, setup_context=_save)


def _loop_over_examples(op: Any) -> Any:
    """Return a vmap rule that loops over the batch, since planes are independent."""

    def rule(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Any, Any]:
        results = [
            op(
                *(
                    argument if dim is None else argument.select(dim, i)
                    for argument, dim in zip(arguments, in_dims, strict=True)
                )
            )
            for i in range(info.batch_size)
        ]
        if isinstance(results[0], Tensor):
            return torch.stack(results), 0
        return tuple(torch.stack(part) for part in zip(*results, strict=True)), (0, 0, 0)

    return rule


for _op in (normalize_outer_annulus, normalize_outer_annulus_backward):
    _op.register_vmap(_loop_over_examples(_op))
