"""Small lens finders for tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dhs import checkpoint
from dhs.checkpoint import Checkpoint
from dhs.model import LensFinder
from dhs.preprocess.spec import PreprocessSpec

CORRECTED = PreprocessSpec(annulus_r_in=32.5, annulus_r_out=45.0)
LEGACY = PreprocessSpec()


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Use one thread: for such small networks, synchronising threads takes longer."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def small(spec: PreprocessSpec = CORRECTED, **options: Any) -> LensFinder:
    """Build a small bottlenecked ResNet in evaluation mode, the same at every call."""
    torch.manual_seed(3)
    return LensFinder(spec, "bottlenecked_resnet", **{"base_ch": 4} | options).eval()


def save(path: Path, model: LensFinder | None = None, **changes: Any) -> Checkpoint:
    """Save a small model with plausible records."""
    values: dict[str, Any] = {
        "config": {"train": {"lr": 5e-4, "betas": (0.9, 0.999)}, "out": Path("checkpoints")},
        "metrics": {"val_auc": np.float32(0.75), "epoch": np.int64(3), "recall": None},
        "data": {"data_origin": "simulated", "fingerprint": "ab" * 32, "n_train": 700},
    }
    return checkpoint.save(path, model or small(), **values | changes)


DATASET = {
    "parquet_path": "manifest.parquet",
    "mode": "file_manifest",
    "preprocessing": "raw_robust",
    "crop": False,
    "crop_size": 64,
    "annulus_r_in": 0.0,
    "annulus_r_out": 0.0,
    "data_origin": "DR10",
}
TRAIN = {"arch": "bottlenecked_resnet", "base_ch": 4, "lr": 5e-4}


def weights(**options: Any) -> dict[str, Tensor]:
    return small(**options).backbone.state_dict()


def write(path: Path, **changes: Any) -> Path:
    """Save an old checkpoint, without the entries that ``changes`` sets to None."""
    content: dict[str, Any] = {"model": weights(), "train": TRAIN, "dataset": DATASET} | changes
    torch.save({name: value for name, value in content.items() if value is not None}, path)
    return path
