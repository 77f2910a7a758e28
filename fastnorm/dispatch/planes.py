"""Arguments of the backends: planes, options, and the signatures of their functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastnorm.footprint import Footprint


class Planes(NamedTuple):
    """N planes of one shape, their masks, and the arrays for the results.

    ``images`` is (N, H, W), C-contiguous, native float32 or float64, and so is
    ``out`` (None: statistics only). ``masks`` is bool (N, H, W), C-contiguous,
    True is bad, or None. ``median`` and ``mad``, (N,), are written.
    ``stack_bytes`` is the size of the whole output, of which ``out`` may be a part.
    """

    images: NDArray[Any]
    masks: NDArray[np.bool_] | None
    out: NDArray[Any] | None
    median: NDArray[Any]
    mad: NDArray[Any]
    stack_bytes: int


class Options(NamedTuple):
    """Options that apply to every plane; see `fastnorm.normalize_outer_annulus`."""

    footprint: Footprint
    eps: float
    clip: float | None
    nan_to_zero: bool


Run = Callable[[Planes, Options], None]


Launch = Callable[..., None]
