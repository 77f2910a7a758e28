"""Splits of scored objects, for a truth that does not have them.

A model is better on the objects that it was trained on, so no evaluation chooses objects without
knowing their splits.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dhs.manifest.columns import (
    CUTOUT_PATH,
    Manifest,
    rows_fingerprint,
    splits_fingerprint,
    with_ids,
)
from dhs.manifest.format import MANIFEST
from dhs.manifest.table import read_manifest
from dhs.score.table import ScoreTable

SPLIT = "split"


class ScoredSplits(NamedTuple):
    """Splits by id, and the packs or manifests that they are from."""

    by_id: dict[str, str]
    source: str


def splits_of(tables: Sequence[ScoreTable], truth: Path) -> ScoredSplits:
    """Read the splits of scored objects from the packs or manifests that were scored.

    Parameters
    ----------
    tables : sequence of ScoreTable
        Tables of scores, which record what was scored.
    truth : Path
        The truth without splits, for error messages.

    Returns
    -------
    ScoredSplits

    Raises
    ------
    ValueError
        A source is not recorded, is gone, has changed or has no splits; or two sources have
        different splits of one object.
    """
    by_id: dict[str, str] = {}
    sources: dict[str, None] = {}
    for table in tables:
        path, fingerprint = _source(table)
        found = _read(table, truth, path, fingerprint)
        sources[str(path)] = None
        wrong = next((name for name in found if by_id.get(name, found[name]) != found[name]), None)
        if wrong is not None:
            raise _unknown(
                truth, f"{' and '.join(sources)} have different splits of {wrong}, for example"
            )
        by_id |= found
    return ScoredSplits(by_id, " and ".join(sources))


def said_of_training(tables: Sequence[ScoreTable], truth: Path, label_col: str) -> str:
    """Say whether the models were trained on the objects of a truth, as far as is recorded.

    Parameters
    ----------
    tables : sequence of ScoreTable
        Tables of scores, which record the fingerprint of the training cutouts.
    truth : Path
        Manifest with splits.
    label_col : str
        Column of the labels.
    """
    members = [member for table in tables for member in table.metadata["members"]]
    recorded = {member.get("training_fingerprint") for member in members}
    own = _of_training(truth, label_col)
    if own in recorded - {None}:
        return (
            f"A model was trained on the split train of {truth} (the fingerprints of the training "
            "cutouts agree)."
        )
    if own is None or None in recorded:
        return "Whether one did is not known: the training cutouts are not recorded."
    return (
        f"The fingerprint of the training cutouts differs from that of the split train of {truth}, "
        "so the training was on other cutouts, labels or weights."
    )


def _of_training(truth: Path, label_col: str) -> str | None:
    """Return the fingerprint that a training on the split train would record."""
    frame, _ = read_manifest(truth)
    if SPLIT not in frame:
        return None
    frame = with_ids(frame, str(truth))
    chosen = frame[frame[SPLIT] == "train"]
    manifest = Manifest(chosen, str(truth))
    pixels = next((name for name in ("sha256", CUTOUT_PATH) if name in chosen), None)
    if pixels is None or chosen.empty:
        return None
    columns = [manifest.ids(), manifest.labels(label_col).astype(int), chosen[pixels]]
    columns += [chosen[name] for name in ("mask_sha256",) if name in chosen]
    return rows_fingerprint(*columns)


def _source(table: ScoreTable) -> tuple[Path | None, str | None]:
    """Return what was scored, and the fingerprint of its splits if it is recorded."""
    recorded = table.metadata.get("input")
    if isinstance(recorded, dict) and isinstance(recorded.get("path"), str):
        return Path(recorded["path"]), recorded.get("splits_fingerprint")
    # Tables without this record have the folder of their pack in every row.
    paths = set(table.paths.tolist())
    path = Path(next(iter(paths))) if len(paths) == 1 else None
    return (path if path is not None and (path / MANIFEST).is_file() else None), None


def _read(
    table: ScoreTable, truth: Path, path: Path | None, fingerprint: str | None
) -> dict[str, str]:
    if path is None:
        raise _unknown(truth, f"{table.path} was not scored from a pack or a manifest")
    try:
        frame, _ = read_manifest(path)
    except (OSError, ValueError) as error:
        raise _unknown(
            truth, f"{path}, from which {table.path} was scored, cannot be read ({error})"
        ) from error
    if SPLIT not in frame:
        raise _unknown(truth, f"{path}, from which {table.path} was scored, has none either")
    manifest = Manifest(with_ids(frame, str(path)), str(path))
    ids, splits = manifest.ids(), manifest.splits(SPLIT, 0.5, 0)
    if fingerprint not in (None, splits_fingerprint(ids, splits)):
        raise _unknown(truth, f"{path} has changed since {table.path} was scored")
    return dict(zip(ids.tolist(), splits.tolist(), strict=True))


def _unknown(truth: Path, why: str) -> ValueError:
    return ValueError(
        f"{truth} has no column split, and {why}. Without splits, objects of the training would be "
        "judged as well. Add a column split (train, val or test) to the truth, give the pack as "
        "truth, or give --split all if no model saw any of these objects in its training."
    )
