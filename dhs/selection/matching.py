"""Match two grids: check that their injections are the same, and find common thresholds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dhs.config.errors import differences
from dhs.selection.folder import NEGATIVES
from dhs.selection.grid_result import AXES, GridResult, kind
from dhs.statistics.thresholds import Threshold

_SAME = ("injection_id", "cell", "host_row", "source_r_mag")
_DRAWN_BY = (*AXES, "source_mag_bins", "injections_per_cell", "noise", "q_lens", "seed", "hosts")


class CommonThreshold(NamedTuple):
    """A threshold of the same false-positive rate, or the same score, in both grids."""

    first: Threshold
    second: Threshold

    def __str__(self) -> str:
        return kind(self.first)


def require_same_injections(first: GridResult, second: GridResult) -> None:
    """Refuse two grids that cannot be compared injection by injection.

    Raises
    ------
    ValueError
        The origin of the data, the injections, or the magnitude bins differ. The message names
        the settings that differ.
    """
    names = f"{first.folder} and {second.folder}"
    origins = [grid.metadata["data_origin"] for grid in (first, second)]
    if origins[0] != origins[1]:
        raise ValueError(
            f"{names} have hosts of different origin, {origins[0]} and {origins[1]}; give two "
            "grids with the same hosts."
        )
    wanted = [{key: grid.metadata["config"][key] for key in _DRAWN_BY} for grid in (first, second)]
    differ = "; ".join(differences(wanted[0], wanted[1]))
    if first.metadata["draws_fingerprint"] != second.metadata["draws_fingerprint"]:
        why = differ or "the configurations agree, but hosts, priors or code version differ"
        raise ValueError(
            f"{names} do not have the same injections ({why}); run both with one configuration "
            "and different checkpoints."
        )
    if first.bins != second.bins or first.rows != second.rows:
        why = differ or f"{first.rows} rows against {second.rows}: one is damaged"
        raise ValueError(f"{names} cannot be compared bin by bin ({why}); run one of them again.")


def common_thresholds(first: GridResult, second: GridResult) -> list[CommonThreshold]:
    """Return thresholds with the same rate or fixed score, in the order of the first grid.

    Raises
    ------
    ValueError
        The grids have no common threshold.
    """

    def key(threshold: Threshold) -> tuple[str, float]:
        rate = threshold.fpr_target
        return threshold.threshold_type, threshold.threshold if rate is None else rate

    theirs = {key(threshold): threshold for threshold in second.thresholds}
    common = [CommonThreshold(t, theirs[key(t)]) for t in first.thresholds if key(t) in theirs]
    if not common:
        have = [", ".join(map(kind, grid.thresholds)) for grid in (first, second)]
        raise ValueError(
            f"{first.folder} and {second.folder} have no threshold in common ({have[0]}; "
            f"{have[1]}); give both the same thresholds or fpr_targets."
        )
    return common


def same_non_lenses(first: GridResult, second: GridResult) -> list[NDArray[np.float32]]:
    """Return the logits of the same non-lenses, in the same order, by both models.

    Folders from before rows were stored with the non-lenses are only compared in number.

    Raises
    ------
    ValueError
        A folder lacks its non-lenses, or they differ.
    """
    stored = []
    for grid in (first, second):
        if grid.non_lenses is None:
            raise ValueError(
                f"{grid.folder} has no {NEGATIVES}, which the intervals at a false-positive rate "
                "need; run the grid again."
            )
        stored.append(grid.non_lenses)
    one, other = stored
    is_same = len(one.logit) == len(other.logit)
    if one.host_row is not None and other.host_row is not None:
        is_same = np.array_equal(one.host_row, other.host_row)
    if not is_same:
        raise ValueError(
            f"{first.folder} and {second.folder} do not have the same non-lenses; run both with "
            "one configuration and different checkpoints."
        )
    return [one.logit, other.logit]


def side_by_side(
    first: GridResult, second: GridResult
) -> Iterator[tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]]:
    """Iterate over the injections of both grids in batches of equal length.

    The row groups of the two files need not agree.

    Raises
    ------
    ValueError
        The injections differ in a row.
    """
    columns = (*_SAME, "logit")
    streams = [grid.batches(*columns) for grid in (first, second)]
    pieces: list[dict[str, NDArray[Any]]] = [{}, {}]
    done = 0
    while done < first.rows:
        for k, stream in enumerate(streams):
            while not pieces[k] or not len(pieces[k]["cell"]):
                pieces[k] = next(stream)
        length = min(len(piece["cell"]) for piece in pieces)
        here, there = ({name: piece[name][:length] for name in columns} for piece in pieces)
        pieces = [{name: piece[name][length:] for name in columns} for piece in pieces]
        for name in _SAME:
            if not np.array_equal(here[name], there[name]):
                raise ValueError(
                    f"{first.folder} and {second.folder} differ in {name} after row {done}, "
                    "but have the same draws_fingerprint; one of them is damaged. Run it again."
                )
        yield here, there
        done += length
