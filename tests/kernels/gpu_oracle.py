"""The registry of the checks of GPU backends, and the definition that they compare with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastnorm import Annulus, reference
from fastnorm.check.adversarial import nasty_stack
from fastnorm.footprint import Footprint
from fastnorm.normalize import gpu
from tests.fastnorm.nasty import as_array

SMALL, SMALL_ANNULUS = (21, 21), Annulus(2, 9)
Check = Callable[[str, torch.device], int]
CHECKS: dict[str, Check] = {}


@contextmanager
def poisoned() -> Iterator[None]:
    """Fill the result of `torch.empty` with NaN, so that unwritten values are seen."""
    empty = torch.empty

    def nan(*arguments: Any, **keywords: Any) -> Tensor:
        tensor = empty(*arguments, **keywords)
        return tensor.fill_(torch.nan) if tensor.is_floating_point() else tensor

    torch.empty = nan
    try:
        yield
    finally:
        torch.empty = empty


def definition(
    images: Tensor, footprint: Footprint, masks: NDArray[np.bool_] | None = None, **options: Any
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return result, median and MAD of the reference, in the dtype of the computation."""
    wide = as_array(images if images.dtype == torch.float64 else images.float())
    planes = wide.reshape(-1, *images.shape[-2:])
    bad = [None] * len(planes) if masks is None else masks.reshape(planes.shape)
    done = [
        reference.normalize_plane(plane, footprint, mask=mask, **options)
        for plane, mask in zip(planes, bad, strict=True)
    ]
    out, median, mad = (np.array(part, wide.dtype) for part in zip(*done, strict=True))
    lead = images.shape[:-2]
    return out.reshape(images.shape), median.reshape(lead), mad.reshape(lead)


def same(actual: Tensor, expected: NDArray[Any] | Tensor, what: str = "") -> None:
    """Assert that all values are identical, NaN equal to NaN; torch casts ``expected``."""
    wanted = expected if isinstance(expected, Tensor) else torch.from_numpy(expected)
    a, b = actual.cpu(), wanted.to(actual.dtype)
    assert a.shape == b.shape, what
    differ = ~((a == b) | (a.isnan() & b.isnan()))
    assert not differ.any(), f"{what}: {int(differ.sum())} values differ"


def check(function: Check) -> Check:
    CHECKS[function.__name__] = function
    return function


def compare(
    backend: str,
    device: torch.device,
    images: Tensor,
    annulus: Footprint = SMALL_ANNULUS,
    masks: NDArray[np.bool_] | None = None,
    eps: float = 1e-8,
    **options: Any,
) -> int:
    """Run a backend on images and compare all results with the definition."""
    done = gpu.normalize(
        images.to(device),
        annulus,
        mask=None if masks is None else torch.from_numpy(masks).to(device),
        eps=eps,
        backend=backend,
        **options,
    )
    out, median, mad = definition(images, annulus, masks, eps=eps, **options)
    same(done.median, median, "median")
    same(done.scale, np.asarray(reference.scale_of(mad, eps)), "scale")
    same(done.out, out, "out")
    return median.size


def nasty(dtype: Any, every: int = 1, shape: tuple[int, int] = SMALL, seed: int = 0) -> Tensor:
    annulus = SMALL_ANNULUS if shape == SMALL else Annulus.default(*shape)
    return torch.from_numpy(nasty_stack(shape, dtype, seed, annulus)[1][::every].copy())


def noise(*shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(5).normal(0.1, 1, shape).astype(np.float32))
