"""The validation AUC of a checkpoint, with the interval that its recorded numbers allow."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dhs.checkpoint.header import Checkpoint
from dhs.statistics.auc import FEWEST_OBJECTS, score_interval


class ValidationAuc(NamedTuple):
    """Validation AUC of a checkpoint.

    ``lenses``, ``non_lenses``: numbers of objects, None if the checkpoint does not record them.
    ``low``, ``high``: 95 % score interval from these numbers alone, NaN if they are not known or
    fewer than `dhs.statistics.auc.FEWEST_OBJECTS`.
    """

    value: float
    lenses: int | None
    non_lenses: int | None
    low: float
    high: float

    @property
    def has_few(self) -> bool:
        """Whether there are too few objects for an interval."""
        if self.lenses is None or self.non_lenses is None:
            return False
        return min(self.lenses, self.non_lenses) < FEWEST_OBJECTS


def validation_auc(checkpoint: Checkpoint) -> ValidationAuc | None:
    """Return the validation AUC with its interval; None if the checkpoint records no AUC.

    Parameters
    ----------
    checkpoint : Checkpoint
    """
    area = checkpoint.validation_auc
    if area is None:
        return None
    count, lenses = (checkpoint.data.get(name) for name in ("n_validation", "n_validation_lenses"))
    if count is None or lenses is None:
        return ValidationAuc(area, None, None, np.nan, np.nan)
    found = ValidationAuc(area, int(lenses), int(count - lenses), np.nan, np.nan)
    if found.has_few:
        return found
    low, high = score_interval(area, lenses, count - lenses, 0.025)
    return found._replace(low=low, high=high)
