"""Score cutouts with a checkpoint: raw nanomaggies in, a table that says what made it out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow
import torch
from numpy.typing import NDArray
from pyarrow import parquet
from torch import Tensor

import fastnorm
from dhs import checkpoint
from dhs.checkpoint import Checkpoint
from dhs.data import DatasetConfig, LensDataset
from dhs.inference import logits_of
from dhs.model import LensFinder
from dhs.pack import MANIFEST
from fastnorm.io import Cutout, Rejected, find_cutouts, read_cutouts
from fastnorm.output import atomic_path

BATCH = 64
METADATA_KEY = "dhs"


class Scored(NamedTuple):
    """What `score` gives.

    ``ids``, ``paths``: of every cutout. ``logits``: larger means more likely a lens.
    ``probabilities``: their sigmoid, not calibrated. ``rejected``: what could not be scored.
    ``checkpoint``: what made them. ``data_origin``: of the cutouts, None where files do not say.
    """

    ids: list[str]
    paths: list[str]
    logits: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    rejected: list[Rejected]
    checkpoint: Checkpoint
    data_origin: str | None


def score(
    model: str | Path,
    data: Sequence[str | Path],
    *,
    batch_size: int = BATCH,
    device: torch.device | None = None,
    allow_deprecated: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Scored:
    """Score a pack, or files, folders and patterns of cutouts.

    Parameters
    ----------
    model : path
        A checkpoint; it normalises with its own annulus.
    data : sequence of paths
        One pack, or as of `fastnorm.io.find_cutouts`.
    batch_size : int
        Of every forward pass; the last bits of a logit depend on it.
    device : torch.device, optional
        The CPU by default.
    allow_deprecated : bool
        Score with a checkpoint that is marked as deprecated.
    progress : function, optional
        Called with how many cutouts are done and how many there are.

    Returns
    -------
    Scored

    Raises
    ------
    ValueError
        The checkpoint cannot be used, or is deprecated; or the cutouts are of another size.
    OSError
        A file cannot be read.
    """
    finder, made = checkpoint.load(model, allow_deprecated=allow_deprecated)
    where = device or torch.device("cpu")
    finder.to(where)
    rejected: list[Rejected] = []
    origin = None
    if len(data) == 1 and (Path(data[0]) / MANIFEST).exists():
        pack = LensDataset(DatasetConfig(parquet_path=str(data[0])), None)
        _require_size(finder, pack.size, str(data[0]))
        logits = logits_of(finder, pack, batch_size, where, progress=progress)
        ids, paths = pack.ids.tolist(), [str(data[0])] * len(pack)
        origin = pack.data_origin
    else:
        files = find_cutouts(data, rejected)
        ids, paths, logits = _score_files(finder, files, rejected, batch_size, where, progress)
    probabilities = (1 / (1 + np.exp(-logits.astype(np.float64)))).astype(np.float32)
    return Scored(ids, paths, logits, probabilities, rejected, made, origin)


def _require_size(finder: LensFinder, size: int, name: str) -> None:
    if size != finder.preprocess.size:
        raise ValueError(
            f"{name} holds cutouts of {size} x {size}; the checkpoint takes "
            f"{finder.preprocess.size} x {finder.preprocess.size}."
        )


class _Stack:
    """Cutouts in memory, as `dhs.inference.logits_of` reads them."""

    def __init__(self, cutouts: list[Cutout]) -> None:
        self._images = torch.from_numpy(np.stack([cutout.pixels for cutout in cutouts]))

    def __len__(self) -> int:
        return len(self._images)

    def read(self, rows: NDArray[np.int64]) -> tuple[Tensor, None]:
        return self._images[torch.from_numpy(rows)], None


def _score_files(
    finder: LensFinder,
    files: list[Path],
    rejected: list[Rejected],
    batch_size: int,
    device: torch.device,
    progress: Callable[[int, int], None] | None,
) -> tuple[list[str], list[str], NDArray[np.float32]]:
    ids: list[str] = []
    paths: list[str] = []
    parts = []
    fitting = _fitting(files, finder.preprocess.size, rejected)
    while batch := list(islice(fitting, batch_size)):
        parts.append(logits_of(finder, _Stack(batch), batch_size, device))
        ids += [cutout.id for cutout in batch]
        paths += [str(cutout.path) for cutout in batch]
        if progress is not None:
            progress(len(ids), max(len(files), len(ids)))
    return ids, paths, np.concatenate(parts) if parts else np.empty(0, np.float32)


def _fitting(files: list[Path], size: int, rejected: list[Rejected]) -> Iterator[Cutout]:
    for cutout in chain.from_iterable(read_cutouts(path, rejected) for path in files):
        if cutout.pixels.shape[-2:] == (size, size):
            yield cutout
        else:
            height, width = cutout.pixels.shape[-2:]
            reason = f"{cutout.id} is {height} x {width}; the checkpoint takes {size} x {size}."
            rejected.append(Rejected(cutout.path, reason))


def write_scores(out: Path, scored: Scored, batch_size: int = BATCH) -> None:
    """Write the table, with checkpoint, preprocessing and versions in its metadata.

    Parameters
    ----------
    out : Path
        .parquet; appears whole.
    scored : Scored
    batch_size : int
        That the logits were computed with.
    """
    about: dict[str, Any] = {
        "checkpoint": scored.checkpoint.path.name,
        "checkpoint_fingerprint": scored.checkpoint.fingerprint,
        "spec": scored.checkpoint.spec.to_dict(),
        "spec_fingerprint": scored.checkpoint.spec.fingerprint,
        "architecture": scored.checkpoint.architecture,
        "data_origin": scored.data_origin,
        "training_data_origin": scored.checkpoint.data_origin,
        "deprecated": scored.checkpoint.deprecated,
        "batch_size": batch_size,
        "versions": {"dhs": fastnorm.__version__, "torch": torch.__version__},
    }
    table = pyarrow.table(
        {
            "galaxy_id": scored.ids,
            "logit": scored.logits,
            "score": scored.probabilities,
            "path": scored.paths,
        }
    ).replace_schema_metadata({METADATA_KEY: json.dumps(about)})
    with atomic_path(out) as temporary:
        parquet.write_table(table, temporary)
