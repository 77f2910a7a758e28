"""``torch.ops.fastnorm.normalize_footprint``: one operator, differentiable and compilable.

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
from torch.autograd import forward_ad

from fastnorm.footprint import PixelFootprint
from fastnorm.layer.expression import normalized
from fastnorm.layer.gradient import subgradient
from fastnorm.normalize import cpu, gpu, tensors

_library: Any = torch.library.Library("fastnorm", "DEF")  # type: ignore[no-untyped-call]
# The overload itself: a call by the name of the operator would look it up every time.
_library.define(
    "normalize_footprint(Tensor images, Tensor pixels, Tensor? index=None, "
    "Tensor? dihedral=None, Tensor? mask=None, float eps=1e-8, float? clip=None, "
    "bool nan_to_zero=False, ScalarType? dtype=None, bool channels_last=False) "
    "-> (Tensor out, Tensor median, Tensor scale)"
)
normalize_footprint = torch.ops.fastnorm.normalize_footprint.default
normalize_footprint.__doc__ = """Normalise images by the median and MAD of listed pixels.

Parameters
----------
images : (..., H, W) tensor
    float16, bfloat16, float32 or float64, with any strides: a crop is read in place.
pixels : (n,) int32 tensor
    Flat row-major indices of the pixels that the statistics use, ascending, each once, on
    the device of ``images``. `fastnorm.normalize.tensors.device_pixels` makes one.
index : (N,) int64 tensor, optional
    Rows of ``images`` to gather, in this order; repeats are allowed. An index out of
    range is an error on a CPU. On a GPU it gives planes, medians and scales of NaN, and an
    error only if the environment has ``FASTNORM_DEBUG=1``, since that waits for the device.
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
    Same as in `fastnorm.normalize_footprint`.
ValueError
    Same as in `fastnorm.normalize_footprint`; or ``index`` or ``dihedral`` is out of range.
"""


def _on_cpu(
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
    tensors.check_pixels(pixels, images)
    tensors.check_index(index, images)
    tensors.check_channels_last(channels_last, images)
    rows, bad = images.detach(), mask
    if index is not None:
        all_bad = tensors.open_mask(mask, images, is_gathered=True)
        rows, bad = rows[index], None if all_bad is None else all_bad[index]
    tensors.check_dihedral(dihedral, rows, rows.shape[0] if rows.ndim > 2 else 1)
    out, median, scale = cpu.normalize_footprint(
        rows,
        PixelFootprint.of_pixels(pixels.numpy(), *images.shape[-2:]),
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


def _on_gpu(images: Tensor, pixels: Tensor, *options: Any, **more: Any) -> gpu.Normalized:
    names = ("index", "dihedral", "mask", "eps", "clip", "nan_to_zero", "dtype", "channels_last")
    return gpu.normalize_pixels(images, pixels, **dict(zip(names, options, strict=False)), **more)


_library.impl("normalize_footprint", _on_cpu, "CPU")
_library.impl("normalize_footprint", _on_gpu, "CUDA")


def _shapes(
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
    shape = images.shape if index is None else (index.shape[0], *images.shape[1:])
    layout = torch.channels_last if channels_last else torch.contiguous_format
    out = images.new_empty(shape, dtype=dtype or images.dtype).contiguous(memory_format=layout)
    statistics = images.new_empty(shape[:-2], dtype=tensors.computed_in(images.dtype))
    return out, statistics, torch.empty_like(statistics)


torch.library.register_fake("fastnorm::normalize_footprint", _shapes, lib=_library)


def _gradient(
    grad: Tensor,
    grad_median: Tensor,
    grad_scale: Tensor,
    images: Tensor,
    pixels: Tensor,
    index: Tensor | None,
    dihedral: Tensor | None,
    mask: Tensor | None,
    median: Tensor,
    scale: Tensor,
    clip: float | None,
    nan_to_zero: bool,
) -> Tensor:
    """Compute the gradient of the images of `normalize_footprint`.

    Parameters
    ----------
    grad : (..., H, W) tensor
        Gradient of ``out``.
    grad_median, grad_scale : (...) tensors
        Gradients of ``median`` and ``scale``.
    images : (..., H, W) tensor
        The raw images.
    pixels : (n,) int32 tensor
        Flat indices of the pixels that the statistics use.
    index : (N,) int64 tensor or None
        Rows of ``images``.
    dihedral : (N,) integer tensor or None
        Dihedral element of every image, 0 to 7.
    mask : bool tensor, broadcastable to ``images``, or None
        True is bad.
    median, scale : (...) tensors
        Results of the forward pass.
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
    rows, bad, is_row = images, mask, None
    if index is not None:
        # On a GPU an index out of range must not be an illegal access: its planes are NaN.
        is_row = (index >= 0) & (index < images.shape[0])
        index = torch.where(is_row, index, 0)
        rows, bad = images[index], None if mask is None else mask.expand(images.shape)[index]
    computed = tensors.computed_in(images.dtype)
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
        pixels.long(),
        clip,
        nan_to_zero,
    ).to(images.dtype)
    if index is None or is_row is None:
        return result
    result = torch.where(is_row.reshape(-1, *[1] * (result.ndim - 1)), result, 0)
    return torch.zeros_like(images).index_add(0, index, result)


def _shape_of_gradient(
    grad: Tensor, grad_median: Tensor, grad_scale: Tensor, images: Tensor, *rest: Any
) -> Tensor:
    return torch.empty_like(images, memory_format=torch.contiguous_format)


_library.define(
    "normalize_footprint_backward(Tensor grad, Tensor grad_median, Tensor grad_scale, "
    "Tensor images, Tensor pixels, Tensor? index, Tensor? dihedral, Tensor? mask, Tensor median, "
    "Tensor scale, float? clip, bool nan_to_zero) -> Tensor"
)
normalize_footprint_backward = torch.ops.fastnorm.normalize_footprint_backward.default
normalize_footprint_backward.__doc__ = _gradient.__doc__
_library.impl("normalize_footprint_backward", _gradient, "CompositeExplicitAutograd")
torch.library.register_fake(
    "fastnorm::normalize_footprint_backward", _shape_of_gradient, lib=_library
)


class _Reverse(torch.autograd.Function):
    """The kernels and their gradient, for one backward pass."""

    @staticmethod
    def forward(ctx: Any, keyset: Any, images: Tensor, pixels: Tensor, *options: Any) -> Any:
        output = _below_autograd(normalize_footprint, keyset, images, pixels, *options)
        given: list[Any] = [*options, *_DEFAULTS[len(options) :]]
        index, dihedral, mask, _, clip, nan_to_zero = given[:6]
        ctx.settings = (clip, nan_to_zero)
        ctx.save_for_backward(images, pixels, index, dihedral, mask, output[1], output[2])
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        gradient = normalize_footprint_backward(*grads, *ctx.saved_tensors, *ctx.settings)
        return None, gradient, *[None] * (len(ctx.needs_input_grad) - 2)


_DEFAULTS = tuple(argument.default_value for argument in normalize_footprint._schema.arguments[2:])


def _below_autograd(operator: Any, keyset: Any, *arguments: Any) -> Any:
    with torch._C._AutoDispatchBelowAutograd():
        return operator.redispatch(keyset & torch._C._after_autograd_keyset, *arguments)


def _is_beyond_reverse(*given: Tensor) -> bool:
    """Tell whether a transform of `torch.func` is active, or a tensor has a forward tangent."""
    if torch._C._are_functorch_transforms_active():
        return True
    parts: list[Any] = [forward_ad.unpack_dual(tensor) for tensor in given]  # type: ignore[no-untyped-call]
    return any(part.tangent is not None for part in parts)


def _differentiable(keyset: Any, images: Tensor, *arguments: Any) -> Any:
    if _is_beyond_reverse(images):
        # The kernels make the checks; their results have no derivative.
        _below_autograd(normalize_footprint, keyset, images, *arguments)
        return normalized(images, *arguments)
    if torch.is_grad_enabled() and images.requires_grad:
        return _Reverse.apply(keyset, images, *arguments)
    return _below_autograd(normalize_footprint, keyset, images, *arguments)


def _differentiable_gradient(keyset: Any, *arguments: Any) -> Any:
    given = [each for each in arguments if isinstance(each, Tensor) and each.is_floating_point()]
    is_followed = torch.is_grad_enabled() and any(each.requires_grad for each in given)
    if is_followed or _is_beyond_reverse(*given):
        return _gradient(*arguments)
    return _below_autograd(normalize_footprint_backward, keyset, *arguments)


_library.impl("normalize_footprint", _differentiable, "Autograd", with_keyset=True)
_library.impl(
    "normalize_footprint_backward", _differentiable_gradient, "Autograd", with_keyset=True
)


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


torch.library.register_vmap(
    "fastnorm::normalize_footprint", _loop_over_examples(normalize_footprint), lib=_library
)
torch.library.register_vmap(
    "fastnorm::normalize_footprint_backward",
    _loop_over_examples(normalize_footprint_backward),
    lib=_library,
)
