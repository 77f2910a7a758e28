"""The public functions, which check every argument once and pass planes to a backend.

Types follow the images: arrays give arrays, and tensors give tensors.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from fastnorm.annulus import Annulus
from fastnorm.dispatch import registry
from fastnorm.dispatch.planes import Options
from fastnorm.footprint import Footprint, open_footprint
from fastnorm.kinds import flag
from fastnorm.normalize.arrays import (
    is_tensor,
    like_images,
    open_images,
    open_mask,
    open_output,
    refuse_gradient,
)
from fastnorm.normalize.axes import check_fit
from fastnorm.normalize.eps_clip import check_eps_and_clip
from fastnorm.normalize.pieces import compute_dtype, run_in_pieces
from fastnorm.reference import scale_of

if TYPE_CHECKING:
    from torch import Tensor

Images = TypeVar("Images", NDArray[Any], "Tensor")
# Overloads take a union apart; a function without overloads needs it as one more type.
Either = TypeVar("Either", NDArray[Any], "Tensor", "NDArray[Any] | Tensor")
Mask: TypeAlias = "NDArray[np.bool_] | Tensor"
Region: TypeAlias = "Footprint | NDArray[np.bool_] | Tensor"


@overload
def normalize_outer_annulus(
    images: Images, r_in: float, r_out: float, *, mask: Mask | None = ..., eps: float = ...,
    clip: float | None = ..., nan_to_zero: bool = ..., dtype: Any = ..., out: Images | None = ...,
    backend: str | None = ..., return_stats: Literal[False] = ...,
) -> Images: ...  # fmt: skip


@overload
def normalize_outer_annulus(
    images: Images, r_in: float, r_out: float, *, mask: Mask | None = ..., eps: float = ...,
    clip: float | None = ..., nan_to_zero: bool = ..., dtype: Any = ..., out: Images | None = ...,
    backend: str | None = ..., return_stats: Literal[True],
) -> tuple[Images, Images, Images]: ...  # fmt: skip


@overload
def normalize_outer_annulus(
    images: Images, r_in: float, r_out: float, *, mask: Mask | None = ..., eps: float = ...,
    clip: float | None = ..., nan_to_zero: bool = ..., dtype: Any = ..., out: Images | None = ...,
    backend: str | None = ..., return_stats: bool,
) -> Images | tuple[Images, Images, Images]: ...  # fmt: skip


def normalize_outer_annulus(
    images: Any,
    r_in: float,
    r_out: float,
    *,
    mask: Any = None,
    eps: float = 1e-8,
    clip: float | None = None,
    nan_to_zero: bool = False,
    dtype: Any = None,
    out: Any = None,
    backend: str | None = None,
    return_stats: bool = False,
) -> Any:
    """Normalise every image by the median and MAD of its outer annulus.

    ``out = (image - median) / scale`` with ``scale = MAD + eps``, over the
    pixels with ``r_in <= r < r_out`` around the centre ``(H // 2, W // 2)``.
    The MAD (median absolute deviation) is not multiplied by 1.4826.

    Parameters
    ----------
    images : numpy.ndarray or torch.Tensor, shape (..., H, W)
        float16, bfloat16, float32 or float64, in any unit (nanomaggies for a
        lens finder), with any strides and byte order. Never modified.
    r_in, r_out : float
        Radii of the annulus in pixels. The outer radius is excluded.
    mask : bool array or tensor, broadcastable to ``images``, optional
        True means bad, as in astropy and numpy.ma. Bad pixels are excluded from
        the statistics, and normalised like all others.
    eps : float
        Added to the MAD in float64.
    clip : float, optional
        Limit the result to ``[-clip, clip]``; NaN stays NaN.
    nan_to_zero : bool
        Replace NaN by 0 before the statistics and again after the division,
        as the lens finders' ``preprocess_stack`` does.
    dtype : dtype, optional
        Dtype of the result: a floating dtype of the same library. The default
        is that of ``images``, in native byte order.
    out : array or tensor, shape (..., H, W), optional
        Array for the result. It must not share memory with ``images``. On a GPU
        it must be contiguous.
    backend : str, optional
        A name from `fastnorm.backends`. The default is the fastest available for
        the device of ``images``. All backends return the same values.
    return_stats : bool
        Return ``(result, median, scale)`` instead of the result.

    Returns
    -------
    result : array or tensor, shape (..., H, W)
        The normalised images.
    median, scale : arrays or tensors, shape (...), only with ``return_stats``
        Statistics in the unit of ``images``; ``scale`` is ``MAD + eps``. float64
        for float64 images, else float32.

    Raises
    ------
    TypeError
        An argument has the wrong type or dtype.
    ValueError
        A value is out of range, shapes do not match, the annulus has fewer than
        100 pixels (or, on a GPU, more than 24,576), or ``out`` cannot hold the
        result.
    BackendUnavailableError
        ``backend`` was given and cannot run here, or no backend is available for
        the device of ``images``.

    Warns
    -----
    AnnulusWarning
        The image is taller than 64 pixels and ``r_out`` is below 70 % of its
        half-width: the annulus lies inside the galaxy.

    Notes
    -----
    float16 and bfloat16 images are computed in float32, and float64 images in
    float64. If no pixel is left, the median is 0 and the scale is ``eps``. Infinities
    can make the median or the MAD undefined; an undefined value is 0, too. The
    arithmetic follows IEEE 754: modes that flush subnormals to zero, such as
    `torch.set_flush_denormal`, are not part of the definition.

    Examples
    --------
    >>> cutouts = np.random.default_rng(1).normal(5, 2, (8, 3, 101, 101)).astype("float32")
    >>> result = normalize_outer_annulus(cutouts, 32.5, 45.0, clip=10, nan_to_zero=True)
    >>> result.shape, result.dtype
    ((8, 3, 101, 101), dtype('float32'))
    >>> ring = Annulus(32.5, 45.0).mask(101, 101)
    >>> bool(abs(np.median(result[0, 0][ring])) < 1e-6)
    True
    """
    return normalize_footprint(
        images, Annulus(r_in, r_out), mask=mask, eps=eps, clip=clip, nan_to_zero=nan_to_zero,
        dtype=dtype, out=out, backend=backend, return_stats=return_stats,
    )  # fmt: skip


@overload
def normalize_footprint(
    images: Images, footprint: Region, *, mask: Mask | None = ..., eps: float = ...,
    clip: float | None = ..., nan_to_zero: bool = ..., dtype: Any = ..., out: Images | None = ...,
    backend: str | None = ..., return_stats: Literal[False] = ...,
) -> Images: ...  # fmt: skip


@overload
def normalize_footprint(
    images: Images, footprint: Region, *, mask: Mask | None = ..., eps: float = ...,
    clip: float | None = ..., nan_to_zero: bool = ..., dtype: Any = ..., out: Images | None = ...,
    backend: str | None = ..., return_stats: Literal[True],
) -> tuple[Images, Images, Images]: ...  # fmt: skip


@overload
def normalize_footprint(
    images: Images, footprint: Region, *, mask: Mask | None = ..., eps: float = ...,
    clip: float | None = ..., nan_to_zero: bool = ..., dtype: Any = ..., out: Images | None = ...,
    backend: str | None = ..., return_stats: bool,
) -> Images | tuple[Images, Images, Images]: ...  # fmt: skip


def normalize_footprint(
    images: Any,
    footprint: Any,
    *,
    mask: Any = None,
    eps: float = 1e-8,
    clip: float | None = None,
    nan_to_zero: bool = False,
    dtype: Any = None,
    out: Any = None,
    backend: str | None = None,
    return_stats: bool = False,
) -> Any:
    """Normalise every image by the median and MAD of the pixels of any footprint.

    The same as `normalize_outer_annulus`, which is the special case of an `Annulus`.

    Parameters
    ----------
    images : numpy.ndarray or torch.Tensor, shape (..., H, W)
        float16, bfloat16, float32 or float64, in any unit. Never modified.
    footprint : Annulus, EllipticalAnnulus, or (H, W) bool array or tensor
        Pixels that the statistics use: those where it is True. A tensor must be on the
        device of ``images``, and reading it waits for that device.
    mask, eps, clip, nan_to_zero, dtype, out, backend, return_stats
        Same as in `normalize_outer_annulus`.

    Returns
    -------
    result, median, scale
        Same as in `normalize_outer_annulus`.

    Raises
    ------
    TypeError
        Same as in `normalize_outer_annulus`; or ``footprint`` is not a footprint.
    ValueError
        Same as in `normalize_outer_annulus`; or the footprint is empty, is not of the shape of
        an image, is on another device, or has more than 24,576 pixels on a GPU.
    BackendUnavailableError
        Same as in `normalize_outer_annulus`.

    Examples
    --------
    >>> corners = np.ones((101, 101), bool)
    >>> corners[10:-10, 10:-10] = False
    >>> cutout = np.random.default_rng(1).normal(5, 2, (101, 101))
    >>> result, median, scale = normalize_footprint(cutout, corners, return_stats=True)
    >>> bool(median == np.median(cutout[corners]))
    True
    """
    nan_to_zero = flag("nan_to_zero", nan_to_zero)
    return_stats = flag("return_stats", return_stats)
    if _is_for_gpu(images, backend):
        refuse_gradient("images", images)
        gpu = importlib.import_module("fastnorm.normalize.gpu")
        done = gpu.normalize(
            images, footprint, mask=mask, eps=eps, clip=clip, nan_to_zero=nan_to_zero,
            dtype=dtype, out=out, backend=backend,
        )  # fmt: skip
        return tuple(done) if return_stats else done.out
    stack = open_images(images)
    opened = _open_footprint(footprint, images, stack.plane)
    compute = compute_dtype(stack)
    eps, clip = check_eps_and_clip(eps, clip, np.finfo(compute))
    masks = open_mask(mask, stack.array.shape)
    run = registry.choose(backend)
    result, target = open_output(images, stack, masks, dtype, out)
    options = Options(opened, eps, clip, nan_to_zero)
    median, mad = run_in_pieces(run, options, stack, masks, target)
    if not return_stats:
        return result
    scale = np.asarray(scale_of(mad, eps))
    return result, like_images(images, median), like_images(images, scale)


def annulus_median_mad(
    images: Either,
    r_in: float,
    r_out: float,
    *,
    mask: Mask | None = None,
    backend: str | None = None,
) -> tuple[Either, Either]:
    """Compute the median and MAD of the outer annulus of every image.

    Parameters
    ----------
    images : numpy.ndarray or torch.Tensor, shape (..., H, W)
        float16, bfloat16, float32 or float64, in any unit. NaN pixels are excluded.
    r_in, r_out : float
        Radii of the annulus in pixels. The outer radius is excluded.
    mask : bool array or tensor, broadcastable to ``images``, optional
        True means bad: excluded from the statistics.
    backend : str, optional
        A name from `fastnorm.backends`. The default is the fastest available for
        the device of ``images``.

    Returns
    -------
    median, mad : arrays or tensors, shape (...)
        Statistics in the unit of ``images``; float64 for float64 images, else
        float32. The MAD is neither scaled by 1.4826 nor increased by ``eps``. An
        infinite median is returned as it is. Both are 0 if the median is undefined:
        no pixel, or infinities of opposite sign as the two middle values.

    Raises
    ------
    TypeError, ValueError, BackendUnavailableError
        Same as in `normalize_outer_annulus`.

    Examples
    --------
    >>> sky = np.random.default_rng(1).normal(5, 2, (8, 3, 101, 101))
    >>> median, mad = annulus_median_mad(sky, 32.5, 45.0)
    >>> median.shape, mad.shape
    ((8, 3), (8, 3))
    """
    return footprint_median_mad(images, Annulus(r_in, r_out), mask=mask, backend=backend)


def footprint_median_mad(
    images: Either, footprint: Region, *, mask: Mask | None = None, backend: str | None = None
) -> tuple[Either, Either]:
    """Compute the median and MAD of the pixels of any footprint, for every image.

    Parameters
    ----------
    images : numpy.ndarray or torch.Tensor, shape (..., H, W)
        float16, bfloat16, float32 or float64, in any unit. NaN pixels are excluded.
    footprint : Annulus, EllipticalAnnulus, or (H, W) bool array or tensor
        Pixels that the statistics use; see `normalize_footprint`.
    mask : bool array or tensor, broadcastable to ``images``, optional
        True means bad: excluded from the statistics.
    backend : str, optional
        A name from `fastnorm.backends`.

    Returns
    -------
    median, mad : arrays or tensors, shape (...)
        Same as in `annulus_median_mad`.

    Raises
    ------
    TypeError, ValueError, BackendUnavailableError
        Same as in `normalize_footprint`.

    Examples
    --------
    >>> image = np.arange(20.0).reshape(4, 5)
    >>> [float(value) for value in footprint_median_mad(image, image > 10)]
    [15.0, 2.0]
    """
    if _is_for_gpu(images, backend):
        refuse_gradient("images", images)
        gpu = importlib.import_module("fastnorm.normalize.gpu")
        statistics: tuple[Either, Either] = gpu.median_mad(
            images, footprint, mask=mask, backend=backend
        )
        return statistics
    stack = open_images(images)
    opened = _open_footprint(footprint, images, stack.plane)
    masks = open_mask(mask, stack.array.shape)
    run = registry.choose(backend)
    options = Options(opened, 1.0, None, False)
    median, mad = run_in_pieces(run, options, stack, masks, None)
    return like_images(images, median), like_images(images, mad)


def _is_for_gpu(images: Any, backend: str | None) -> bool:
    if is_tensor(images) and images.device.type == "cuda":
        return True
    return registry.device_of(backend) == "cuda"


def _open_footprint(footprint: Any, images: Any, plane: tuple[int, int]) -> Footprint:
    opened = open_footprint(footprint, images)
    check_fit(opened, images)
    if isinstance(opened, Annulus):
        opened.warn_if_misplaced(*plane)
    return opened
