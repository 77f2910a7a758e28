"""Scores and truths of 1,160 objects for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from numpy.typing import NDArray
from pyarrow import parquet

from dhs.preprocess.spec import PreprocessSpec
from dhs.score.table import ScoreTable, write_table
from dhs.statistics.thresholds import sigmoid

LENSES, NEGATIVES = 60, 1100
N = LENSES + NEGATIVES
IS_LENS = np.arange(N) < LENSES
IDS = np.array([f"galaxy-{k:04d}" for k in range(N)])
TIERS = np.where(IS_LENS, np.where(np.arange(N) % 2 == 0, "bright", "limit"), "")
KINDS = np.where(IS_LENS, "", np.where(np.arange(N) % 3 == 0, "ring", "spiral"))
RNG = np.random.default_rng(11)
BASE = RNG.normal(np.where(IS_LENS, 2, -3), 1.5)
FIRST, SECOND = (BASE + RNG.normal(0, scatter, N) for scatter in (1.0, 2.0))


def write_scores(
    path: Path,
    logits: NDArray[np.float64] = FIRST,
    annulus: tuple[float, float] = (32.5, 45),
    ids: NDArray[np.str_] = IDS,
    origin: str | None = "simulated",
    **spec_fields: Any,
) -> Path:
    spec = PreprocessSpec(annulus_r_in=annulus[0], annulus_r_out=annulus[1], **spec_fields)
    member = {
        "checkpoint": "best.safetensors",
        "checkpoint_fingerprint": f"{path.stem} in hexadecimal",
        "spec": spec.to_dict(),
        "spec_fingerprint": spec.fingerprint,
        "architecture": {"arch": "bottlenecked_resnet"},
        "data_origin": "simulated",
        "deprecated": None,
    }
    metadata = {
        "members": [member],
        "combination": "single",
        "spec_fingerprint": spec.fingerprint,
        "data_origin": origin,
    }
    values = logits.astype(np.float32)
    write_table(path, ScoreTable(path, ids, values, sigmoid(values), ids, metadata))
    return path


def write_truth(path: Path, origin: str | None = "simulated", **columns: Any) -> Path:
    given = {"galaxy_id": IDS, "label": IS_LENS.astype(int), "tier": TIERS, "kind": KINDS}
    given |= {"split": ["val"] * N} | columns
    table = pyarrow.table({name: values for name, values in given.items() if values is not None})
    metadata = {} if origin is None else {"dhs": json.dumps({"data_origin": origin})}
    parquet.write_table(table.replace_schema_metadata(metadata), path)
    return path
