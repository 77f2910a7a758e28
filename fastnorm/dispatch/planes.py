"""What every backend takes: planes, options, and the signatures of the functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastnorm.annulus import Annulus


class Planes(NamedTuple):
    """A piece of work: N planes of one shape, their masks, and where results go.

    ``images`` is (N, H, W), C-contiguous, native float32 or float64, and so is
    ``out`` (None: statistics only). ``masks`` is bool (N, H, W), C-contiguous,
    True is bad, or None. ``median`` and ``mad``, (N,), are written.
    ``stack_bytes`` is the size of the whole output that this is a part of.
    """

    images: NDArray[Any]
    masks: NDArray[np.bool_] | None
    out: NDArray[Any] | None
    median: NDArray[Any]
    mad: NDArray[Any]
    stack_bytes: int


class Options(NamedTuple):
    """What to do with every plane; see `fastnorm.normalize_outer_annulus`."""

    annulus: Annulus
    eps: float
    clip: float | None
    nan_to_zero: bool


Run = Callable[[Planes, Options], None]


Launch = Callable[..., None]
