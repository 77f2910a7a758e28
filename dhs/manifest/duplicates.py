"""The same pixels under several ids, which a split or a pair of labels must not divide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

MOST_NAMED = 5


class Duplicates(NamedTuple):
    """Groups of ids with the same pixels, one phrase per group.

    ``across``: in several splits. ``opposite``: in one split, with both labels, one of which must
    be wrong. ``within``: in one split, with one label, so that the cutout counts several times.
    """

    across: list[str]
    opposite: list[str]
    within: list[str]

    def faults(self) -> list[str]:
        """Describe the groups that make a pack unusable, one sentence per kind."""
        return [
            f"{len(groups):,} cutouts {what}: {_some(groups)}."
            for groups, what in (
                (self.across, "are under several ids in several splits"),
                (self.opposite, "are under several ids with opposite labels"),
            )
            if groups
        ]

    def remarks(self) -> list[str]:
        """Describe the groups that are only suspicious."""
        if not self.within:
            return []
        return [
            f"{len(self.within):,} cutouts are under several ids in one split, and count as often: "
            f"{_some(self.within)}."
        ]


def find_duplicates(
    ids: Sequence[str],
    sha256: Sequence[str],
    labels: Sequence[int] | None,
    split: Sequence[str] | None,
) -> Duplicates:
    """Find the cutouts whose pixels have the same checksum.

    Parameters
    ----------
    ids : (N,) sequence of str
        Ids of the cutouts.
    sha256 : (N,) sequence of str
        Checksums of their pixels.
    labels : (N,) sequence, optional
        1 for a lens, 0 for a non-lens.
    split : (N,) sequence of str, optional
        Splits of the cutouts.
    """
    table = pd.DataFrame({"id": list(ids), "sha256": list(sha256)})
    table["label"] = "unknown" if labels is None else list(labels)
    table["split"] = "" if split is None else list(split)
    found = Duplicates([], [], [])
    several = table[table.duplicated("sha256", keep=False)]
    for _, group in several.groupby("sha256", sort=False):
        named = " = ".join(
            f"{row.id} ({f'{row.split}, ' if row.split else ''}label {row.label})"
            for row in group.itertuples()
        )
        if group["split"].nunique() > 1:
            found.across.append(named)
        elif group["label"].nunique() > 1:
            found.opposite.append(named)
        else:
            found.within.append(named)
    return found


def _some(groups: Sequence[str]) -> str:
    shown = "; ".join(groups[:MOST_NAMED])
    return shown if len(groups) <= MOST_NAMED else f"{shown}; ..."
