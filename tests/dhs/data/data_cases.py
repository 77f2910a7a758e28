"""Packs and files for the tests of datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pytest
import torch
from pyarrow import parquet

from dhs.data import DatasetConfig, LensDataset
from dhs.train.batches import Batches
from dhs.train.sampler import BatchSampler
from tests.dhs.train.training_runs import CUTOUTS, SIDE, write_pack

CPU = torch.device("cpu")
LABELS = np.arange(CUTOUTS) % 2
SETTINGS: dict[str, Any] = {"crop": False, "annulus_r_in": 10.4, "annulus_r_out": 14.4}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pack(tmp_path_factory.mktemp("data") / "pack")


@pytest.fixture(scope="module")
def pixels(whole: Path) -> np.ndarray[Any, Any]:
    return np.concatenate([np.load(whole / f"shard-0000{k}.npy") for k in (0, 1)])


@pytest.fixture
def pack(whole: Path, tmp_path: Path) -> Path:
    """Return a pack with a manifest that a test may change."""
    folder = tmp_path / "pack"
    folder.mkdir()
    for path in whole.iterdir():
        (folder / path.name).symlink_to(path)
    table = parquet.read_table(whole / "manifest.parquet")
    (folder / "manifest.parquet").unlink()
    parquet.write_table(table, folder / "manifest.parquet")
    return folder


def change(pack: Path, drop: tuple[str, ...] = (), **columns: Any) -> Path:
    table = parquet.read_table(pack / "manifest.parquet")
    frame = table.to_pandas().drop(columns=list(drop)).assign(**columns)
    changed = pyarrow.Table.from_pandas(frame, preserve_index=False)
    changed = changed.replace_schema_metadata(table.schema.metadata)
    parquet.write_table(changed, pack / "manifest.parquet")
    return pack


def opened(pack: Path, split: str | None = None, **settings: Any) -> LensDataset:
    return LensDataset(DatasetConfig(parquet_path=str(pack), **SETTINGS | settings), split)


def add_masks(pack: Path) -> list[np.ndarray[Any, Any]]:
    masks = [np.random.default_rng(k).random((CUTOUTS // 2, 3, SIDE, SIDE)) < 0.1 for k in (0, 1)]
    for k, mask in enumerate(masks):
        np.save(pack / f"mask-0000{k}.npy", mask)
    change(pack, mask_sha256=["not looked at"] * CUTOUTS)
    return masks


@pytest.fixture
def files(pixels: np.ndarray[Any, Any], tmp_path: Path) -> Path:
    """Write the first cutouts of the pack to one file each, with a manifest."""
    folder = tmp_path / "files"
    folder.mkdir()
    for k in range(8):
        np.savez(folder / f"cutout-{k}.npz", cutout=pixels[k].transpose(1, 2, 0))
    paths = [f"cutout-{k}.npz" for k in range(8)]
    frame = pd.DataFrame({"cutout_path": paths, "label": LABELS[:8], "split": ["train"] * 8})
    frame.to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


def of_files(manifest: Path, **settings: Any) -> LensDataset:
    settings = {"data_origin": "simulated"} | settings
    config = DatasetConfig(mode="file_manifest", manifest_path=str(manifest), **settings)
    return LensDataset(config, "train")


def batches_of(
    data: LensDataset, epoch: int = 0, given_out: int = 0, **options: Any
) -> tuple[Batches, BatchSampler]:
    sampler = BatchSampler(len(data), 8, seed=5)
    sampler.set_epoch(epoch)
    sampler.given_out = given_out
    return Batches(data, sampler, device=CPU, **options), sampler
