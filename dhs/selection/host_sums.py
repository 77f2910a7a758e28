"""Injections and detections by host, and the completeness of any group of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dhs.selection.intervals import (
    HOSTS,
    HOSTS_AND_NEGATIVES,
    Ends,
    combine,
)
from dhs.statistics.clusters import WARNED_CLUSTERS, cluster_interval
from dhs.statistics.threshold_scatter import threshold_limits
from dhs.statistics.thresholds import Threshold

Count = NDArray[np.int64]
Float = NDArray[np.float64]

HOST_BITS = 32
LEAST_BUFFER = 1 << 20
AT_ONCE = 1 << 20
"""Largest number of entries of a table of groups and hosts."""


class Negatives(NamedTuple):
    """Non-lenses: position in the split and logit.

    ``host_row`` (N,) int64: same positions as those of the injections' hosts; None if they are
    not stored. ``logit`` (N,) float32.
    """

    host_row: Count | None
    logit: NDArray[np.float32]


class Completeness(NamedTuple):
    """Completeness of G groups of injections.

    ``tried``, ``found``, ``hosts``: numbers of injections, of detections, and of hosts.
    ``share``: completeness. ``n_eff``: number of independent injections with the same scatter at
    this threshold. ``low``, ``high``: interval; NaN with too few hosts. ``interval``: what it
    includes, `dhs.selection.intervals.HOSTS` or ``HOSTS_AND_NEGATIVES``. ``net``: completeness
    among injections whose host alone is not above the threshold; NaN without non-lenses.
    ``net_low``, ``net_high``: its interval, of the same kind. ``alone``: share of the injections
    whose host alone is above the threshold, which ``net`` leaves out; NaN without non-lenses.
    """

    tried: Count
    found: Count
    hosts: Count
    share: Float
    n_eff: Float
    low: Float
    high: Float
    interval: str
    net: Float
    net_low: Float
    net_high: Float
    alone: Float

    @property
    def is_few(self) -> NDArray[np.bool_]:
        """Whether fewer than 30 hosts carry the number."""
        return self.hosts < WARNED_CLUSTERS


class HostSums:
    """Sums over injections by row and host; memory grows with their pairs, not with injections.

    Parameters
    ----------
    thresholds : sequence of Threshold
    negatives : Negatives, optional
        Non-lenses that set the thresholds. Without them, a threshold scatters only if it has its
        own limits, and the correlation of hosts and non-lenses is taken as 0.
    rows : int
        Number of rows; what a row is, a cell for example, is up to the caller.
    confidences : sequence of float
        Confidences that `completeness` may be asked for.
    """

    def __init__(
        self,
        thresholds: Sequence[Threshold],
        negatives: Negatives | None,
        rows: int,
        confidences: Sequence[float] = (0.95,),
    ) -> None:
        self.thresholds, self.rows = list(thresholds), rows
        self._negatives = negatives
        self._limits = _limits(self.thresholds, negatives, confidences)
        self._at_limits = {key: np.zeros((2, rows), np.int64) for key in self._limits}
        self._keys = np.empty(0, np.int64)
        self._sums = np.empty((0, 1 + len(self.thresholds)), np.int32)
        self._parts: list[tuple[Count, NDArray[np.int32]]] = []
        self._waiting = 0

    def add(self, rows: Count, hosts: Count, logits: NDArray[np.float32]) -> None:
        """Add scored injections.

        Parameters
        ----------
        rows, hosts : (N,) int64
            Row of each injection, and position of its host in the split.
        logits : (N,) float32
        """
        columns = [np.ones(len(rows), np.int32)]
        columns += [(logits > threshold.logit).astype(np.int32) for threshold in self.thresholds]
        self._parts.append(_summed((rows << HOST_BITS) | hosts, np.stack(columns, 1)))
        self._waiting += len(self._parts[-1][0])
        if self._waiting > max(LEAST_BUFFER, len(self._keys)):
            self._merge()
        for key, limits in self._limits.items():
            # The lower completeness is that at the upper limit.
            for sums, limit in zip(self._at_limits[key], reversed(limits), strict=True):
                sums += np.bincount(rows[logits > limit], minlength=self.rows)

    def _merge(self) -> None:
        parts = [(self._keys, self._sums), *self._parts]
        keys, sums = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        self._keys, self._sums = _summed(keys, sums)
        self._parts, self._waiting = [], 0

    def pairs(self) -> tuple[Count, Count, NDArray[np.int32]]:
        """Return the row, the host and the number of injections of every pair of these."""
        self._merge()
        return self._keys >> HOST_BITS, self._keys & (2**HOST_BITS - 1), self._sums[:, 0]

    def interval_of(self, number: int, confidence: float = 0.95) -> str:
        """Name what the interval at a threshold includes."""
        return HOSTS_AND_NEGATIVES if (number, confidence) in self._limits else HOSTS

    def completeness(
        self,
        number: int,
        groups: Count | None = None,
        count: int | None = None,
        confidence: float = 0.95,
    ) -> Completeness:
        """Compute the completeness of groups of rows at one threshold.

        Parameters
        ----------
        number : int
            Position in ``thresholds``.
        groups : (rows,) int64, optional
            Group of each row, or -1 to leave it out. By default each row is a group.
        count : int, optional
            Number of groups; by default one more than the largest in ``groups``.
        confidence : float
            One of those given at the start.

        Returns
        -------
        Completeness
        """
        self._merge()
        if groups is None:
            groups = np.arange(self.rows)
        total = int(groups.max()) + 1 if count is None else count
        of_pair = groups[self._keys >> HOST_BITS]
        hosts = self._keys & (2**HOST_BITS - 1)
        is_in = of_pair >= 0
        keys, sums = _summed(
            ((of_pair << HOST_BITS) | hosts)[is_in], self._sums[is_in][:, [0, 1 + number]]
        )
        group, host = keys >> HOST_BITS, keys & (2**HOST_BITS - 1)
        tried, found = (_add_up(group, column, total) for column in sums.T)
        share = _ratio(found, tried)
        sizes = np.bincount(group, minlength=total)
        ends, n_eff = _of_hosts(sums, sizes, confidence)
        above = self._hosts_above(number, host)
        limits = self._at_limits.get((number, confidence))
        if limits is not None:
            inside = groups >= 0
            at = [_ratio(_add_up(groups[inside], row[inside], total), tried) for row in limits]
            residuals = sums[:, 1] - share[group] * sums[:, 0]
            correlation = self._correlation(number, group, residuals, above, total)
            ends = combine(share, ends, Ends(*at), correlation)
        kind = self.interval_of(number, confidence)
        net: tuple[Float, Ends] = np.full(total, np.nan), Ends(*np.full((2, total), np.nan))
        alone = np.full(total, np.nan)
        if above is not None:
            lost = [_add_up(group[above], column[above], total) for column in sums.T]
            alone = _ratio(lost[0], tried)
            net = _net(group[~above], sums[~above], total, confidence)
            if limits is not None:
                # Hosts that the limits add or remove are few, and stay where they are.
                kept = tried - lost[0]
                net_at = [np.clip(_ratio(end * tried - lost[1], kept), 0, 1) for end in at]
                net = net[0], combine(net[0], net[1], Ends(*net_at), np.zeros(total))
        return Completeness(tried, found, sizes, share, n_eff, *ends, kind, net[0], *net[1], alone)

    def _hosts_above(self, number: int, hosts: Count) -> NDArray[np.bool_] | None:
        """Return whether each host alone is above a threshold; None if that is not known."""
        if self._negatives is None or self._negatives.host_row is None:
            return None
        is_above = self._negatives.logit > self.thresholds[number].logit
        detected = self._negatives.host_row[is_above]
        return np.isin(hosts, detected)

    def _correlation(
        self,
        number: int,
        group: Count,
        residuals: Float,
        above: NDArray[np.bool_] | None,
        total: int,
    ) -> Float:
        """Correlate detections with non-lenses above the threshold, over hosts that are both."""
        rate = self.thresholds[number].fpr_target
        if above is None or rate is None or self._negatives is None:
            return np.zeros(total)
        product = np.bincount(group, residuals * (above - rate), minlength=total)
        squares = np.bincount(group, residuals**2, minlength=total)
        variance = len(self._negatives.logit) * rate * (1 - rate)
        with np.errstate(divide="ignore", invalid="ignore"):
            correlation: Float = np.nan_to_num(product / np.sqrt(squares * variance))
        return correlation


def _limits(
    thresholds: Sequence[Threshold], negatives: Negatives | None, confidences: Sequence[float]
) -> dict[tuple[int, float], tuple[float, float]]:
    """Return the limits of all thresholds set by a rate, by number and confidence."""
    ordered = None if negatives is None else np.sort(negatives.logit)
    limits = {}
    for number, threshold in enumerate(thresholds):
        if threshold.fpr_target is None:
            continue
        for confidence in confidences:
            if ordered is not None and ordered.size:
                found = threshold_limits(ordered, threshold.fpr_target, confidence)
                limits[number, confidence] = found
            elif confidence == 0.95 and threshold.logit_low is not None:
                limits[number, confidence] = (threshold.logit_low, threshold.logit_high or np.inf)
    return limits


def _net(
    group: Count, sums: NDArray[np.int32], total: int, confidence: float
) -> tuple[Float, Ends]:
    """Return the completeness of groups and its interval at a given threshold."""
    tried, found = (_add_up(group, column, total) for column in sums.T)
    ends, _ = _of_hosts(sums, np.bincount(group, minlength=total), confidence)
    return _ratio(found, tried), ends


def _of_hosts(sums: NDArray[np.int32], sizes: Count, confidence: float) -> tuple[Ends, Float]:
    """Return intervals and effective sizes of groups whose hosts are consecutive rows."""
    stops = np.cumsum(sizes)
    low, high, n_eff = np.full((3, len(sizes)), np.nan)
    first = 0
    while first < len(sizes):
        # As many groups as fit; the widest of them sets the width of the table.
        widest = np.maximum.accumulate(np.maximum(sizes[first:], 1))
        fits = widest * np.arange(1, len(widest) + 1) <= AT_ONCE
        last = first + max(int(fits.sum()), 1)
        some = sizes[first:last]
        start = stops[first] - sizes[first]
        chosen = sums[start : stops[last - 1]]
        row = np.repeat(np.arange(last - first), some)
        place = np.arange(len(chosen)) - np.repeat(np.cumsum(some) - some, some)
        table = np.zeros((2, last - first, int(some.max())), np.int64)
        table[:, row, place] = chosen.T
        has = some > 0
        if has.any():
            found = cluster_interval(table[1, has], table[0, has], confidence)
            for column, values in zip((low, high, n_eff), found, strict=False):
                column[first:last][has] = values
        first = last
    return Ends(low, high), n_eff


def _summed(keys: Count, sums: NDArray[np.int32]) -> tuple[Count, NDArray[np.int32]]:
    """Sort by key and add the rows of equal keys."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]][: len(ordered)])
    if not len(starts):
        return ordered, sums
    return ordered[starts], np.add.reduceat(sums[order], starts, axis=0, dtype=np.int32)


def _add_up(groups: Count, values: NDArray[np.int32] | Count, total: int) -> Count:
    # Sums of counts below 2^53 are exact in float64.
    return np.bincount(groups, values, minlength=total).astype(np.int64)


def _ratio(part: Count | Float, whole: Count) -> Float:
    """Return a fraction; NaN where there is nothing to divide by."""
    ratio: Float = np.full(len(whole), np.nan)
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio
