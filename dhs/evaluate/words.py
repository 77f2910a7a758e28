"""Words on an evaluation: rates without a threshold, and the legend of its printed table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dhs.statistics.digits import rate_text
from dhs.statistics.thresholds import FEWEST_FALSE_POSITIVES, smallest_rate

AREA, ERROR = "AUC", "ECE, debiased"
RECALL, GIVEN = "recall at FPR", "  at this threshold, given"
SCORE, LOGIT = "  threshold (score)", "  threshold (logit)"
ACTUAL, EXPECTED = "  FPR of this sample", "  expected FPR, to quote"
OF_TIER, OF_CATEGORY = "  recall of", "  FPR of"
BOOTSTRAP_MARK, EXACT_MARK = "b", "c"

_SIMULATED_TIERS = {
    "bright": "bright, an arc that is easy to see",
    "limit": "limit, an arc near the detection limit",
}


def said_of_refused(report: Mapping[str, Any]) -> str | None:
    """Name the usual rates that the non-lenses do not allow, and the smallest that they do.

    Parameters
    ----------
    report : dict
        Report of an `Evaluation`.

    Returns
    -------
    str or None
        One sentence; None if no rate was refused.
    """
    if not report.get("refused"):
        return None
    rates = ", ".join(rate_text(item["fpr"]) for item in report["refused"])
    said = (
        f"{report['negatives']:,} non-lenses set no threshold at FPR {rates}, which takes "
        f"{FEWEST_FALSE_POSITIVES} false positives"
    )
    smallest = smallest_rate(report["negatives"])
    if smallest is None:
        return said
    return f"{said}; the smallest rate for them is {rate_text(smallest)}"


def legend(report: Mapping[str, Any], rows: Iterable[str]) -> str:
    """Explain the intervals and words of a printed table, only those that it has.

    Parameters
    ----------
    report : dict
        Report of an `Evaluation`.
    rows : iterable of str
        Names of the printed rows.
    """
    shown, method = set(rows), report["interval"]["method"].title()
    said = [f"95 % intervals. {_of_area(report['tables'])}"]
    if ERROR in shown:
        said.append(
            "ECE: distance of the scores from probabilities, without what noise adds, at least 0; "
            "bootstrap"
        )
    if any(row.startswith(RECALL) for row in shown):
        said.append(f"recall: {method}, with the scatter of the threshold")
    if GIVEN in shown:
        said.append(f"given: {method}, for data to which this threshold is applied unchanged")
    if SCORE in shown:
        said.append(f"{BOOTSTRAP_MARK}: bootstrap")
    if ACTUAL in shown:
        said.append(f"{EXACT_MARK}: Clopper-Pearson")
    if EXPECTED in shown:
        said.append("expected FPR: of other non-lenses at this threshold, (k + 1) / (n + 1)")
    said += _of_groups(report)
    return "; ".join(said)


def _of_area(tables: Sequence[Mapping[str, Any]]) -> str:
    if all(item["auc"]["is_too_few"] for item in tables):
        return "AUC: too few objects for an interval"
    if any(item["auc"].get("uses_score_interval") for item in tables):
        return "AUC: DeLong, joined near 0 and 1 with the score interval of Newcombe (2006)"
    return "AUC: DeLong"


def _of_groups(report: Mapping[str, Any]) -> list[str]:
    """Explain where the kinds of lenses and of non-lenses are from."""
    recalls = [recall for item in report["tables"] for recall in item["recall_at_fpr"]]
    said, truth = [], report["truth"]
    if any(recall["tiers"] for recall in recalls):
        names = dict.fromkeys(group["name"] for recall in recalls for group in recall["tiers"])
        said.append(f"recall of ...: kinds of lenses in the column {truth['tier_col']}")
        if set(names) <= set(_SIMULATED_TIERS):
            kinds = " and ".join(_SIMULATED_TIERS[name] for name in names)
            said[-1] += f" (of dhs simulate: {kinds})"
    if any(recall["categories"] for recall in recalls):
        said.append(f"FPR of ...: kinds of non-lenses in the column {truth['category_col']}")
    return said
