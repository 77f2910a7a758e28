"""Exact comparison of results, and the adversarial images of the package.

`assert_same` compares results: every value must be identical, NaN equals NaN, the
sign of zero is ignored, and there is no tolerance and no rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnorm.check.adversarial import (
    SAMPLE_LANES,
    SAMPLE_ROWS,
    nasty_planes,
    nasty_stack,
    nasty_vectors,
)

__all__ = [
    "SAMPLE_LANES",
    "SAMPLE_ROWS",
    "as_array",
    "assert_same",
    "nasty_planes",
    "nasty_stack",
    "nasty_vectors",
]


def assert_same(actual: Any, expected: Any, names: Sequence[str] = ()) -> None:
    """Assert equal shapes, dtypes and values; ``names`` are those of the planes along axis 0."""
    assert type(actual) is type(expected)
    assert actual.dtype == expected.dtype
    assert tuple(actual.shape) == tuple(expected.shape)
    a, b = as_array(actual), as_array(expected)
    if names:
        differ = ~((a == b) | (np.isnan(a) & np.isnan(b))).reshape(len(names), -1).all(axis=1)
        assert not differ.any(), [name for name, bad in zip(names, differ, strict=True) if bad]
    np.testing.assert_array_equal(a, b)


def as_array(value: Any) -> NDArray[Any]:
    """Convert to a NumPy array of the same values; bfloat16 becomes float32."""
    if isinstance(value, np.ndarray):
        return value
    wide = value.float() if "bfloat16" in str(value.dtype) else value
    array: NDArray[Any] = wide.numpy()
    return array
