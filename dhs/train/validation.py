"""Validation metrics of an epoch."""

from __future__ import annotations

from typing import Any

import numpy as np

from dhs.statistics.metrics import recall_at_fpr, roc_auc
from dhs.statistics.thresholds import supports_fpr

FALSE_POSITIVE_RATES = (1e-2, 1e-3)


def validation_metrics(
    is_lens: np.ndarray[Any, Any], logits: np.ndarray[Any, Any]
) -> dict[str, Any]:
    """Return the AUC, and the recall at each of `FALSE_POSITIVE_RATES`.

    A metric is None if it is not defined, or if there are too few negatives for its rate.
    """
    metrics: dict[str, Any] = {"val_auc": roc_auc(is_lens, logits)}
    negatives = int((~is_lens).sum())
    for fpr in FALSE_POSITIVE_RATES:
        is_judged = is_lens.any() and supports_fpr(negatives, fpr)
        recall = recall_at_fpr(logits[is_lens], logits[~is_lens], fpr).recall if is_judged else None
        metrics[f"val_recall_at_fpr_{fpr:g}"] = recall
    return metrics


def merit(line: dict[str, Any]) -> float:
    """Return the figure of merit of an epoch: the AUC, or without one the negative loss."""
    area = line["val_auc"]
    return float(-line["val_loss"] if area is None else area)
