"""Small packs and trainings for the tests; run as a program, a training that a test can kill."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import torch
from numpy.typing import NDArray
from pyarrow import parquet
from safetensors.torch import load_file

from dhs.train import Trained, train
from dhs.train.config import TrainConfig, read_config

SIDE = 33
CUTOUTS = 96


def write_pack(folder: Path, n: int = CUTOUTS, origin: str = "simulated") -> Path:
    """Write a pack of noise, with a bright spot off the centre if the label is 1."""
    rng = np.random.default_rng(8)
    images = rng.normal(0, 1, (n, 3, SIDE, SIDE)).astype(np.float32)
    labels = np.arange(n) % 2
    images[labels == 1, :, 20:24, 8:12] += 3
    folder.mkdir(parents=True, exist_ok=True)
    half = n // 2
    for k, part in enumerate((images[:half], images[half:])):
        np.save(folder / f"shard-{k:05d}.npy", part)
    columns: dict[str, Any] = {
        "shard": ["shard-00000.npy"] * half + ["shard-00001.npy"] * (n - half),
        "row": np.r_[np.arange(half), np.arange(n - half)].astype(np.int32),
        "sha256": [hashlib.sha256(image.tobytes()).hexdigest() for image in images],
        "galaxy_id": [f"galaxy-{k:03d}" for k in range(n)],
        "label": labels.astype(np.int8),
        "split": np.where(np.arange(n) % 4 < 2, "train", "val"),
        "sample_weight": np.linspace(0.5, 1.5, n),
    }
    metadata = {
        "data_origin": origin,
        "bands": ["g", "r", "z"],
        "flux_unit": "nanomaggy",
        "pixel_scale": 0.262,
    }
    table = pyarrow.table(columns).replace_schema_metadata({"dhs": json.dumps(metadata)})
    parquet.write_table(table, folder / "manifest.parquet")
    return folder


def configuration(pack: Path, out: Path, **changes: Any) -> TrainConfig:
    """Configure a training of two epochs on a pack of `write_pack`, with changes to ``train``."""
    text = f"""
dataset: {{parquet_path: "{pack}", seed: 3, crop: false, annulus_r_in: 10.4, annulus_r_out: 14.4}}
train:
  {{arch: bottlenecked_resnet, base_ch: 3, epochs: 2, batch_size: 8, lr: 0.01, device: cpu,
    out_dir: "{out}"}}
"""
    path = out.parent / f"{out.name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return read_config(path, [f"train.{key}={json.dumps(value)}" for key, value in changes.items()])


def run(pack: Path, out: Path, **changes: Any) -> Trained:
    return train(configuration(pack, out, **changes), "test")


def bytes_of(out: Path) -> dict[str, bytes]:
    """Return the bytes that a training must reproduce: weights and optimiser of its last state."""
    tensors = load_file(out / "state.safetensors") | {
        f"best.{name}": value for name, value in load_file(out / "best.safetensors").items()
    }
    return {name: value.numpy().tobytes() for name, value in tensors.items()}


def losses(out: Path) -> NDArray[np.float64]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return np.array([line["train_loss"] for line in lines])


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(Path(sys.argv[1]), Path(sys.argv[2]), **json.loads(sys.argv[3]))
