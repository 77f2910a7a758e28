"""Rows of the table of coverage: what was asked for, what was reached, in how many runs.

A row fails if the number of runs is incompatible with the allowed range: less likely than 1 in
1,000 at its nearer end, by the binomial distribution. Few runs thus have a wide tolerance.
``COVERAGE_RUNS`` sets the number of runs of a row.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

RUNS = int(os.environ.get("COVERAGE_RUNS", "200"))
COVERAGE = (0.93, 0.975)
"""Allowed coverage of a 95 % interval."""

AT_LEAST = (0.93, 1.0)
"""Allowed coverage of an interval that is documented as wide: few events, or near 0 or 1."""

LEVEL = (0.03, 0.07)
"""Allowed rate of rejections of equal models at a p-value of 0.05."""

CHANCE = 0.001


class Row(NamedTuple):
    """A row of the table."""

    name: str
    nominal: float
    allowed: tuple[float, float]
    reached: float
    runs: int


ROWS: list[Row] = []


def hold(name: str, hits: ArrayLike, allowed: tuple[float, float] = COVERAGE) -> None:
    """Add a row, and check it: ``hits`` says of each run if the interval contains the truth."""
    found = np.asarray(hits, bool).ravel()
    count, runs = int(found.sum()), found.size
    nominal = 0.95 if allowed[1] > 0.5 else 0.05
    ROWS.append(Row(name, nominal, allowed, count / runs, runs))
    assert stats.binom.cdf(count, runs, allowed[0]) > CHANCE, ROWS[-1]
    assert stats.binom.sf(count - 1, runs, allowed[1]) > CHANCE, ROWS[-1]
