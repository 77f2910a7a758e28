"""The completeness of a grid at many thresholds, in one pass over its injections."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from dhs.selection.completeness import FEWEST_PER_BIN
from dhs.selection.grid_result import MAGNITUDE, GridResult, kind
from dhs.selection.host_sums import HostSums, Negatives
from dhs.selection.intervals import HOSTS
from dhs.selection.net import UNDEFINED, UNKNOWN, net_text, share_text
from dhs.statistics.clusters import cluster_interval
from dhs.statistics.intervals import binomial_interval

STEPS = 56
SAMPLE = 200_000
"""Largest number of injection logits used to choose levels if no non-lens was scored."""

Count = NDArray[np.int64]


class FalsePositives(NamedTuple):
    """Number of non-lenses above a level, with a 95 % Clopper-Pearson interval of the rate."""

    found: int
    negatives: int
    low: float
    high: float


class Overall(NamedTuple):
    """Completeness over all cells at one threshold.

    ``found``, ``tried``, ``hosts``: numbers of detections, injections and hosts. ``low``,
    ``high``: 95 % interval, NaN with too few hosts. ``interval``: what it includes, see
    `dhs.selection.intervals.METHODS`. ``net``: text on the completeness net of the hosts that are
    above the threshold without an arc, with its interval.
    """

    found: int
    tried: int
    hosts: int
    low: float
    high: float
    interval: str
    net: str


class Levels(NamedTuple):
    """Detections of a grid, by threshold.

    ``logits`` (K,) float64: thresholds, ascending. ``names`` (K,) list of str: name of a threshold
    that the grid defines itself, otherwise empty. ``tried`` (M, T) int64: scored injections by bin
    of source magnitude and by Einstein radius, over all PSFs and depths. ``found`` (K, M, T)
    int64: scored injections above each threshold. ``few`` (M, T) bool: fewer than 30 hosts.
    ``overall`` (K,) list: completeness over all cells. ``negatives`` (K,) list: None if the grid
    scored no non-lenses.
    """

    logits: NDArray[np.float64]
    names: list[str]
    tried: Count
    found: Count
    few: NDArray[np.bool_]
    overall: list[Overall]
    negatives: list[FalsePositives | None]

    @property
    def scores(self) -> NDArray[np.float64]:
        """Thresholds as scores, (K,) float64 between 0 and 1."""
        return np.asarray(expit(self.logits), np.float64)

    @property
    def is_sufficient(self) -> NDArray[np.bool_]:
        """Cells with enough injections to give a fraction, (M, T) bool."""
        return self.tried >= FEWEST_PER_BIN


def completeness_levels(grid: GridResult) -> Levels:
    """Count the detections of a grid at its own thresholds and at many in between.

    Levels are even steps in the logarithm of the false-positive rate if non-lenses were scored,
    otherwise quantiles of the injections' scores.

    Parameters
    ----------
    grid : GridResult
        Grid whose injections are read in batches.

    Raises
    ------
    ValueError
        No injection has a score.
    """
    negatives = grid.negatives()
    if negatives is not None and not len(negatives):
        negatives = None
    logits, names = _levels(grid, negatives)
    shape = (len(grid.bins), len(grid.centres["theta_e"]))
    per_radius = grid.cells // shape[1]
    counts = np.zeros((len(logits) + 1, *shape), np.int64)
    by_host = HostSums((), None, len(logits) + 1)
    for batch in grid.batches("cell", "host_row", "source_r_mag", "logit"):
        is_scored = ~np.isnan(batch["logit"])
        radius = batch["cell"][is_scored].astype(np.int64) // per_radius
        magnitude = grid.bin_of(batch["source_r_mag"][is_scored])
        # A score equal to a threshold is not a detection.
        above = np.searchsorted(logits, batch["logit"][is_scored].astype(np.float64), "left")
        np.add.at(counts, (above, magnitude, radius), 1)
        by_host.add(above, batch["host_row"][is_scored].astype(np.int64), batch["logit"][is_scored])
    tried = counts.sum(axis=0)
    if not tried.any():
        raise ValueError(f"{grid.folder}: no injection has a score; run the grid again.")
    found = np.cumsum(counts[::-1], axis=0)[::-1][1:]
    few = grid.completeness(grid.thresholds[0], (MAGNITUDE, "theta_e")).is_few
    false = [_false(negatives, level) for level in logits]
    overall = _overall(grid, logits, by_host)
    return Levels(logits, names, tried, found, few & (tried > 0), overall, false)


def _overall(grid: GridResult, logits: NDArray[np.float64], by_host: HostSums) -> list[Overall]:
    """Return the completeness over all cells at every level, from the strictest to the mildest."""
    above, host, count = by_host.pairs()
    names, place = np.unique(host, return_inverse=True)
    own = _own_logits(grid.non_lenses, names)
    tried = np.bincount(place, count).astype(np.int64)
    found = np.zeros_like(tried)
    levels = []
    for level in reversed(range(len(logits))):
        passed = above == level + 1
        found += np.bincount(place[passed], count[passed], len(found)).astype(np.int64)
        ends = cluster_interval(found, tried)
        low, high = float(ends.low), float(ends.high)
        counts = int(found.sum()), int(tried.sum()), len(tried)
        net = _net(own, found, tried, logits[level])
        levels.append(Overall(*counts, low, high, HOSTS, net))
    levels.reverse()
    # The scatter of a threshold that a false-positive rate sets belongs to its interval.
    for threshold in grid.thresholds:
        measured = grid.completeness(threshold)
        if measured.interval != HOSTS:
            level = int(np.searchsorted(logits, threshold.logit))
            low, high = float(measured.low), float(measured.high)
            levels[level] = levels[level]._replace(
                low=low, high=high, interval=measured.interval, net=net_text(measured)
            )
    return levels


def _own_logits(negatives: Negatives | None, hosts: Count) -> NDArray[np.float64] | None:
    """Return the logits of hosts without an arc; None if they are not stored."""
    if negatives is None or negatives.host_row is None:
        return None
    logits = dict(zip(negatives.host_row.tolist(), negatives.logit.tolist(), strict=True))
    # A host that is not among them is not known to be above anything.
    return np.array([logits.get(host, -np.inf) for host in hosts.tolist()])


def _net(own: NDArray[np.float64] | None, found: Count, tried: Count, logit: float) -> str:
    """Describe the completeness among hosts that are not above a threshold without an arc."""
    if own is None:
        return UNKNOWN
    kept = own <= logit
    if not tried[kept].sum():
        return UNDEFINED
    ends = cluster_interval(found[kept], tried[kept])
    share = found[kept].sum() / tried[kept].sum()
    return share_text(share, float(ends.low), float(ends.high))


def _levels(
    grid: GridResult, negatives: NDArray[np.float32] | None
) -> tuple[NDArray[np.float64], list[str]]:
    if negatives is None:
        sample = np.concatenate([batch["logit"] for batch in grid.batches("logit")])[:SAMPLE]
        chosen = np.nanquantile(sample.astype(np.float64), np.linspace(0.02, 0.999, STEPS))
    else:
        ordered = np.sort(negatives.astype(np.float64))
        last = len(ordered) - 1
        counts = np.geomspace(max(len(ordered) / 2, 1), 1, STEPS).astype(int)
        chosen = ordered[last - np.minimum(counts, last)]
    own: dict[float, list[str]] = {}
    for threshold in grid.thresholds:
        own.setdefault(threshold.logit, []).append(kind(threshold))
    logits = np.unique(np.concatenate([chosen, list(own)]))
    return logits, [", ".join(own.get(logit, [])) for logit in logits.tolist()]


def _false(negatives: NDArray[np.float32] | None, logit: float) -> FalsePositives | None:
    if negatives is None:
        return None
    above, count = int((negatives > logit).sum()), len(negatives)
    return FalsePositives(above, count, *binomial_interval(above, count, "clopper-pearson"))
