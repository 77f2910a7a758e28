"""Evaluate scores against true labels, and compare models on the same objects."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np

import fastnorm
from dhs.arguments import integer
from dhs.evaluate.evaluation import Band, Evaluation
from dhs.evaluate.results import INTERVAL_METHODS, compare_models, judge, roc
from dhs.evaluate.splits import said_of_training
from dhs.evaluate.truth import Truth, match, read_truth
from dhs.jobs.claim import output_folder
from dhs.preprocess.spec import SpecMismatchError
from dhs.score.table import ScoreTable, read_table, require_same_preprocessing
from dhs.statistics.bootstrap import percentile_interval, resample
from dhs.statistics.calibration import DEFINITION
from dhs.statistics.differences import METHOD
from dhs.statistics.digits import rate_text
from dhs.statistics.few import few_for_auc
from dhs.statistics.intervals import INTERVALS
from dhs.statistics.thresholds import allowed_false_positives, smallest_rate
from fastnorm.atomic import atomic_path
from fastnorm.kinds import flag
from fastnorm.paths import local_path
from fastnorm.pictures import remove_other_formats, save_picture

DEFAULT_RATES = (1e-2, 1e-3, 1e-4)
REPORT = "evaluation.json"
# Largest number of false-positive rates at which the band around a ROC curve is computed.
BAND_POINTS = 80
BOOTSTRAP_METHOD = (
    "percentiles at 95 %; lenses and non-lenses drawn with replacement, each as many as there "
    "are, the same objects for every table; thresholds set anew in every resample"
)


def evaluate(
    scores: Sequence[str | Path],
    truth: str | Path,
    *,
    label_col: str = "label",
    id_col: str | None = None,
    tier_col: str | None = None,
    category_col: str | None = None,
    split: str | None = None,
    rates: Sequence[float] | None = None,
    interval: str = "wilson",
    resamples: int = 1000,
    seed: int = 1,
    across_annuli: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Compute AUC, recall at fixed false-positive rates, calibration, and model differences.

    Parameters
    ----------
    scores : sequence of paths
        Tables written by ``dhs score``. Two or more are compared on the objects that all of them
        have scored.
    truth, label_col, id_col, tier_col, category_col, split
        Same as ``path`` and the other parameters of `dhs.evaluate.truth.read_truth`.
    rates : sequence of float, optional
        False-positive rates; by default those of 1e-2, 1e-3 and 1e-4 that the non-lenses allow.
    interval : str
        Method of the 95 % intervals of proportions; see ``method`` of
        `dhs.statistics.intervals.binomial_interval`.
    resamples : int
        Number of bootstrap resamples, 100 to 1,000,000.
    seed : int
        Random seed of the bootstrap.
    across_annuli : bool
        Compare tables with different preprocessing; every figure then carries a warning.
    progress : function, optional
        Called with the number of resamples done and the total.

    Returns
    -------
    Evaluation

    Raises
    ------
    TypeError, ValueError
        A table or the truth cannot be used; they have no object, no lens or no non-lens in
        common; the data are from different origins; a number is out of range; or a requested rate
        leaves fewer than 10 false positives.
    dhs.preprocess.spec.SpecMismatchError
        The preprocessing differs, and ``across_annuli`` is false.
    OSError
        A file cannot be read.
    """
    if interval not in INTERVALS:
        allowed = ", ".join(INTERVALS)
        raise ValueError(f"interval={interval!r} is not known; expected one of {allowed}.")
    across_annuli = flag("across_annuli", across_annuli)
    integer("resamples", resamples, 100, 1_000_000)
    integer("seed", seed, 0, 2**63 - 1)
    tables = _read_tables(scores)
    warning = _difference(tables, across_annuli=across_annuli)
    known = read_truth(
        truth,
        label_col=label_col,
        id_col=id_col,
        tier_col=tier_col,
        category_col=category_col,
        split=split,
        scored=tables,
    )
    origin = _data_origin(tables, known)
    matched = match(known, tables)
    is_lens = matched.is_lens
    negatives = int((~is_lens).sum())
    try:
        used, refused = _possible(rates, negatives)
    except ValueError as error:
        said = _said_of_other_splits(known, tables, label_col)
        raise ValueError(f"{error}{f' {said}' if said else ''}") from error
    allowed_counts = [allowed_false_positives(negatives, rate) for rate in used]
    grid = np.unique(np.geomspace(1, max(negatives - 1, 1), BAND_POINTS).round().astype(int))
    drawn = resample(
        list(matched.logits[:, is_lens]),
        list(matched.logits[:, ~is_lens]),
        np.minimum([*allowed_counts, *grid], negatives - 1),
        resamples=resamples,
        seed=seed,
        progress=progress,
    )
    low, high = percentile_interval(drawn.recalls[..., len(used) :])
    judged = [
        _provenance(table, name)
        | {"counts": matched.counts[k]}
        | judge(matched, k, used, drawn, interval)
        | {"roc": roc(is_lens, matched.logits[k], grid, low[k], high[k])}
        for k, (table, name) in enumerate(zip(tables, _names(tables), strict=True))
    ]
    report = {
        "data_origin": origin,
        "across_annuli": warning,
        "truth": {
            "path": str(known.path),
            "label_col": label_col,
            "id_col": id_col,
            "tier_col": known.tier_col,
            "category_col": category_col,
            "split": known.split,
            "split_source": known.split_source,
        },
        "lenses": int(is_lens.sum()),
        "negatives": negatives,
        "refused": refused,
        "smallest_fpr": smallest_rate(negatives),
        "remarks": [
            *_said_of_splits(known),
            *filter(None, [] if used else [_said_of_other_splits(known, tables, label_col)]),
            *_remarks(judged, int(is_lens.sum()), negatives),
        ],
        "interval": {"method": interval, "confidence": 0.95, "methods": INTERVAL_METHODS},
        "bootstrap": {"resamples": resamples, "seed": seed, "method": BOOTSTRAP_METHOD},
        "comparison_method": METHOD,
        "ece_definition": DEFINITION,
        "tables": judged,
        "comparisons": [
            compare_models(matched, judged, drawn, first, second, resamples=resamples, seed=seed)
            for first, second in combinations(range(len(tables)), 2)
        ],
        "versions": {"dhs": fastnorm.__version__, "numpy": np.__version__},
    }
    return Evaluation(report, is_lens, matched.logits, Band(grid / negatives, low, high))


def write_evaluation(out: Path, evaluation: Evaluation, picture_format: str = "png") -> list[Path]:
    """Write the report and its figures into a folder, which is created if needed.

    Parameters
    ----------
    out : Path
        Folder; pictures in it of an earlier evaluation, in another format, are removed.
    evaluation : Evaluation
    picture_format : str
        ``png``, ``pdf`` or ``svg``.

    Returns
    -------
    list of Path
        Every file is written atomically, the report last.

    Raises
    ------
    OSError
        A file cannot be written, or another process is writing to the folder.
    """
    from dhs.evaluate.figure import PICTURES

    written = []
    pictures = {(out / name).with_suffix(f".{picture_format}"): PICTURES[name] for name in PICTURES}
    with output_folder(out, "an evaluation", *(path.name for path in pictures), REPORT):
        for path, picture in pictures.items():
            save_picture(picture(evaluation), path)
            remove_other_formats(path)
            written.append(path)
        with atomic_path(out / REPORT) as temporary:
            text = json.dumps(evaluation.report, indent=2, allow_nan=False)
            temporary.write_text(f"{text}\n", "utf-8")
    return [*written, out / REPORT]


def _read_tables(scores: Sequence[str | Path]) -> list[ScoreTable]:
    paths = [local_path(path) for path in scores]
    if not paths:
        raise ValueError("scores is empty; give at least one table written by dhs score.")
    if len({path.resolve() for path in paths}) < len(paths):
        raise ValueError(f"{', '.join(map(str, paths))}: give every table once.")
    tables = [read_table(path) for path in paths]
    for table in tables:
        infinite = np.flatnonzero(np.isinf(table.logits))
        if infinite.size:
            raise ValueError(
                f"{table.path}: {infinite.size} of {len(table)} logits are infinite, the first "
                f"that of {table.ids[infinite[0]]}; score the cutouts again."
            )
    return tables


def _difference(tables: Sequence[ScoreTable], *, across_annuli: bool) -> str | None:
    """Describe the differences in preprocessing in one line; None if there are none."""
    try:
        require_same_preprocessing(tables, "To compare them anyway, give --across-annuli.")
    except SpecMismatchError:
        if not across_annuli:
            raise
    else:
        return None
    annuli = [" and ".join(_annuli(table)) for table in tables]
    if len(set(annuli)) > 1:
        return f"ANNULI DIFFER: {' against '.join(dict.fromkeys(annuli))} px"
    differ = [
        line
        for table in tables[1:]
        for ours, theirs in product(tables[0].specs, table.specs)
        for line in ours.differences(theirs)
    ]
    return f"PREPROCESSING DIFFERS: {'; '.join(dict.fromkeys(differ))}"


def _annuli(table: ScoreTable) -> list[str]:
    return sorted({str(s.annulus) for s in table.specs})


def _data_origin(tables: Sequence[ScoreTable], truth: Truth) -> str | None:
    origins = {str(table.path): table.metadata.get("data_origin") for table in tables}
    if truth.data_origin is not None:
        # A table of plain files has no origin; the truth of the same objects may have one.
        origins = {name: origin for name, origin in origins.items() if origin is not None}
        origins[str(truth.path)] = truth.data_origin
    if len(set(origins.values())) > 1:
        said = "; ".join(f"{name}: {origin or 'not stated'}" for name, origin in origins.items())
        raise ValueError(
            f"the cutouts are from different origins ({said}); evaluate each table separately."
        )
    return next(iter(origins.values()))


def _possible(
    rates: Sequence[float] | None, negatives: int
) -> tuple[list[float], list[dict[str, Any]]]:
    """Return the rates that the non-lenses allow, and refused default rates with the reason."""
    if rates:
        for rate in rates:
            allowed_false_positives(negatives, rate)
        return sorted(set(rates), reverse=True), []
    used, refused = [], []
    for rate in DEFAULT_RATES:
        try:
            allowed_false_positives(negatives, rate)
        except ValueError as error:
            refused.append({"fpr": rate, "reason": str(error)})
        else:
            used.append(rate)
    return used, refused


def _said_of_splits(truth: Truth) -> list[str]:
    if truth.split_source is None:
        return []
    return [f"{truth.path} has no column split; the splits are those of {truth.split_source}"]


def _said_of_other_splits(truth: Truth, tables: Sequence[ScoreTable], label_col: str) -> str:
    """Say that the other splits have non-lenses too, and whether they may be used."""
    if not truth.other_negatives:
        return ""
    own = int((~truth.is_lens).sum())
    return (
        f"The split {truth.split} has {own} of the {own + truth.other_negatives} non-lenses of "
        f"{truth.path}; --split all takes all of them, and is right if no model saw any of these "
        f"objects in its training. {said_of_training(tables, truth.path, label_col)}"
    )


def _remarks(judged: Sequence[dict[str, Any]], lenses: int, negatives: int) -> list[str]:
    """Return what to print about rates with few false positives, and about too few lenses."""
    remarks = [
        f"{table['name']}, FPR {rate_text(recall['fpr'])}: {recall['remark']}"
        for table in judged
        for recall in table["recall_at_fpr"]
        if recall["remark"]
    ]
    return remarks + [
        f"{table['name']}: too few lenses or non-lenses ({lenses} and {negatives}) for an interval "
        f"of the AUC; {few_for_auc(lenses, negatives)}"
        for table in judged
        if table["auc"]["is_too_few"]
    ]


def _names(tables: Sequence[ScoreTable]) -> list[str]:
    """Return unique names for legends, with the file name where models have the same name."""
    names = [table.name for table in tables]
    if len(set(names)) == len(names):
        return names
    stems = [table.path.stem for table in tables]
    files = stems if len(set(stems)) == len(stems) else [str(table.path) for table in tables]
    return [f"{name}, {file}" for name, file in zip(names, files, strict=True)]


def _provenance(table: ScoreTable, name: str) -> dict[str, Any]:
    keys = ("members", "combination", "spec_fingerprint", "data_origin")
    metadata = {key: table.metadata.get(key) for key in keys}
    return {"name": name, "path": str(table.path)} | metadata
