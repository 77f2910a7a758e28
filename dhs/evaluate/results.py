"""Results of an evaluation for JSON: of a single table, and of the comparison of two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dhs.evaluate.truth import Matched, Names
from dhs.statistics import auc, calibration_error, threshold_scatter
from dhs.statistics.bootstrap import Resampled, percentile_interval
from dhs.statistics.calibration import BAND, calibration
from dhs.statistics.differences import compare_recalls
from dhs.statistics.intervals import binomial_interval
from dhs.statistics.metrics import Recall, recall_at_fpr, roc_auc
from dhs.statistics.threshold_scatter import CONDITIONAL, UNCONDITIONAL, with_threshold_scatter
from dhs.statistics.thresholds import sigmoid, threshold_of

INTERVAL_METHODS = {
    "auc": auc.METHOD,
    "recall": threshold_scatter.SCATTER_METHOD,
    "ece": calibration_error.METHOD,
    "reliability_band": BAND,
}


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
        recalls.append(
            _described(recall)
            | _ends("threshold_bootstrap", thresholds)
            | _ends("recall_bootstrap", resampled)
            | {
                "tiers": _shares(logits, recall, matched.tiers, is_lens, interval, are_lenses=True),
                "categories": _shares(
                    logits, recall, matched.categories, ~is_lens, interval, are_lenses=False
                ),
            }
        )
    return {
        "auc": {"value": roc_auc(is_lens, logits)}
        | _auc_ends(logits[is_lens], logits[~is_lens])
        | _ends("bootstrap", drawn.auc[:, table]),
        "recall_at_fpr": recalls,
        "calibration": {
            "ece": found.ece,
            # An error is not negative: the estimate ends where its interval does.
            "ece_debiased": max(found.ece_debiased, 0.0),
            "ece_debiased_signed": found.ece_debiased,
            "ece_low": found.ece_low,
            "ece_high": found.ece_high,
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
    *,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Compare two tables on the same objects; differences are first minus second.

    Every rate sets the thresholds of both tables again in every resample; see
    `dhs.statistics.differences.compare_recalls`.

    Parameters
    ----------
    matched : Matched
    judged : sequence of dict
        Results of `judge` for every table.
    drawn : Resampled
    first, second : int
        Positions of the tables.
    resamples : int
        Number of resamples of the difference in recall.
    seed : int
        Random seed of these.

    Returns
    -------
    dict
    """
    at_rates = []
    pairs = zip(judged[first]["recall_at_fpr"], judged[second]["recall_at_fpr"], strict=True)
    both = matched.logits[[first, second]]
    lenses, negatives = both[:, matched.is_lens], both[:, ~matched.is_lens]
    for ours, theirs in pairs:
        by_first, by_second = lenses > [[ours["threshold"]], [theirs["threshold"]]]
        found = compare_recalls(lenses, negatives, ours["fpr"], resamples=resamples, seed=seed)
        at_rates.append(
            {
                "fpr": ours["fpr"],
                "both": int((by_first & by_second).sum()),
                "only_first": int((by_first & ~by_second).sum()),
                "only_second": int((by_second & ~by_first).sum()),
                "neither": int((~by_first & ~by_second).sum()),
                "recall_difference": found.difference,
                "bootstrap_low": found.low,
                "bootstrap_high": found.high,
                "p_value": found.p_value,
                "interval_kind": found.interval_kind,
            }
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


def _auc_ends(lenses: NDArray[np.float64], negatives: NDArray[np.float64]) -> dict[str, Any]:
    """Return the interval of the AUC; its ends are None if there are too few objects."""
    found = auc.auc_interval(lenses, negatives)
    ends = (None, None) if found.is_too_few else (found.low, found.high)
    return {
        "low": ends[0],
        "high": ends[1],
        "is_too_few": found.is_too_few,
        "uses_score_interval": bool(found.uses_score_interval),
    }


def _shares(
    logits: NDArray[np.float64],
    recall: Recall,
    groups: Names | None,
    is_meant: NDArray[np.bool_],
    interval: str,
    *,
    are_lenses: bool,
) -> list[dict[str, Any]]:
    """Count detections in each group; return an empty list if there are no groups.

    Intervals of groups of lenses include the scatter of the threshold. Those of non-lenses do not,
    because the same non-lenses set it.
    """
    shares = []
    for name in [] if groups is None else np.unique(groups[is_meant]):
        members = logits[is_meant & (groups == name)]
        detected, objects = int((members > recall.threshold).sum()), members.size
        ends = binomial_interval(detected, objects, interval)
        kind = CONDITIONAL
        if are_lenses:
            limits = (recall.threshold_low, recall.threshold_high)
            at_limits = tuple(float((members > limit).mean()) for limit in limits)
            low, high = with_threshold_scatter(
                detected / objects, ends, (at_limits[0], at_limits[1])
            )
            ends, kind = (float(low), float(high)), UNCONDITIONAL
        shares.append(
            {
                "name": str(name),
                "detected": detected,
                "objects": objects,
                "share": detected / objects,
                "low": ends[0],
                "high": ends[1],
                "interval_kind": kind,
            }
        )
    return shares
