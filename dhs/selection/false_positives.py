"""False positives of a grid's thresholds: their rates by cell and class, and their bias."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from dhs.selection.host_sums import Negatives
from dhs.statistics.threshold_scatter import rate_remark
from dhs.statistics.thresholds import Threshold

if TYPE_CHECKING:
    from dhs.selection.hosts import Hosts

INTERVAL = "non-lenses at the given score"
"""Kind of the intervals of rates, Clopper & Pearson (1934)."""


def remark(threshold: Threshold) -> str:
    """Describe the bias of a rate that few false positives set; empty for other thresholds."""
    if threshold.false_positives is None or threshold.negatives is None:
        return ""
    return rate_remark(threshold.false_positives, threshold.negatives) or ""


def summary(thresholds: Sequence[Threshold], rates: pd.DataFrame | None) -> list[dict[str, Any]]:
    """Return the false positives of every threshold set by a rate, for ``grid.json``.

    Parameters
    ----------
    thresholds : sequence of Threshold
    rates : DataFrame or None
        Table of `false_positives`; None if no non-lens was scored.

    Returns
    -------
    list of dict
        ``threshold_type``, ``false_positives``, ``expected_rate``, ``remark`` on the bias where
        there are fewer than 50, ``by_cell``: lowest and highest rate of a cell, ``by_class``.
    """
    found = []
    for threshold in thresholds:
        if threshold.false_positives is None or rates is None:
            continue
        of_this = rates[rates["threshold_type"] == threshold.threshold_type]
        cells = of_this.loc[of_this["by"] == "cell", "rate"]
        classes = of_this[of_this["by"] == "class"]
        found.append(
            {
                "threshold_type": threshold.threshold_type,
                "false_positives": threshold.false_positives,
                "expected_rate": threshold.expected_fpr,
                "remark": remark(threshold),
                "by_cell": [float(cells.min()), float(cells.max())],
                "by_class": dict(zip(classes["host_type"], classes["rate"], strict=True)),
            }
        )
    return found


def false_positives(
    hosts: Hosts, thresholds: Sequence[Threshold], negatives: Negatives
) -> pd.DataFrame:
    """Tabulate the false-positive rates of all non-lenses, by cell, and by class.

    A threshold that gives the requested rate on average may give very different rates for faint
    and for bright, or for early and for late galaxies.

    Parameters
    ----------
    hosts : Hosts
    thresholds : sequence of Threshold
    negatives : Negatives
        The hosts' own logits, in their order.

    Returns
    -------
    pandas.DataFrame
        ``by`` is "all", "cell" (of PSF width and depth; all Einstein radii share its hosts) or
        "class". Intervals take the threshold as a given score.
    """
    parts = []
    for threshold in thresholds:
        is_above = negatives.logit > threshold.logit
        rows = pd.DataFrame([_count(is_above[chosen]) | names for names, chosen in _groups(hosts)])
        low, high = _clopper_pearson(rows["n_false_positives"], rows["n_non_lenses"])
        expected = np.where(rows["by"] == "all", threshold.expected_fpr or np.nan, np.nan)
        parts.append(
            pd.DataFrame(
                {
                    "threshold": threshold.threshold,
                    "threshold_type": threshold.threshold_type,
                    **{name: rows[name] for name in _NAMES},
                    "n_non_lenses": rows["n_non_lenses"],
                    "n_false_positives": rows["n_false_positives"],
                    "rate": rows["n_false_positives"] / rows["n_non_lenses"],
                    "ci95_lo": low,
                    "ci95_hi": high,
                    "expected_rate": expected,
                    "interval": INTERVAL,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


_NAMES = ("by", "psf_fwhm", "depth_5sig", "host_type")


def _groups(hosts: Hosts) -> Iterator[tuple[dict[str, Any], NDArray[np.bool_]]]:
    """Yield the names of each group and which non-lenses belong to it."""
    none: dict[str, Any] = {"psf_fwhm": np.nan, "depth_5sig": np.nan, "host_type": ""}
    yield none | {"by": "all"}, np.ones(len(hosts), bool)
    for place, count in enumerate(hosts.counts):
        if count["hosts"]:
            centre = {name: count[name] for name in ("psf_fwhm", "depth_5sig")}
            yield none | centre | {"by": "cell"}, hosts.places == place
    if hosts.classes is not None:
        for name in sorted(set(hosts.classes.tolist())):
            yield none | {"by": "class", "host_type": name}, hosts.classes == name


def _count(is_above: NDArray[np.bool_]) -> dict[str, Any]:
    return {"n_non_lenses": len(is_above), "n_false_positives": int(is_above.sum())}


def _clopper_pearson(found: Any, total: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    low = np.where(found == 0, 0.0, stats.beta.ppf(0.025, found, total - found + 1))
    high = np.where(found == total, 1.0, stats.beta.ppf(0.975, found + 1, total - found))
    return low, high
