"""Intervals of completeness: hosts are the sampling unit, and a threshold set by a rate scatters.

A threshold that a false-positive rate sets is an order statistic of the non-lenses. Its scatter
and that of the hosts add up in quadrature, less their correlation: a host that is itself near the
threshold moves both.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dhs.statistics.clusters import FEWEST_CLUSTERS, METHOD, WARNED_CLUSTERS

Float = NDArray[np.float64]

CONFIDENCES = (0.68, 0.95)
HOSTS, HOSTS_AND_NEGATIVES, OF_OLD_KIND = "hosts", "hosts and non-lenses", "binomial"
"""Values of the column ``interval``: what scatters in repeated surveys. The last one is that of
folders from before hosts were the sampling unit."""

TOO_FEW = "too few"
"""Text in place of an interval where fewer than `FEWEST_CLUSTERS` hosts carry a number."""

METHODS = {
    HOSTS: f"hosts are the sampling unit and the threshold is a given score: {METHOD}",
    HOSTS_AND_NEGATIVES: "hosts and non-lenses both scatter, since a false-positive rate sets the "
    f"threshold. Hosts: {METHOD}. Threshold: limits from the beta distribution of an order "
    "statistic's rate (David & Nagaraja 2003), joined in quadrature with those of the hosts, less "
    "their correlation (Zou & Donner 2008)",
    "too few": f"no interval with fewer than {FEWEST_CLUSTERS} hosts; few_hosts marks those with "
    f"fewer than {WARNED_CLUSTERS}",
}


COMPUTED_AGAIN = "The intervals shown are computed again from the injections, by host."
"""Follows the warning on intervals of the old kind where they are not used."""


class Ends(NamedTuple):
    """Both ends of an interval, each (G,) float64."""

    low: Float
    high: Float


def combine(share: Float, of_hosts: Ends, of_threshold: Ends, correlation: Float) -> Ends:
    """Combine the interval due to hosts with that due to the threshold.

    The distances of both ends from the estimate add in quadrature, less twice their correlation
    (Zou & Donner 2008, Stat. Med. 27, 1693). Without a correlation this is
    `dhs.statistics.threshold_scatter.with_threshold_scatter`.

    Parameters
    ----------
    share : (G,) float64
        Estimates.
    of_hosts : Ends
        Intervals at the threshold as it is.
    of_threshold : Ends
        Completeness of the same injections at both limits of the threshold.
    correlation : (G,) float64
        Correlation of the number of detections with the number of non-lenses above the threshold.

    Returns
    -------
    Ends
    """
    ends = []
    for sign, hosts, threshold in zip((-1, 1), of_hosts, of_threshold, strict=True):
        one, other = hosts - share, threshold - share
        square = one**2 + other**2 - 2 * correlation * one * other
        ends.append(np.clip(share + sign * np.sqrt(np.maximum(square, 0)), 0, 1))
    return Ends(*ends)
