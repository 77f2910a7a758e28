"""Read the folder of a finished grid: metadata, table, and injections in batches."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
from numpy.typing import NDArray
from pandas.api.types import is_numeric_dtype
from pyarrow import parquet

from dhs.manifest.table import is_number, metadata_of
from dhs.preprocess.recorded import require
from dhs.preprocess.spec import PreprocessSpec
from dhs.selection.folder import GRID, INJECTIONS, NEGATIVES, SELECTION
from dhs.selection.grid_metadata import Grid
from dhs.selection.host_sums import Completeness, HostSums, Negatives
from dhs.selection.intervals import HOSTS, HOSTS_AND_NEGATIVES, OF_OLD_KIND
from dhs.statistics.digits import rate_text
from dhs.statistics.thresholds import Threshold
from fastnorm.json_text import parse_json
from fastnorm.paths import local_path, read_bytes

AXES = ("theta_e", "psf_fwhm", "depth_5sig")
MAGNITUDE, ALL_MAGNITUDES = "source_mag_bin", "all"
ROWS_AT_ONCE = 1 << 16

_COLUMNS = (*AXES, "threshold", "threshold_type", MAGNITUDE, "n_injections", "n_detected")
_COLUMNS_OF_INJECTIONS = ("cell", "host_row", "source_r_mag", "logit")


def kind(threshold: Threshold) -> str:
    """Name the false-positive rate of a threshold, or its score if the score is fixed."""
    if threshold.fpr_target is None:
        return f"score > {threshold.threshold:g}"
    return f"FPR {rate_text(threshold.fpr_target)}"


def label(threshold: Threshold) -> str:
    """Name the false-positive rate of a threshold together with its score."""
    said = kind(threshold)
    if threshold.fpr_target is None:
        return said
    return f"{said} (score > {threshold.threshold:.4g})"


class GridResult:
    """The folder of a finished grid.

    Parameters
    ----------
    folder : Path

    Attributes
    ----------
    metadata : dict
        Content of ``grid.json``.
    spec : PreprocessSpec
    table : DataFrame
        Content of ``selection_function.parquet``.
    thresholds : list of Threshold
    centres : dict of (n,) float64
        Cell centres by axis, ascending.
    bins : list of str
        Names of the bins of source magnitude, bright to faint, without "all".
    edges : (len(bins) + 1,) float64
        Edges of these bins, AB mag.

    Raises
    ------
    ValueError
        A file is missing, lacks a key or column, or belongs to a different grid than
        ``grid.json``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = local_path(folder)
        try:
            self.metadata: dict[str, Any] = parse_json(read_bytes(self.folder / GRID))
        except FileNotFoundError:
            raise ValueError(
                f"{folder} has no {GRID}; give the folder of a finished grid."
            ) from None
        except ValueError as error:
            raise ValueError(
                f"{self.folder / GRID} is not valid JSON ({error}); run the grid again."
            ) from error
        if not isinstance(self.metadata, dict):
            raise ValueError(f"{self.folder / GRID} is not a JSON object; run the grid again.")
        require(Grid, self.metadata, self.folder / GRID)
        self.spec = PreprocessSpec.from_dict(self.metadata["spec"])
        self.thresholds = [Threshold(**item) for item in self.metadata["thresholds"]]
        self._injections = self._open(INJECTIONS)
        self.table: pd.DataFrame = self._open(f"{SELECTION}.parquet").read().to_pandas()
        self._require_columns()
        self.centres: dict[str, NDArray[np.float64]] = {
            axis: np.unique(self.table[axis].to_numpy()) for axis in AXES
        }
        names = self.table[MAGNITUDE].unique().tolist()
        self.bins = [n for n in names if n != ALL_MAGNITUDES and not n.startswith("lensed_")]
        self.edges = np.array([float(edge) for edge in self.metadata["config"]["source_mag_bins"]])
        if len(self.bins) != len(self.edges) - 1:
            raise ValueError(
                f"{self.folder / SELECTION}.parquet has {len(self.bins)} bins of source magnitude, "
                f"and {GRID} has {len(self.edges) - 1}; run the grid again into an empty folder."
            )

    def _require_columns(self) -> None:
        """Refuse tables without the columns that are read, or with others of their names."""
        name = f"{SELECTION}.parquet"
        found = self._injections.schema_arrow
        lacking = {
            name: [column for column in _COLUMNS if column not in self.table],
            INJECTIONS: [column for column in _COLUMNS_OF_INJECTIONS if column not in found.names],
        }
        for file, columns in lacking.items():
            if columns:
                raise ValueError(f"{self.folder / file} lacks {', '.join(columns)}.")
        wrong = {
            name: [column for column in AXES if not is_numeric_dtype(self.table[column])],
            INJECTIONS: [
                column
                for column in _COLUMNS_OF_INJECTIONS
                if not is_number(found.field(column).type)
            ],
        }
        if not all(isinstance(value, str) for value in self.table[MAGNITUDE]):
            wrong[name].append(MAGNITUDE)
        for file, columns in wrong.items():
            if columns:
                raise ValueError(
                    f"{self.folder / file}: {', '.join(columns)} have the wrong type; run the grid "
                    "again."
                )

    def _open(self, name: str) -> Any:
        path = self.folder / name
        if not path.is_file():
            raise ValueError(f"{self.folder} has no {name}; the grid is not finished.")
        try:
            opened = parquet.ParquetFile(path)
        except (pyarrow.ArrowException, OSError) as error:
            raise ValueError(f"{path} is damaged ({error}); run the grid again.") from error
        stored = metadata_of(opened.schema_arrow, path)
        key = "injections_fingerprint"
        if stored.get(key) != self.metadata[key]:
            raise ValueError(
                f"{path} and {GRID} belong to different grids ({key} {stored.get(key)} against "
                f"{self.metadata[key]}); run the grid again into an empty folder."
            )
        return opened

    @property
    def rows(self) -> int:
        """Number of injections, failed ones included."""
        return int(self._injections.metadata.num_rows)

    @property
    def cells(self) -> int:
        return math.prod(len(centres) for centres in self.centres.values())

    @property
    def assumed(self) -> dict[str, float]:
        """Seeing and depth that all hosts were given instead of measured ones, by axis."""
        hosts = self.metadata["config"]["hosts"]
        return {axis: value for axis in AXES[1:] if (value := hosts.get(axis)) is not None}

    @property
    def model(self) -> str:
        """Architecture, name and fingerprint of the checkpoint."""
        record = self.metadata["checkpoint"]
        name = f"{record['architecture']}, {record['name']} {record['fingerprint'][:8]}"
        return f"{name}, deprecated" if record.get("deprecated") else name

    @property
    def annulus(self) -> str:
        """Description of the annulus for headings."""
        radii = str(self.spec.annulus)
        return f"annulus {radii} px, {self.metadata['annulus']}"

    def batches(self, *columns: str) -> Iterator[dict[str, NDArray[Any]]]:
        """Read columns of all injections in order, at most `ROWS_AT_ONCE` rows at a time."""
        for batch in self._injections.iter_batches(ROWS_AT_ONCE, columns=list(columns)):
            yield {name: batch[name].to_numpy(zero_copy_only=False) for name in columns}

    def has(self, *columns: str) -> bool:
        """Whether the injections have all of these columns, as numbers."""
        schema = self._injections.schema_arrow
        return all(name in schema.names and is_number(schema.field(name).type) for name in columns)

    def negatives(self) -> NDArray[np.float32] | None:
        """Return the logits of the non-lenses that set the thresholds; None if not stored."""
        stored = self.non_lenses
        return None if stored is None else stored.logit

    @cached_property
    def non_lenses(self) -> Negatives | None:
        """The non-lenses that set the thresholds; None if they are not stored."""
        if not (self.folder / NEGATIVES).exists():
            return None
        table = self._open(NEGATIVES).read()
        has_rows = "host_row" in table.column_names
        rows = table["host_row"].to_numpy() if has_rows else None
        return Negatives(rows, table["logit"].to_numpy())

    @property
    def interval_kind(self) -> str:
        """The kind of the intervals in the table, `dhs.selection.intervals.OF_OLD_KIND` or not."""
        if "n_hosts" not in self.table:
            return OF_OLD_KIND
        kinds = set(self.table["interval"])
        return HOSTS_AND_NEGATIVES if HOSTS_AND_NEGATIVES in kinds else HOSTS

    @property
    def warning(self) -> str:
        """A sentence on intervals of the old kind; empty for other grids."""
        if self.interval_kind != OF_OLD_KIND:
            return ""
        return (
            f"The intervals in the file {SELECTION} are of the old kind: they take injections that "
            "share a host as independent, and are too narrow."
        )

    def bin_of(self, source_r_mag: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return positions in ``bins``; the last bin includes both of its edges.

        Raises
        ------
        ValueError
            A magnitude is outside all bins.
        """
        position = np.searchsorted(self.edges, source_r_mag, "right") - 1
        position[source_r_mag == self.edges[-1]] = len(self.bins) - 1
        if ((position < 0) | (position >= len(self.bins))).any():
            raise ValueError(
                f"{self.folder}: sources of r magnitude {source_r_mag.min():g} to "
                f"{source_r_mag.max():g} are not all in the bins {', '.join(self.bins)}."
            )
        return position

    @cached_property
    def _host_sums(self) -> HostSums:
        sums = HostSums(self.thresholds, self.non_lenses, self.cells * len(self.bins))
        for batch in self.batches("cell", "host_row", "source_r_mag", "logit"):
            is_scored = ~np.isnan(batch["logit"])
            cell, host, magnitude, logit = (column[is_scored] for column in batch.values())
            rows = cell.astype(np.int64) * len(self.bins) + self.bin_of(magnitude)
            sums.add(rows, host.astype(np.int64), logit)
        return sums

    def completeness(self, threshold: Threshold, by: Sequence[str] = ()) -> Completeness:
        """Return completeness with 95 % intervals, pooled over all axes but ``by``.

        Counts are summed by host first, so injections of several cells that share a host are
        not taken as independent.

        Parameters
        ----------
        threshold : Threshold
            One of ``thresholds``.
        by : sequence of str
            Names of axes; "source_mag_bin" keeps the magnitude bins apart.

        Returns
        -------
        Completeness
            Arrays with one dimension per name in ``by``.
        """
        shape = (*(len(self.centres[axis]) for axis in AXES), len(self.bins))
        places = dict(zip((*AXES, MAGNITUDE), np.indices(shape).reshape(4, -1), strict=True))
        sizes = dict(zip(places, shape, strict=True))
        kept = [sizes[name] for name in by]
        groups = np.zeros(math.prod(shape), np.int64)
        for name in by:
            groups = groups * sizes[name] + places[name]
        number = self.thresholds.index(threshold)
        found = self._host_sums.completeness(number, groups, math.prod(kept))
        arrays: dict[str, Any] = {
            name: values.reshape(kept)
            for name, values in found._asdict().items()
            if isinstance(values, np.ndarray)
        }
        return found._replace(**arrays)
