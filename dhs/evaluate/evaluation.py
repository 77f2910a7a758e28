"""The result of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]


class Band(NamedTuple):
    """95 % bootstrap interval of the recall: ``rates`` (F,), ``low`` and ``high`` (T, F)."""

    rates: Float
    low: Float
    high: Float


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Result of `dhs.evaluate.evaluate` for T tables and N objects.

    Attributes
    ----------
    report : dict
        All results, for JSON.
    is_lens : (N,) bool
    logits : (T, N) float64
    band : Band
    """

    report: dict[str, Any]
    is_lens: NDArray[np.bool_]
    logits: Float
    band: Band
