"""Checkpoints, cutouts and runs of ``dhs score`` for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dhs import checkpoint
from dhs.model import LensFinder
from dhs.preprocess.spec import PreprocessSpec
from tests.dhs.train.training_runs import SIDE, write_pack

SPEC = PreprocessSpec(annulus_r_in=10.4, annulus_r_out=14.4)
OTHER_SPEC = PreprocessSpec(annulus_r_in=8, annulus_r_out=14)
CUTOUTS = 20


def write_model(
    path: Path, seed: int = 1, spec: PreprocessSpec = SPEC, size: int = SIDE, bias: float = 0.0
) -> Path:
    """Save a lens finder with few channels; ``bias`` is added to its logits."""
    torch.manual_seed(seed)
    finder = LensFinder(spec, "bottlenecked_resnet", size=size, base_ch=2)
    with torch.no_grad():
        list(finder.backbone.parameters())[-1].add_(bias)
    checkpoint.save(path, finder, config={}, metrics={}, data={"data_origin": "simulated"})
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "model.safetensors")


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pack(tmp_path_factory.mktemp("data") / "pack", CUTOUTS, "made-up")


def images_of(pack: Path) -> NDArray[np.float32]:
    return np.concatenate([np.load(pack / f"shard-{k:05d}.npy") for k in range(2)])


def save(path: Path, pixels: NDArray[np.float32]) -> Path:
    np.savez(path, cutout=pixels.transpose(1, 2, 0))
    return path


def save_all(folder: Path, pixels: NDArray[np.float32]) -> Path:
    """Save each cutout as a file."""
    folder.mkdir()
    for k, image in enumerate(pixels):
        save(folder / f"galaxy-{k:03d}.npz", image)
    return folder
