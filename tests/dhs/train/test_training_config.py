"""Training configurations and schedules: the published recipe, and refused settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from dhs.train.config import TrainConfig, read_config
from dhs.train.schedule import learning_rate
from tests import ROOT

CONFIGS = ROOT / "configs"
EFFICIENTNET = "paperIV_efficientnet_v2_s_v5_annulus_fix"
RESNET = "paperIV_bottlenecked_resnet_v2_annulus_fix"
TRAININGS = sorted(path for path in CONFIGS.glob("*.yaml") if "train:" in path.read_text())


def test_there_are_the_four_of_the_plan_and_the_simulated_ones() -> None:
    assert len(TRAININGS) == 8


@pytest.mark.parametrize("path", TRAININGS, ids=lambda path: path.stem)
def test_every_file_is_valid_and_writes_into_its_own_folder(path: Path) -> None:
    config = read_config(path)
    assert config.train.out_dir == f"checkpoints/{path.stem}"
    legacy = "legacy" in path.stem
    assert config.dataset.spec().annulus_status() == (
        "legacy, inside the galaxy" if legacy else "corrected, on the sky"
    )
    assert "/" not in config.dataset.parquet_path[:1]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            EFFICIENTNET,
            {
                "arch": "efficientnet_v2_s",
                "epochs": 160,
                "batch_size": 64,
                "effective_batch": 512,
                "lr": 3.88e-4,
                "weight_decay": 1e-4,
                "lr_schedule": "step",
                "lr_step_epoch": 130,
                "lr_gamma": 0.5,
                "pretrained": True,
                "freeze_backbone_epochs": 5,
                "warmup_epochs": 5,
                "unweighted_loss": True,
            },
        ),
        (
            RESNET,
            {
                "arch": "bottlenecked_resnet",
                "base_ch": 27,
                "epochs": 160,
                "batch_size": 128,
                "effective_batch": 2048,
                "lr": 5e-4,
                "lr_schedule": "step",
                "lr_step_epoch": 80,
                "pretrained": False,
                "freeze_backbone_epochs": 0,
                "warmup_epochs": 0,
                "unweighted_loss": True,
            },
        ),
    ],
)
def test_the_published_recipe(name: str, expected: dict[str, Any]) -> None:
    config = read_config(CONFIGS / f"{name}.yaml")
    assert {key: getattr(config.train, key) for key in expected} == expected
    assert (config.dataset.seed, config.dataset.crop) == (42, False)
    assert (
        config.augment.model_dump() == read_config(CONFIGS / f"{RESNET}.yaml").augment.model_dump()
    )
    assert (config.augment.hflip, config.augment.vflip, config.augment.rot90) == (True, True, True)


@pytest.mark.parametrize(
    ("corrected", "legacy"),
    [
        (EFFICIENTNET, "paperIV_efficientnet_v2_s_v5_legacy_annulus"),
        (RESNET, "paperIV_bottlenecked_resnet_v2_legacy_annulus"),
        ("simulated_bottlenecked_resnet", "simulated_bottlenecked_resnet_legacy_annulus"),
    ],
)
def test_twins_differ_in_the_annulus_alone(corrected: str, legacy: str) -> None:
    ours, theirs = (read_config(CONFIGS / f"{name}.yaml") for name in (corrected, legacy))
    radii = {"annulus_r_in": 20.0, "annulus_r_out": 32.0}
    changed = {
        "dataset": ours.dataset.model_copy(update=radii),
        "train": ours.train.model_copy(update={"out_dir": theirs.train.out_dir}),
    }
    assert ours.model_copy(update=changed) == theirs


def test_settings_replace_what_the_file_says() -> None:
    path = CONFIGS / f"{RESNET}.yaml"
    config = read_config(path, ["train.lr=1e-3", "augment.rot90=false", "split.seed=7"])
    assert (config.train.lr, config.augment.rot90, config.split.seed) == (1e-3, False, 7)


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("train.learning_rate=1", r"train\.learning_rate.*"),
        ("train.lrr=1", r"train\.lrr.*train\.lr\b"),
        ("datasett.seed=1", r"datasett.*dataset"),
        ("train.lr", "section.key=value"),
        ("train.lr=[1", "not valid YAML"),
        ("train.lr=-1", r"train\.lr"),
        ("train.effective_batch=100", "effective_batch=100 must be a multiple of batch_size=128"),
        ("train.init_weights=old.pt", "dhs checkpoint import"),
        ("dataset.annulus_r_in=0", "annulus_r_in=0.* give both radii"),
        ("train.weights=a.safetensors", "pretrained is false"),
        ("train.unweighted_loss=false", "sample_weight_col is empty"),
    ],
)
def test_what_is_not_allowed_is_named(setting: str, named: str) -> None:
    with pytest.raises(ValueError, match=f"(?s){named}"):
        read_config(CONFIGS / f"{RESNET}.yaml", [setting])


def test_a_file_that_is_no_configuration(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    for content, named in (
        ("[", "is not valid YAML"),
        ("1", "is not a configuration"),
        ("train: {}", "dataset"),
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match=named):
            read_config(path)


def test_data_start_from_one_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    config = read_config(CONFIGS / f"{RESNET}.yaml")
    assert config.located_dataset().parquet_path == "packs/dr10_training"
    monkeypatch.setenv("DHS_DATA", "/data")
    assert config.located_dataset().parquet_path == "/data/packs/dr10_training"
    absolute = read_config(CONFIGS / f"{RESNET}.yaml", ["dataset.parquet_path=/elsewhere/pack"])
    assert absolute.located_dataset().parquet_path == "/elsewhere/pack"


def options(**changes: Any) -> TrainConfig:
    settings = [f"train.{key}={value}" for key, value in changes.items()]
    return read_config(CONFIGS / f"{RESNET}.yaml", settings)


def by_torch(kind: Any, lr: float, epochs: int, **keywords: Any) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr)
    schedule = kind(optimizer, **keywords)
    rates = []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def test_the_step_schedule_is_that_of_torch() -> None:
    train = options(lr=0.1, epochs=12, lr_step_epoch=5).train
    rates = [learning_rate(train, epoch) for epoch in range(12)]
    expected = by_torch(torch.optim.lr_scheduler.StepLR, 0.1, 12, step_size=5, gamma=0.5)
    assert rates == pytest.approx(expected)
