"""True labels, tiers and categories of a manifest, joined to tables of scores by id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dhs.evaluate.splits import SPLIT, splits_of
from dhs.manifest.columns import CUTOUT_PATH, ID, Manifest, with_ids, with_made
from dhs.manifest.naming import ids_of
from dhs.manifest.splits import SPLITS
from dhs.manifest.table import manifest_path, read_manifest
from dhs.score.table import ScoreTable

ALL = "all"
TIER = "tier"
UNKNOWN = ""
NO_NAME = "(none)"
MOST_GROUPS = 50

Names = NDArray[np.str_]


@dataclass(frozen=True, eq=False)
class Truth:
    """The rows of a manifest that belong to the chosen split.

    Attributes
    ----------
    path : Path
    ids : (N,) str
    is_lens : (N,) bool
    tiers : (N,) str, or None
        Tier of each lens; "" for non-lenses.
    categories : (N,) str, or None
        Category of each non-lens; "" for lenses.
    tier_col : str or None
    split : str
    split_source : str or None
        Where the splits are from, if not from the manifest itself.
    other_ids : (M,) str
        Ids of objects in the other splits.
    other_negatives : int
        Number of non-lenses among these.
    data_origin : str or None
        None if the manifest does not state it.
    """

    path: Path
    ids: Names
    is_lens: NDArray[np.bool_]
    tiers: Names | None
    categories: Names | None
    tier_col: str | None
    split: str
    split_source: str | None
    other_ids: Names
    other_negatives: int
    data_origin: str | None


class Matched(NamedTuple):
    """The N objects of the truth that all T tables have scored.

    ``is_lens``, ``tiers``, ``categories``: (N,), same as in `Truth`. ``logits``, ``scores``:
    (T, N) float64. ``counts``: for each table, numbers of excluded objects by reason.
    """

    is_lens: NDArray[np.bool_]
    tiers: Names | None
    categories: Names | None
    logits: NDArray[np.float64]
    scores: NDArray[np.float64]
    counts: list[dict[str, int]]


def read_truth(
    path: str | Path,
    *,
    label_col: str = "label",
    id_col: str | None = None,
    tier_col: str | None = None,
    category_col: str | None = None,
    split: str | None = None,
    scored: Sequence[ScoreTable] = (),
) -> Truth:
    """Read the labels, tiers and categories of objects.

    Parameters
    ----------
    path : str or Path
        A pack, or a manifest, ``.parquet`` or ``.csv``, with a column ``galaxy_id``, or with
        ``cutout_path``, whose file names without suffix are the ids, as in packs and scores.
    label_col : str
        Column of the labels, 1 for a lens and 0 for a non-lens.
    id_col : str, optional
        Column of the ids, text or integers, in place of ``galaxy_id``.
    tier_col : str, optional
        Column of the tiers of lenses; ``tier`` by default, if the manifest has this column.
    category_col : str, optional
        Column of the categories of non-lenses.
    split : {"train", "val", "test", "all"}, optional
        ``val`` by default. If the manifest has no column ``split``, the splits are those of the
        pack or manifest that was scored.
    scored : sequence of ScoreTable
        Tables of scores, which record what was scored.

    Returns
    -------
    Truth

    Raises
    ------
    ValueError
        A column is missing or holds values that are not allowed; a table of scores has no id of
        the truth; a split leaks into another; the split is empty; or the splits are not known, and
        ``split`` is not ``all``.
    OSError
        The file cannot be read.
    """
    if split not in (None, *SPLITS, ALL):
        raise ValueError(
            f"split={split!r} is not known; expected one of {', '.join(SPLITS)}, {ALL}."
        )
    path = manifest_path(path)
    table, metadata = read_manifest(path, () if id_col is None else (id_col,))
    if id_col is not None:
        table = with_made(table, ID, ids_of(table, id_col, path))
    table = with_ids(table, str(path))
    manifest = Manifest(table, str(path))
    if ID not in table:
        raise ValueError(
            f"{path} has neither a column {ID} nor {CUTOUT_PATH}, so its rows cannot be joined to "
            f"scores; name the column of the ids with id_col='NAME', or add {ID}, which is the "
            "file name of a cutout without its suffix, unless the pack or manifest that was scored "
            "has other ids."
        )
    ids, is_lens = manifest.ids(), manifest.labels(label_col) == 1
    for scores in scored:
        if len(scores) and not np.isin(scores.ids, ids).any():
            raise ValueError(_nothing_shared(scores, str(path), ids))
    chosen, source = split or "val", None
    if chosen == ALL:
        splits = np.full(len(ids), ALL)
    elif SPLIT in table:
        splits = manifest.splits(SPLIT, 0.5, 0)
    else:
        by_id, source = splits_of(scored, path)
        splits = np.array([by_id.get(name, UNKNOWN) for name in ids])
    is_chosen = splits == chosen
    if not is_chosen.any():
        raise ValueError(f"{path} has no object in the split {chosen!r}; choose another --split.")
    tier = tier_col or (TIER if TIER in table else None)
    tiers = None if tier is None else _groups(manifest, tier, "--tier-col", is_lens)
    categories = None
    if category_col is not None:
        categories = _groups(manifest, category_col, "--category-col", ~is_lens)
    is_other = ~is_chosen & (splits != UNKNOWN)
    return Truth(
        path,
        ids[is_chosen],
        is_lens[is_chosen],
        None if tiers is None else tiers[is_chosen],
        None if categories is None else categories[is_chosen],
        tier,
        chosen,
        source,
        ids[is_other],
        int((is_other & ~is_lens).sum()),
        metadata.get("data_origin"),
    )


def _groups(manifest: Manifest, name: str, option: str, is_meant: NDArray[np.bool_]) -> Names:
    """Return the group names in a column, "" for objects outside ``is_meant``."""
    if name not in manifest.table:
        manifest.column(name, option)
    names = np.full(len(is_meant), "", object)
    names[is_meant] = [_name(value) for value in manifest.table[name][is_meant]]
    groups = len(set(names[is_meant]))
    if groups > MOST_GROUPS:
        raise ValueError(
            f"{manifest.name}: {name} ({option}) has {groups} different values; at most "
            f"{MOST_GROUPS} fit in a report."
        )
    return names.astype(str)


def _name(value: Any) -> str:
    if pd.isna(value) or value == "":
        return NO_NAME
    # pandas converts a column of integers with a missing value to floats.
    return f"{value:g}" if isinstance(value, float) else str(value)


def match(truth: Truth, tables: Sequence[ScoreTable]) -> Matched:
    """Join tables of scores to the truth by id.

    Raises
    ------
    ValueError
        They have no object, no lens, or no non-lens in common.
    """
    places = [pd.Index(table.ids).get_indexer(truth.ids) for table in tables]
    for table, place in zip(tables, places, strict=True):
        if (place < 0).all():
            raise ValueError(_why_nothing_shared(truth, table))
    is_scored = np.all([place >= 0 for place in places], axis=0)
    is_lens = truth.is_lens[is_scored]
    for what, count in (("lens", is_lens.sum()), ("non-lens", (~is_lens).sum())):
        if not count:
            known = int((truth.is_lens == (what == "lens")).sum())
            raise ValueError(
                f"no {what} to evaluate: {truth.path} (split {truth.split}) has {known}, but none "
                f"has a score in {', '.join(str(table.path) for table in tables)}. Score "
                "both lenses and non-lenses."
            )
    rows = [place[is_scored] for place in places]
    return Matched(
        is_lens,
        None if truth.tiers is None else truth.tiers[is_scored],
        None if truth.categories is None else truth.categories[is_scored],
        np.array([t.logits[row] for t, row in zip(tables, rows, strict=True)], np.float64),
        np.array([t.scores[row] for t, row in zip(tables, rows, strict=True)], np.float64),
        [
            _counts(truth, table, place >= 0, int(is_scored.sum()))
            for table, place in zip(tables, places, strict=True)
        ],
    )


def _counts(
    truth: Truth, table: ScoreTable, has_score: NDArray[np.bool_], used: int
) -> dict[str, int]:
    matched = int(has_score.sum())
    elsewhere = int(np.isin(table.ids, truth.other_ids).sum())
    return {
        "scored": len(table.ids),
        "unknown": len(table.ids) - matched - elsewhere,
        "in_other_splits": elsewhere,
        "lenses_without_score": int((truth.is_lens & ~has_score).sum()),
        "negatives_without_score": int((~truth.is_lens & ~has_score).sum()),
        "not_in_all_tables": matched - used,
    }


def _why_nothing_shared(truth: Truth, table: ScoreTable) -> str:
    if not len(table):
        return f"{table.path} has no scores."
    name = f"{truth.path} (split {truth.split})"
    elsewhere = int(np.isin(table.ids, truth.other_ids).sum())
    if elsewhere:
        return (
            f"{table.path} and {name} have no galaxy_id in common; {elsewhere} are in other "
            f"splits: choose another --split, or {ALL}."
        )
    return _nothing_shared(table, name, truth.ids)


def _nothing_shared(table: ScoreTable, name: str, ids: Names) -> str:
    theirs, ours = (", ".join(map(repr, some[:2].tolist())) for some in (table.ids, ids))
    return (
        f"{table.path} and {name} have no galaxy_id in common (ids of the scores: {theirs}; ids "
        f"of the truth: {ours}); give the truth of these scores, or write the same ids in both."
    )
