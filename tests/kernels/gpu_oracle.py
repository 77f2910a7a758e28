"""The definition that checks of GPU backends compare with, and the comparison."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastnorm import Annulus, reference
from tests.fastnorm.nasty import as_array


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
    images: Tensor, annulus: Annulus, masks: NDArray[np.bool_] | None = None, **options: Any
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return result, median and MAD of the reference, in the dtype of the computation."""
    wide = as_array(images if images.dtype == torch.float64 else images.float())
    planes = wide.reshape(-1, *images.shape[-2:])
    bad = [None] * len(planes) if masks is None else masks.reshape(planes.shape)
    done = [
        reference.normalize_plane(plane, annulus, mask=mask, **options)
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
