"""Linear probe that tells real lenses from injections by a network's penultimate features."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from dhs.arguments import MOST_ID, integer
from dhs.statistics.auc import ENOUGH_INVERSIONS, score_interval

FEWEST_PER_FOLD = 5
LEVEL = 0.05
FEWEST_PERMUTATIONS = 19  # with fewer, no p-value is as small as the level
CONFIDENCE = 0.95
SHRINKAGE = 0.3
"""Penalty of the ridge regression, in units of the variance of a standardised feature. There may
be more features than objects, and most features hardly differ between the samples."""


class Side(NamedTuple):
    """One of the two samples of a probe.

    ``given``: number of objects. ``groups``: number of groups. ``rows``, ``fold``: (n,) int64,
    positions of the objects that the probe used, and their folds. ``values``: (n,) float64,
    out-of-fold predictions; the probe is fitted to 1 for real lenses and 0 for injections.
    """

    given: int
    groups: int
    rows: NDArray[np.int64]
    fold: NDArray[np.int64]
    values: NDArray[np.float64]


class Probe(NamedTuple):
    """Result of `probe`.

    ``auc``: out-of-fold AUC for real lenses against injections, averaged over the folds; 0.5 is
    chance. ``interval``: 95 % interval of the AUC that probes of so many objects have on average.
    ``p_value``: fraction of permutations that
    reach this AUC, with the true labels counted as one permutation. ``null``: (permutations,)
    float64, AUCs of the permutations. ``real``, ``injected``: the samples. ``folds``, ``seed``:
    as given.
    """

    auc: float
    interval: tuple[float, float]
    p_value: float
    null: NDArray[np.float64]
    real: Side
    injected: Side
    folds: int
    seed: int

    @property
    def detectable(self) -> float:
        """Smallest detectable AUC: any AUC above it has a p-value of at most 0.05."""
        allowed = int(LEVEL * (len(self.null) + 1) + 1e-9) - 1
        return float(np.sort(self.null)[len(self.null) - 1 - allowed])

    @property
    def used(self) -> int:
        """Number of objects of each side that the probe used."""
        return len(self.real.rows)

    @property
    def is_told_apart(self) -> bool:
        return self.p_value <= LEVEL

    @property
    def verdict(self) -> str:
        """Explanation of the AUC in words."""
        low, high = self.interval
        found = (
            f"AUC {self.auc:.3f} ({100 * CONFIDENCE:g} % interval {low:.3f} to {high:.3f}), "
            f"p = {self.p_value:.2g}, {self.used} of each"
        )
        if not self.is_told_apart:
            return (
                f"A linear probe cannot tell real lenses from injections: {found}. That does not "
                "prove them equal: with so many objects, no AUC below "
                f"{self.detectable:.3f} would have been noticed."
            )
        return (
            f"The network sees differences between real lenses and injections: {found}. It tells "
            f"{100 * self.auc:.0f} % of pairs apart, where chance is 50 %. The nearer that is to "
            "100 %, the less a completeness measured with these injections has to be that of real "
            "lenses. Look at what may differ: colours, noise, hosts, PSF; Einstein radii and "
            "brightness of the arcs, if the injections were not chosen to be like the real lenses; "
            "lenses that the network was trained on."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the results without the values of single objects, for JSON."""
        return {
            "auc": self.auc,
            "interval": list(self.interval),
            "confidence": CONFIDENCE,
            "p_value": self.p_value,
            "permutations": len(self.null),
            "null_mean": float(self.null.mean()),
            "null_sd": float(self.null.std(ddof=1)),
            "detectable_auc": self.detectable,
            "used_of_each": self.used,
            "real": {"given": self.real.given, "groups": self.real.groups},
            "injected": {"given": self.injected.given, "groups": self.injected.groups},
            "folds": self.folds,
            "shrinkage": SHRINKAGE,
            "seed": self.seed,
            "told_apart": self.is_told_apart,
            "verdict": self.verdict,
        }


def probe(
    real: NDArray[Any],
    injected: NDArray[Any],
    *,
    real_groups: ArrayLike | None = None,
    injected_groups: ArrayLike | None = None,
    folds: int = 5,
    permutations: int = 200,
    seed: int = 1,
) -> Probe:
    """Try to tell real lenses from injections by a linear function of their features.

    The probe is Fisher's linear discriminant: ridge regression of the labels on standardised
    features, cross-validated in stratified folds. The AUC is the mean over the folds. For the
    p-value, everything is repeated with labels shuffled within the folds.

    The variance of the AUC by LeDell, Petersen & van der Laan (2015, EJS 9, 1583) takes the fits as
    given, and is too small. It is multiplied by the factor that holds for shuffled labels, whose
    AUCs scatter about 0.5. The result gives an effective sample size for a Jeffreys interval,
    joined near 0 and 1 with the score interval of `dhs.statistics.auc`.

    Objects of a group (injections into one host) are not independent, so shuffled labels are not
    a fair comparison for them. Therefore one object per group and side is drawn. Then the larger
    side is reduced at random to the size of the smaller one. A group that occurs on both sides
    stays in one fold.

    Parameters
    ----------
    real, injected : (N, D) and (M, D) arrays
        Features, finite.
    real_groups, injected_groups : (N,) and (M,) array_like, optional
        Group of each object; by default each object is a group of its own.
    folds : int
        Number of folds, at least 2.
    permutations : int
        Number of permutations of the labels, at least 19.
    seed : int
        Random seed of the draws, the folds and the permutations.

    Returns
    -------
    Probe

    Raises
    ------
    TypeError, ValueError
        A number is out of range; the features of both sides differ in number, or are not finite;
        or there are fewer than 5 objects per fold and side.
    """
    integer("folds", folds, 2, 1000)
    integer("permutations", permutations, FEWEST_PERMUTATIONS, 10**6)
    integer("seed", seed, 0, MOST_ID)
    sides = (_features("real", real), _features("injected", injected))
    if sides[0].shape[1] != sides[1].shape[1]:
        raise ValueError(
            f"real has {sides[0].shape[1]} features and injected {sides[1].shape[1]}; both must "
            "come from one model."
        )
    groups = (
        _groups("real", real_groups, len(sides[0])),
        _groups("injected", injected_groups, len(sides[1])),
    )
    rng = np.random.default_rng(seed)
    single = [one_of_each(names, rng) for names in groups]
    count = min(map(len, single))
    needed = FEWEST_PER_FOLD * folds
    if count < needed:
        raise ValueError(
            f"there are {len(single[0])} real lenses and {len(single[1])} injections (those of "
            f"one host or galaxy, a group, count once); {folds} folds, each tested with a probe "
            f"fitted on the others, need {needed} of each, {FEWEST_PER_FOLD} per fold. Give more."
        )
    rows = [np.sort(rng.choice(chosen, count, replace=False)) for chosen in single]
    features = np.concatenate([side[chosen] for side, chosen in zip(sides, rows, strict=True)])
    names = np.concatenate([name[chosen] for name, chosen in zip(groups, rows, strict=True)])
    is_real = np.repeat([True, False], count)
    fold = _folds(is_real, names, folds, int(rng.integers(2**31)))
    labels = np.stack([is_real] + [_shuffled(is_real, fold, rng) for _ in range(permutations)])
    aucs, values, variances = _cross_validate(features, labels, fold)
    auc = float(aucs[0])
    widening = float(((aucs[1:] - 0.5) ** 2).mean() / variances[1:].mean())
    interval = _interval(auc, float(variances[0]), max(widening, 1.0), count)
    found = [
        Side(len(sides[k]), len(single[k]), rows[k], fold[part], values[part])
        for k, part in enumerate((slice(count), slice(count, None)))
    ]
    p_value = float((1 + (aucs[1:] >= auc).sum()) / (permutations + 1))
    return Probe(auc, interval, p_value, aucs[1:], found[0], found[1], folds, seed)


def one_of_each(groups: NDArray[Any], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw the position of one member of every group, in rising order."""
    order = rng.permutation(len(groups))
    _, first = np.unique(groups[order], return_index=True)
    return np.sort(order[first])


def _cross_validate(
    features: NDArray[np.float64], labels: NDArray[np.bool_], fold: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the AUC of each row of labels, the values of the first row, and all variances."""
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import StandardScaler

    folds = int(fold.max()) + 1
    aucs = np.zeros((len(labels), folds))
    values, squares = np.zeros(len(fold)), np.zeros((len(labels), folds))
    for k in range(folds):
        is_out = fold == k
        scaler = StandardScaler().fit(features[~is_out])
        # Fit all rows of labels at once, since they share the matrix.
        ridge = Ridge(SHRINKAGE * (~is_out).sum(), solver="cholesky")
        ridge.fit(scaler.transform(features[~is_out]), labels[:, ~is_out].T.astype(np.float64))
        predicted = ridge.predict(scaler.transform(features[is_out])).T
        found = [_auc(*pair) for pair in zip(predicted, labels[:, is_out], strict=True)]
        aucs[:, k] = [auc for auc, _ in found]
        values[is_out] = predicted[0]
        squares[:, k] = [np.mean(influence**2) for _, influence in found]
    return aucs.mean(axis=1), values, squares.mean(axis=1) / len(fold)


def _interval(auc: float, variance: float, widening: float, count: int) -> tuple[float, float]:
    """Return the interval of an AUC with ``count`` objects of each side."""
    tail = (1 - CONFIDENCE) / 2
    low = high = auc
    if variance > 0 and 0 < auc < 1:
        size = auc * (1 - auc) / (variance * widening)
        ends = stats.beta.ppf([tail, 1 - tail], auc * size + 0.5, (1 - auc) * size + 0.5)
        low, high = min(float(ends[0]), auc), max(float(ends[1]), auc)
    effective = count / widening
    if min(auc, 1 - auc) * effective < ENOUGH_INVERSIONS:
        ends = score_interval(max(auc, 1 - auc), effective, effective, tail)
        ends = ends if auc >= 0.5 else (1 - ends[1], 1 - ends[0])
        low, high = min(low, ends[0]), max(high, ends[1])
    return low, high


def _auc(
    values: NDArray[np.float64], is_real: NDArray[np.bool_]
) -> tuple[float, NDArray[np.float64]]:
    """Return the AUC and the influence of every object on it."""
    below = _share_below(values[is_real], values[~is_real])
    above = 1 - _share_below(values[~is_real], values[is_real])
    auc = below.mean()
    influence = np.zeros(len(values))
    influence[is_real] = (below - auc) / is_real.mean()
    influence[~is_real] = (above - auc) / (~is_real).mean()
    return float(auc), influence


def _share_below(values: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return for each value the fraction of others below it; ties count half."""
    ordered = np.sort(others)
    ends = ordered.searchsorted(values, "left") + ordered.searchsorted(values, "right")
    return np.asarray(ends / (2 * len(others)), np.float64)


def _folds(
    is_real: NDArray[np.bool_], groups: NDArray[Any], folds: int, seed: int
) -> NDArray[np.int64]:
    from sklearn.model_selection import StratifiedGroupKFold

    fold = np.zeros(len(is_real), np.int64)
    split = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for k, (_, out) in enumerate(split.split(is_real, is_real, groups)):
        fold[out] = k
    return fold


def _shuffled(
    is_real: NDArray[np.bool_], fold: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Shuffle labels within each fold, so that every fold keeps its number of both labels."""
    shuffled = is_real.copy()
    for k in range(int(fold.max()) + 1):
        shuffled[fold == k] = rng.permutation(is_real[fold == k])
    return shuffled


def _features(name: str, values: NDArray[Any]) -> NDArray[np.float64]:
    features = np.asarray(values)
    if features.ndim != 2 or features.dtype.kind not in "fiu":
        raise ValueError(
            f"{name} has shape {features.shape} and dtype {features.dtype}; give numbers (N, D)."
        )
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if bad.size:
        raise ValueError(
            f"{name}: {bad.size} of {len(features)} objects have features that are not finite, the "
            f"first in row {bad[0]}; check its cutout and the weights of the network."
        )
    return features.astype(np.float64)


def _groups(name: str, groups: ArrayLike | None, count: int) -> NDArray[np.str_]:
    if groups is None:
        return np.array([f"{name} {k}" for k in range(count)], str)
    names = np.asarray(groups, str)
    if names.shape != (count,):
        raise ValueError(f"{name}_groups has shape {names.shape}; {count} objects need ({count},).")
    return names
