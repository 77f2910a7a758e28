"""What two grids have in common: injections, in the same order, and thresholds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dhs.config.errors import differences
from dhs.selection.grid_result import AXES, GridResult, kind
from dhs.statistics.thresholds import Threshold

_SAME = ("injection_id", "cell", "source_r_mag")
_DRAWN_BY = (*AXES, "source_mag_bins", "injections_per_cell", "noise", "q_lens", "seed", "hosts")


class CommonThreshold(NamedTuple):
    """The same false-positive rate, or the same score, in both grids."""

    first: Threshold
    second: Threshold

    def __str__(self) -> str:
        return kind(self.first)


def require_same_injections(first: GridResult, second: GridResult) -> None:
    """Refuse two grids that cannot be compared injection by injection.

    Raises
    ------
    ValueError
        The origin of the data, the injections, or the bins of magnitude differ; what of the
        configurations differs is named.
    """
    names = f"{first.folder} and {second.folder}"
    origins = [grid.metadata["data_origin"] for grid in (first, second)]
    if origins[0] != origins[1]:
        raise ValueError(
            f"{names} have hosts of different origin, {origins[0]} and {origins[1]}; give two "
            "grids of the same hosts."
        )
    wanted = [{key: grid.metadata["config"][key] for key in _DRAWN_BY} for grid in (first, second)]
    differ = "; ".join(differences(wanted[0], wanted[1]))
    if first.metadata["draws_fingerprint"] != second.metadata["draws_fingerprint"]:
        why = differ or "the configurations agree, but hosts, priors or the code do not"
        raise ValueError(
            f"{names} are not of the same injections ({why}); run both with one configuration, "
            "and different checkpoints."
        )
    if first.bins != second.bins or first.rows != second.rows:
        why = differ or f"{first.rows} rows against {second.rows}: one is damaged"
        raise ValueError(f"{names} cannot be compared bin by bin ({why}); run one of them anew.")


def common_thresholds(first: GridResult, second: GridResult) -> list[CommonThreshold]:
    """Thresholds of the same rate, or of the same fixed score, in the order of the first grid.

    Raises
    ------
    ValueError
        There are none.
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


def side_by_side(
    first: GridResult, second: GridResult
) -> Iterator[tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]]:
    """Injections of both grids in pieces of equal length, whatever their row groups are.

    Raises
    ------
    ValueError
        They are not the same, row by row.
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
                    "against their draws_fingerprint; one of them is damaged. Run it anew."
                )
        yield here, there
        done += length
