"""Training files of the existing project: those that do not load say what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from dhs.train.config import read_config

FILE = """
dataset:
  mode: file_manifest
  manifest_path: training.parquet
  preprocessing: raw_robust
  label_col: is_lens
  sample_weight_col:
  crop: false
  crop_size: 0
  annulus_r_in: 0.0
  annulus_r_out: 0.0
split:
  split_col: region_split
augment: {hflip: true, vflip: true, rot90: true}
train:
  arch: efficientnet_v2_s
  epochs: 60
  batch_size: 64
  effective_batch: 512
  lr: 5.0e-5
  lr_schedule: cosine
  warmup_epochs: 5
  freeze_backbone_epochs: 5
  num_workers: 8
  pretrained: true
  out_dir: checkpoints/existing
"""


def edited(folder: Path, old: str = "", new: str = "") -> Path:
    """Write the file with one line changed."""
    assert old in FILE
    path = folder / "existing.yaml"
    path.write_text(FILE.replace(old, new, 1) if old else FILE)
    return path


def test_a_file_with_every_value_loads(tmp_path: Path) -> None:
    config = read_config(edited(tmp_path))
    assert config.train.arch == "efficientnet_v2_s"
    assert config.dataset.spec().annulus_status() == "legacy, inside the galaxy"


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        (
            "  arch: efficientnet_v2_s\n",
            "",
            r"train\.arch is missing; stronglens_calibration has resnet18 as the default: write "
            r"arch: resnet18, or another",
        ),
        (
            "  arch: efficientnet_v2_s\n  epochs: 60\n",
            "  arch:\n  epoch: 60\n  prefetch: 8\n",
            r"train\.arch is missing; stronglens_calibration .*; train\.epochs is missing; "
            r"train\.epoch is not a known key \(nearest: train\.epochs\); train\.prefetch is not",
        ),
        (
            "  label_col: is_lens\n",
            "  label_col: is_lens\n  split_col: region\n  num_workers: 8\n",
            r"dataset\.split_col is not a known key \(nearest: split\.split_col\); "
            r"dataset\.num_workers is not a known key \(nearest: train\.num_workers\)",
        ),
        (
            "augment: {hflip: true,",
            "augment: {hflips: true, effective_batchs: 8, seed: 5,",
            r"augment\.hflips is not a known key \(nearest: augment\.hflip\); "
            r"augment\.effective_batchs is not a known key \(nearest: train\.effective_batch\); "
            r"augment\.seed is not a known key \(nearest: dataset\.seed or split\.seed\)",
        ),
        (
            "  pretrained: true\n",
            "  init_weights: checkpoints/old/best.pt\n",
            r"init_weights='checkpoints/old/best\.pt' is a pickled file; run dhs checkpoint import "
            r"checkpoints/old/best\.pt --out checkpoints/old/best\.safetensors --data-origin "
            r"ORIGIN, and write init_weights: checkpoints/old/best\.safetensors",
        ),
        (
            "mode: file_manifest",
            "mode: unpaired_manifest",
            r"dataset\.mode: mode='unpaired_manifest' is not known; write mode: pack with "
            r"parquet_path .*dhs pack.* or mode: file_manifest with manifest_path",
        ),
        (
            "  mode: file_manifest\n",
            "  mode:\n",
            r"dataset\.mode: mode=None is not known; write mode: pack",
        ),
        (
            "preprocessing: raw_robust",
            "preprocessing: asinh",
            r"dataset\.preprocessing: preprocessing='asinh' is not known; write one of raw_robust, "
            r"residual_radial_profile",
        ),
        (
            "lr_schedule: cosine",
            "lr_schedule: plateau",
            r"train\.lr_schedule: .*'step', 'cosine' or 'constant'",
        ),
        ("num_workers: 8", "prefetch: 8", r"train\.prefetch is not a known key"),
    ],
)
def test_a_file_that_does_not_load_says_what_to_write(
    tmp_path: Path, old: str, new: str, named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        read_config(edited(tmp_path, old, new))


@pytest.mark.parametrize("arch", ["resnet18", "bottlenecked_resnet", "efficientnet_v2_s"])
def test_architectures_of_the_existing_files(tmp_path: Path, arch: str) -> None:
    config = read_config(edited(tmp_path, "arch: efficientnet_v2_s", f"arch: {arch}"))
    assert config.train.arch == arch
