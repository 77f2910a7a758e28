"""What an epoch is judged by."""

from __future__ import annotations

from typing import Any

import numpy as np

from dhs.statistics.metrics import recall_at_fpr, roc_auc
from dhs.statistics.thresholds import supports_fpr

FALSE_POSITIVE_RATES = (1e-2, 1e-3)


def validation_metrics(
    is_lens: np.ndarray[Any, Any], logits: np.ndarray[Any, Any]
) -> dict[str, Any]:
    """AUC, and recall at the rates that the number of negatives allows; None elsewhere."""
    metrics: dict[str, Any] = {"val_auc": roc_auc(is_lens, logits)}
    negatives = int((~is_lens).sum())
    for fpr in FALSE_POSITIVE_RATES:
        is_judged = is_lens.any() and supports_fpr(negatives, fpr)
        recall = recall_at_fpr(logits[is_lens], logits[~is_lens], fpr).recall if is_judged else None
        metrics[f"val_recall_at_fpr_{fpr:g}"] = recall
    return metrics


def merit(line: dict[str, Any]) -> float:
    """What the best epoch has most of: AUC, or where there is none, little loss."""
    area = line["val_auc"]
    return float(-line["val_loss"] if area is None else area)
