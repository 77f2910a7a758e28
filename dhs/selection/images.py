"""Images of a grid's injections, recreated from their ids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pyarrow import compute, parquet
from pydantic import ValidationError
from torch import Tensor

from dhs.config.errors import describe
from dhs.selection.config import GridConfig
from dhs.selection.engine import Engine
from dhs.selection.folder import GRID, INJECTIONS
from dhs.selection.injector import InjectedBatch
from fastnorm.json_text import parse_json
from fastnorm.paths import read_bytes


class InjectedRows:
    """Selected injections of a complete grid; implements `dhs.model.inference.Rows`.

    Parameters
    ----------
    folder : Path
        Folder that `dhs.selection.run.run_grid` wrote. Relative paths in its configuration are
        resolved as in that run.
    ids : sequence of int
        ``injection_id`` of the injections, in the order of the rows.

    Attributes
    ----------
    table : pandas.DataFrame
        Rows of ``injections.parquet`` with these ids.

    Raises
    ------
    ValueError
        The grid has no injection with one of the ids; or the hosts or priors have changed since
        the grid was computed, so that the images would differ.
    OSError
        A file cannot be read.
    """

    def __init__(self, folder: Path, ids: Sequence[int]) -> None:
        metadata = parse_json(read_bytes(folder / GRID))
        try:
            # Only images are made again, no logits.
            changed = {"out_dir": str(folder), "engine": "eager"}
            config = GridConfig.model_validate(metadata["config"] | changed)
        except ValidationError as error:
            where = f"the config in {folder / GRID}"
            raise ValueError(describe(error, where, GridConfig)) from error
        except (KeyError, TypeError) as error:
            raise ValueError(f"{folder / GRID} has no config; run the grid again.") from error
        self._engine = Engine(config)
        if self._engine.draws_fingerprint != metadata["draws_fingerprint"]:
            raise ValueError(
                f"{folder}: the hosts or the priors have changed since the grid was computed, so "
                "its injections cannot be recreated. Run the grid again."
            )
        self._ids = np.asarray(ids, np.int64)
        self.table = _rows(folder / INJECTIONS, self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def read(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor | None]:
        """Return hosts with arcs (B, 3, H, W) float32, nanomaggies, and bad pixels or None."""
        batch = self._inject(rows)
        return batch.images.cpu(), None if batch.mask is None else batch.mask.cpu()

    def hosts(self, rows: NDArray[np.int64]) -> Tensor:
        """Return the hosts without arcs, (B, 3, H, W) float32, nanomaggies."""
        return self._inject(rows).hosts.cpu()

    def _inject(self, rows: NDArray[np.int64]) -> InjectedBatch:
        with torch.inference_mode():
            return self._engine.injector.make(self._ids[rows])


def _rows(path: Path, ids: NDArray[np.int64]) -> pd.DataFrame:
    """Read rows by id, in the order of ``ids``, one row group at a time."""
    import pyarrow

    wanted = pyarrow.array(np.unique(ids))
    file = parquet.ParquetFile(path)
    parts = []
    for k in range(file.num_row_groups):
        table = file.read_row_group(k)
        parts.append(table.filter(compute.is_in(table["injection_id"], wanted)))
    found = pyarrow.concat_tables(parts).to_pandas().set_index("injection_id", drop=False)
    unknown = np.setdiff1d(ids, found.index.to_numpy())
    if unknown.size:
        raise ValueError(f"{path} has no injection {unknown[0]} (ids not found: {unknown.size}).")
    return found.loc[ids].reset_index(drop=True)
