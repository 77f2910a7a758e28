"""Ensembles of lens finders, each with its own annulus, combined into one logit per cutout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from dhs import checkpoint
from dhs.checkpoint import Checkpoint
from dhs.manifest.columns import Manifest, with_ids
from dhs.model import LensFinder
from dhs.pack import read_manifest
from fastnorm.io.maskbits import MaskBits
from fastnorm.paths import local_path

COMBINATIONS = ("mean", "trained")
ACROSS_ANNULI_HINT = "To mix them anyway, give --across-annuli (across_annuli=True)."
HIDDEN_UNITS, FOLDS, SEED = 300, 5, 1337
MOST_PASSES = 1000
TOLERANCE = 1e-4
WEIGHT_DECAY = 0.1
NO_LABEL = -1
SMALLEST_PROBABILITY = 1e-12


class Member(NamedTuple):
    """A lens finder and its checkpoint."""

    finder: LensFinder
    checkpoint: Checkpoint

    def describe(self) -> dict[str, Any]:
        """Return a description for the metadata of a table."""
        record = self.checkpoint
        return {
            "checkpoint": record.path.name,
            "checkpoint_fingerprint": record.fingerprint,
            "spec": record.spec.to_dict(),
            "spec_fingerprint": record.spec.fingerprint,
            "architecture": record.architecture,
            "data_origin": record.data_origin,
            "deprecated": record.deprecated,
            "training_fingerprint": record.data.get("fingerprint"),
        }


def load_members(
    paths: Sequence[str | Path], *, allow_deprecated: bool = False, across_annuli: bool = False
) -> list[Member]:
    """Load one checkpoint or the members of an ensemble.

    Parameters
    ----------
    paths : sequence of paths
    allow_deprecated : bool
        Same as in `dhs.checkpoint.load`.
    across_annuli : bool
        Allow members with different preprocessing.

    Returns
    -------
    list of Member

    Raises
    ------
    SpecMismatchError
        Two members have different preprocessing, and ``across_annuli`` is false.
    ValueError
        A checkpoint cannot be used, is deprecated, or occurs twice; or the members take cutouts
        of different sizes.
    OSError
        A file cannot be read.
    """
    found = [checkpoint.read(path) for path in paths]
    first = found[0]
    for k, other in enumerate(found):
        if not across_annuli:
            first.spec.require_same(
                other.spec, str(first.path), str(other.path), ACROSS_ANNULI_HINT
            )
        if other.size != first.size:
            raise ValueError(
                f"{first.path} takes cutouts of {first.size} x {first.size}, {other.path} of "
                f"{other.size} x {other.size}; all members of an ensemble must take the same size."
            )
        twin = next((one for one in found[:k] if one.fingerprint == other.fingerprint), None)
        if twin is not None:
            raise ValueError(f"{other.path} is the same model as {twin.path}; give it once.")
    return [Member(*checkpoint.load(path, allow_deprecated=allow_deprecated)) for path in paths]


def common_mask_bits(members: Sequence[Member]) -> MaskBits:
    """Return the MASKBITS that marked bad pixels in the training of all members.

    Raises
    ------
    ValueError
        Two members have different bits.
    """
    first, *others = (member.checkpoint for member in members)
    for other in others:
        if other.mask_bits != first.mask_bits:
            raise ValueError(
                f"{first.path} was trained with masks of the MASKBITS {first.mask_bits}, "
                f"{other.path} of {other.mask_bits}; all members of an ensemble must use the same."
            )
    return first.mask_bits


def mean_logits(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average (N, M) logits over the members."""
    mean: NDArray[np.float32] = logits.mean(axis=1, dtype=np.float64).astype(np.float32)
    return mean


class Labels(NamedTuple):
    """Labels of objects: ``labels`` by id, 1 for a lens; ``name`` of the file."""

    labels: dict[str, int]
    name: str


def read_labels(path: str | Path, label_col: str) -> Labels:
    """Read labels; rows without a label are skipped.

    Parameters
    ----------
    path : path
        A manifest, or a pack.
    label_col : str
        Column of the labels, 1 for a lens and 0 for a non-lens.

    Returns
    -------
    Labels

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        A column is missing; a label is neither 0 nor 1; an id is missing or occurs twice; or there
        are too few lenses or non-lenses.
    """
    path = local_path(path)
    table, _ = read_manifest(path)
    Manifest(table.iloc[:0], str(path)).column(label_col, "label_col")
    table = table[table[label_col].notna()].reset_index(drop=True)
    manifest = Manifest(with_ids(table, str(path)), str(path))
    ids, labels = manifest.ids(), manifest.labels(label_col).astype(int)
    _require_enough(labels, f"{path} has")
    return Labels(dict(zip(ids.tolist(), labels.tolist(), strict=True)), str(path))


def _require_enough(labels: NDArray[np.int_], where: str) -> None:
    lenses, others = int((labels == 1).sum()), int((labels == 0).sum())
    if min(lenses, others) < FOLDS:
        raise ValueError(
            f"{where} labels of {lenses} lenses and {others} non-lenses; a trained combiner needs "
            f"{FOLDS} of each, one for every fold. Give more, or combine by the mean."
        )


class Combiner:
    """A small network on the logits of the members, trained on labelled objects.

    The network has one hidden layer on standardised logits. It is fitted once without each fold
    of the labelled objects, and once with all of them for objects without a label, so no object is
    scored by a network that saw its label. Use labels of objects that no member was trained on,
    because members are overconfident on their training data.

    Parameters
    ----------
    ids : (N,) array of str
        Ids of the labelled objects.
    logits : (N, M) float32
    labels : (N,) int
    where : str
        Beginning of an error message about these labels.

    Attributes
    ----------
    fold : dict of str to int
        Fold of each labelled object by id.

    Raises
    ------
    ValueError
        There are too few lenses or non-lenses.
    """

    def __init__(
        self,
        ids: NDArray[np.object_],
        logits: NDArray[np.float32],
        labels: NDArray[np.int_],
        where: str = "there are",
    ) -> None:
        from sklearn.model_selection import StratifiedKFold

        _require_enough(labels, where)
        self.counts = {"lenses": int(labels.sum()), "non_lenses": int((labels == 0).sum())}
        splits = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED).split(logits, labels)
        folds = np.empty(len(labels), np.int8)
        for fold, (_, held_out) in enumerate(splits):
            folds[held_out] = fold
        self.fold: dict[str, int] = dict(zip(ids.tolist(), folds.tolist(), strict=True))
        self._models = fit_without_each(logits, labels, folds)

    def __call__(
        self, ids: NDArray[np.object_], logits: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
        """Combine logits.

        Returns
        -------
        logits : (N,) float32
            Log-odds of the combiner's probability, which is clipped to [1e-12, 1 - 1e-12].
        fold : (N,) int8
            Fold whose combiner was used; -1 is the combiner of all labelled objects.
        """
        fold = np.array([self.fold.get(identity, NO_LABEL) for identity in ids], np.int8)
        probability = np.empty(len(ids))
        for number in np.unique(fold):
            chosen = fold == number
            predicted = self._models[int(number)].predict_proba(logits[chosen].astype(np.float64))
            probability[chosen] = predicted[:, 1]
        limits = SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY
        return logit(np.clip(probability, *limits)).astype(np.float32), fold

    def describe(self) -> dict[str, Any]:
        """Return a description for the metadata of a table."""
        import sklearn

        settings = {"hidden_units": HIDDEN_UNITS, "folds": FOLDS, "seed": SEED}
        return settings | self.counts | {"scikit-learn": sklearn.__version__}


def fit_without_each(
    logits: NDArray[np.float32], labels: NDArray[np.int_], folds: NDArray[np.int8]
) -> dict[int, Any]:
    """Fit one network without each fold, and one with all folds.

    Parameters
    ----------
    logits : (N, M) float32
    labels : (N,) int
    folds : (N,) int8

    Returns
    -------
    dict
        Classifiers by the number of the excluded fold; -1 for the one fitted with all folds.
    """
    numbers = [*np.unique(folds).tolist(), NO_LABEL]
    return {number: fit(logits[folds != number], labels[folds != number]) for number in numbers}


def fit(logits: NDArray[np.float32], labels: NDArray[np.int_]) -> Any:
    """Fit one network; return a scikit-learn classifier for (N, M) float64 logits."""
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    network = MLPClassifier(
        (HIDDEN_UNITS,),
        alpha=WEIGHT_DECAY,
        tol=TOLERANCE,
        max_iter=MOST_PASSES,
        random_state=SEED,
    )
    return make_pipeline(StandardScaler(), network).fit(logits.astype(np.float64), labels)
