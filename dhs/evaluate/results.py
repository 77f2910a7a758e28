"""Results of an evaluation for JSON: of a single table, and of the comparison of two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dhs.evaluate.truth import Matched, Names
from dhs.statistics.bootstrap import Resampled, percentile_interval
from dhs.statistics.calibration import calibration
from dhs.statistics.intervals import binomial_interval
from dhs.statistics.metrics import Recall, mcnemar_exact, recall_at_fpr, roc_auc
from dhs.statistics.thresholds import sigmoid, threshold_of


def judge(
    matched: Matched, table: int, rates: Sequence[float], drawn: Resampled, interval: str
) -> dict[str, Any]:
    """Compute AUC, calibration, and recall at every rate for one table.

    Parameters
    ----------
    matched : Matched
    table : int
        Position of the table.
    rates : sequence of float
        False-positive rates that the negatives allow; ``drawn`` starts with these.
    drawn : Resampled
    interval : str
        ``method`` of `dhs.statistics.intervals.binomial_interval`.

    Returns
    -------
    dict
    """
    is_lens, logits = matched.is_lens, matched.logits[table]
    found = calibration(is_lens, matched.scores[table], interval=interval)
    recalls = []
    for k, rate in enumerate(rates):
        recall = recall_at_fpr(logits[is_lens], logits[~is_lens], rate, interval=interval)
        thresholds, resampled = drawn.thresholds[:, table, k], drawn.recalls[:, table, k]
        is_detected = logits > recall.threshold
        recalls.append(
            _described(recall)
            | _ends("threshold_bootstrap", thresholds)
            | _ends("recall_bootstrap", resampled)
            | {
                "tiers": _shares(is_detected, matched.tiers, is_lens, interval),
                "categories": _shares(is_detected, matched.categories, ~is_lens, interval),
            }
        )
    return {
        "auc": {"value": roc_auc(is_lens, logits)} | _ends("bootstrap", drawn.auc[:, table]),
        "recall_at_fpr": recalls,
        "calibration": {
            "ece": found.ece,
            "lens_share": float(is_lens.mean()),
            "curve": [item._asdict() for item in found.curve],
        },
    }


def roc(
    is_lens: NDArray[np.bool_],
    logits: NDArray[np.float64],
    allowed: NDArray[np.int64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
) -> dict[str, list[float]]:
    """Compute recall against false-positive rate at F points.

    Parameters
    ----------
    is_lens : (N,) bool
    logits : (N,) float64
    allowed : (F,) int
        Allowed numbers of false positives, ascending.
    low, high : (F,) float64
        Interval of the recall at each point.

    Returns
    -------
    dict of list
    """
    negatives, lenses = np.sort(logits[~is_lens]), np.sort(logits[is_lens])
    thresholds = threshold_of(negatives, allowed)
    missed = np.searchsorted(lenses, thresholds, "right")
    columns = {
        "fpr": allowed / len(negatives),
        "recall": 1 - missed / len(lenses),
        "low": low,
        "high": high,
    }
    return {name: values.tolist() for name, values in columns.items()}


def compare_models(
    matched: Matched,
    judged: Sequence[Mapping[str, Any]],
    drawn: Resampled,
    first: int,
    second: int,
) -> dict[str, Any]:
    """Compare two tables on the same objects; differences are first minus second.

    McNemar's test uses the lenses, with each table at its own threshold, and takes the thresholds
    as given. The bootstrap of the difference in recall sets them again in every resample.

    Parameters
    ----------
    matched : Matched
    judged : sequence of dict
        Results of `judge` for every table.
    drawn : Resampled
    first, second : int
        Positions of the tables.

    Returns
    -------
    dict
    """
    at_rates = []
    pairs = zip(judged[first]["recall_at_fpr"], judged[second]["recall_at_fpr"], strict=True)
    for k, (ours, theirs) in enumerate(pairs):
        by_first = matched.logits[first, matched.is_lens] > ours["threshold"]
        by_second = matched.logits[second, matched.is_lens] > theirs["threshold"]
        only_first, only_second = (
            int((by_first & ~by_second).sum()),
            int((by_second & ~by_first).sum()),
        )
        at_rates.append(
            {
                "fpr": ours["fpr"],
                "both": int((by_first & by_second).sum()),
                "only_first": only_first,
                "only_second": only_second,
                "neither": int((~by_first & ~by_second).sum()),
                "mcnemar_p": mcnemar_exact(only_first, only_second),
                "recall_difference": ours["recall"] - theirs["recall"],
            }
            | _ends("bootstrap", drawn.recalls[:, first, k] - drawn.recalls[:, second, k])
        )
    difference = judged[first]["auc"]["value"] - judged[second]["auc"]["value"]
    return {
        "first": judged[first]["name"],
        "second": judged[second]["name"],
        "auc_difference": {"value": difference}
        | _ends("bootstrap", drawn.auc[:, first] - drawn.auc[:, second]),
        "at_fpr": at_rates,
    }


def _described(recall: Recall) -> dict[str, Any]:
    """Describe a recall; add the threshold as a score, and the actual rate with its interval."""
    low, high = binomial_interval(recall.false_positives, recall.negatives, "clopper-pearson")
    return recall._asdict() | {
        "threshold_score": float(sigmoid(recall.threshold)),
        "actual_fpr": recall.false_positives / recall.negatives,
        "actual_fpr_low": low,
        "actual_fpr_high": high,
    }


def _ends(name: str, resampled: NDArray[np.float64]) -> dict[str, float]:
    low, high = percentile_interval(resampled)
    return {f"{name}_low": float(low), f"{name}_high": float(high)}


def _shares(
    is_detected: NDArray[np.bool_],
    groups: Names | None,
    is_meant: NDArray[np.bool_],
    interval: str,
) -> list[dict[str, Any]]:
    """Count detections in each group; return an empty list if there are no groups."""
    shares = []
    for name in [] if groups is None else np.unique(groups[is_meant]):
        is_member = is_meant & (groups == name)
        detected, objects = int(is_detected[is_member].sum()), int(is_member.sum())
        low, high = binomial_interval(detected, objects, interval)
        shares.append(
            {
                "name": str(name),
                "detected": detected,
                "objects": objects,
                "share": detected / objects,
                "low": low,
                "high": high,
            }
        )
    return shares
