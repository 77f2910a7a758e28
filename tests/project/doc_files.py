"""Small input files for the pages of the documentation."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import timm
import torch
import yaml
from safetensors.torch import save_file

from dhs import checkpoint
from dhs.model import LensFinder
from dhs.pack import write_pack
from dhs.preprocess.spec import PreprocessSpec
from dhs.score import score
from dhs.selection.config import read_grid_config
from dhs.selection.run import Workers, run_grid
from dhs.simulate import write_survey
from tests import ROOT
from tests.dhs.model.model_cases import CORRECTED, DATASET, LEGACY, write
from tests.fastnorm.io.fits_cases import save_legacy

ORIGIN = "legacysurvey-dr10"
CUTOUTS = 64

ONE_CELL = {
    "theta_e": {"start": 1.0, "stop": 2.0, "step": 1.0},
    "psf_fwhm": {"start": 1.25, "stop": 1.25, "step": 2.0},
    "depth_5sig": {"start": 24.0, "stop": 24.0, "step": 9.0},
    "injections_per_cell": 24,
    "fpr_targets": [],
}
TRAINING = {"train.epochs": 1, "train.batch_size": 8}
ON_A_CPU = TRAINING | {"train.effective_batch": 8, "train.device": "cpu"}

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "demo_bottlenecked_resnet.yaml": TRAINING,
    "simulated_bottlenecked_resnet.yaml": TRAINING,
    "simulated_bottlenecked_resnet_legacy_annulus.yaml": TRAINING,
    "paperIV_bottlenecked_resnet_v2_annulus_fix.yaml": ON_A_CPU,
    "paperIV_efficientnet_v2_s_v5_annulus_fix.yaml": ON_A_CPU
    | {"train.freeze_backbone_epochs": 0, "train.warmup_epochs": 0},
    "selection_grid.yaml": ONE_CELL
    | {"hosts.split": "all", "thresholds": [0.5], "batch_size": 8, "shard_size": 16},
    "simulated_grid.yaml": ONE_CELL,
}
"""Files of configs/, and the changes to them so that a page takes seconds."""

PLANNED = "paperIV_efficientnet_v2_s_v5_annulus_fix"
MODELS = {
    "new": CORRECTED,
    "old": LEGACY,
    "a": CORRECTED,
    "b": CORRECTED,
    PLANNED: CORRECTED,
    "simulated_bottlenecked_resnet": CORRECTED,
    "simulated_bottlenecked_resnet_legacy_annulus": LEGACY,
}
"""Checkpoints and their preprocessing."""


def copy_configurations(folder: Path) -> None:
    """Copy configs/ with smaller numbers."""
    shutil.copytree(ROOT / "configs", folder)
    for name, changes in CONFIGURATIONS.items():
        content = yaml.safe_load((folder / name).read_text())
        for key, value in changes.items():
            *sections, last = key.split(".")
            place = content
            for section in sections:
                place = place[section]
            assert place[last] != value, f"{name}: {key} is already {value}"
            place[last] = value
        (folder / name).write_text(yaml.safe_dump(content))


def write_files(folder: Path) -> None:
    """Write cutouts, packs, checkpoints and grids with the names that the pages use."""
    copy_configurations(folder / "configs")
    _write_cutouts(folder)
    for seed, (name, spec) in enumerate(MODELS.items()):
        _write_model(folder / "checkpoints" / name / "best.safetensors", spec, seed)
    (folder / "old").mkdir()
    silent = {key: DATASET[key] for key in DATASET if "annulus" not in key and key != "crop"}
    write(folder / "old" / "best.pt", dataset=DATASET | {"data_origin": ORIGIN})
    write(folder / "old" / "no_annulus.pt", dataset=silent)
    (folder / "scores").mkdir()
    for name in ("new", "old"):
        best = folder / "checkpoints" / name / "best.safetensors"
        score([best], [folder / "pack"], folder / "scores" / f"{name}.parquet", batch_size=16)
        shutil.copy(folder / "scores" / f"{name}.parquet", folder)
        _run_grid(folder, best, name)
    _run_grid(folder, folder / "checkpoints" / PLANNED / "best.safetensors", PLANNED)
    weights = timm.create_model("tf_efficientnetv2_s").state_dict()
    save_file(weights, folder / "tf_efficientnetv2_s.safetensors")


def _write_cutouts(folder: Path) -> None:
    """Write the same simulated cutouts to single files and to packs."""
    survey = folder / "made"
    write_survey(survey, CUTOUTS, seed=3, lens_fraction=0.5, workers=1)
    table = pd.read_parquet(survey / "manifest.parquet")
    stack = np.load(survey / "shard-00000.npy")
    for name in ("cutouts", "fits"):
        (folder / name).mkdir()
    save_legacy(folder / "fits" / "galaxy.fits")
    paths = [f"cutouts/{name}.npz" for name in table["galaxy_id"]]
    for path, pixels in zip(paths, stack, strict=True):
        np.savez(folder / path, cutout=pixels.transpose(1, 2, 0))
    shutil.copytree(folder / "cutouts", folder / "dr10_cutouts")
    columns = ["galaxy_id", "label", "tier", "psfsize_r", "psfdepth_r"]
    table = table[columns].assign(cutout_path=paths)
    table.to_parquet(folder / "training.parquet")
    table[table["label"] == 1].to_parquet(folder / "lenses.parquet")
    for name, manifest in (
        ("pack", "training"),
        ("packs/dr10_training", "training"),
        ("packs/dr10_catalogue", "training"),
        ("packs/dr10_lenses", "lenses"),
    ):
        write_pack(folder / f"{manifest}.parquet", folder / name, data_origin=ORIGIN)
    shutil.rmtree(survey)


def _write_model(path: Path, spec: PreprocessSpec, seed: int) -> None:
    path.parent.mkdir(parents=True)
    torch.manual_seed(seed)
    finder = LensFinder(spec, "bottlenecked_resnet", base_ch=2)
    checkpoint.save(path, finder, config={}, metrics={}, data={"data_origin": ORIGIN})


def _run_grid(folder: Path, model: Path, name: str) -> None:
    """Run the grid of configs/selection_grid.yaml, so that the page has nothing left to inject."""
    hosts = folder / "packs" / "dr10_training"
    given = {"checkpoint": model, "out_dir": folder / "grids" / name, "hosts.parquet_path": hosts}
    settings = [f"{key}={value}" for key, value in given.items()]
    run_grid(read_grid_config(folder / "configs" / "selection_grid.yaml", settings), Workers(1))
