"""The recipe of the existing project: rates of dropped paths, schedule, and where ours departs."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from timm.layers.drop import DropPath, drop_path
from torch import nn
from torchvision.ops import StochasticDepth, stochastic_depth

from dhs import checkpoint
from dhs.checkpoint.torchvision_names import to_timm
from dhs.commands.checkpoint import app
from dhs.model import LensFinder, build_model
from dhs.train.config import TrainConfig, read_config
from dhs.train.schedule import learning_rate
from dhs.train.setup import initial_model
from tests import ROOT
from tests.command_line import invoke

CONFIGS = ROOT / "configs"
PLANNED = sorted(CONFIGS.glob("paperIV_*.yaml"))
RATES = [
    *(0.000, 0.005, 0.010, 0.015, 0.020, 0.025, 0.030, 0.035, 0.040, 0.045),
    *(0.050, 0.055, 0.060, 0.065, 0.070, 0.075, 0.080, 0.085, 0.090, 0.095),
    *(0.100, 0.105, 0.110, 0.115, 0.120, 0.125, 0.130, 0.135, 0.140, 0.145),
    *(0.150, 0.155, 0.160, 0.165, 0.170, 0.175, 0.180, 0.185, 0.190, 0.195),
]
"""Probability with which the existing network drops the path of each of its 40 blocks."""


def planned(name: str, *settings: str) -> TrainConfig:
    return read_config(CONFIGS / f"paperIV_{name}.yaml", settings)


def path_rates(backbone: nn.Module) -> list[float]:
    """Return the rate of every block, 0 where timm leaves the layer out."""
    layers = [layer for name, layer in backbone.named_modules() if name.endswith("drop_path")]
    return [layer.drop_prob if isinstance(layer, DropPath) else 0.0 for layer in layers]


@pytest.fixture(scope="module")
def planned_efficientnet() -> LensFinder:
    config = planned("efficientnet_v2_s_v5_annulus_fix", "train.pretrained=false")
    return initial_model(config, 101)


def test_there_are_four_planned_files() -> None:
    assert len(PLANNED) == 4


@pytest.mark.parametrize("path", PLANNED, ids=lambda path: path.stem)
def test_every_planned_file_states_its_rates(path: Path) -> None:
    train = read_config(path).train
    expected = 0.2 if "efficientnet" in path.stem else 0.0
    assert {"drop_rate", "drop_path_rate"} <= train.model_fields_set
    assert (train.drop_rate, train.drop_path_rate) == (expected, expected)
    # The existing project computes in float16 with a gradient scaler.
    assert train.mixed_precision == "fp16"


@pytest.mark.parametrize(
    ("arch", "expected"),
    [
        ("efficientnet_v2_s", {"drop_rate": 0.2, "drop_path_rate": 0.2}),
        ("efficientnet_v2_s_torchvision", {"drop_rate": 0.2, "drop_path_rate": 0.2}),
        ("resnet18", {}),
        ("bottlenecked_resnet", {}),
    ],
)
def test_a_file_of_the_existing_project_states_no_rates(
    arch: str, expected: dict[str, float]
) -> None:
    sections: dict[str, Any] = {
        "dataset": {"parquet_path": "a"},
        "train": {"arch": arch, "out_dir": "b", "epochs": 1, "lr": 1},
    }
    assert TrainConfig.model_validate(sections).train.architecture_keywords() == expected
    sections["train"] |= {"drop_path_rate": 0.0}
    keywords = TrainConfig.model_validate(sections).train.architecture_keywords()
    assert keywords == expected | {"drop_path_rate": 0.0}


def test_the_network_of_the_plan_drops_what_the_existing_one_drops(
    planned_efficientnet: LensFinder,
) -> None:
    assert len(RATES) == 40
    assert path_rates(planned_efficientnet.backbone) == pytest.approx(RATES, abs=1e-12)
    head: Any = planned_efficientnet.backbone
    assert head.drop_rate == 0.2


@pytest.mark.parametrize("arch", ["efficientnet_v2_s", "efficientnet_v2_s_torchvision"])
def test_the_rates_are_those_of_torchvision(arch: str) -> None:
    theirs = torchvision.models.efficientnet_v2_s()
    rates = [layer.p for layer in theirs.modules() if isinstance(layer, StochasticDepth)]
    dropout = [layer.p for layer in theirs.modules() if isinstance(layer, nn.Dropout)]
    assert rates == pytest.approx(RATES, abs=1e-12)
    assert dropout == [0.2]
    ours = build_model(arch, drop_rate=0.2, drop_path_rate=0.2)
    assert path_rates(ours) == pytest.approx(rates, abs=1e-12)


def test_weights_of_torchvision_are_a_starting_point(tmp_path: Path) -> None:
    torch.manual_seed(2)
    theirs = torchvision.models.efficientnet_v2_s().eval()
    path = tmp_path / "weights.safetensors"
    save_file(to_timm(theirs.state_dict()), path)
    arch = "efficientnet_v2_s_torchvision"
    ours: Any = build_model(arch, pretrained=True, weights=path, drop_rate=0.2).eval()
    images = torch.randn(2, 3, 101, 101)
    with torch.inference_mode():
        expected = theirs.avgpool(theirs.features(images)).flatten(1)
        torch.testing.assert_close(ours.forward_head(ours.forward_features(images), True), expected)
    assert ours.classifier.weight.shape == (1, 1280)


def test_paths_are_dropped_by_row_and_rescaled_as_in_torchvision() -> None:
    layers = list(build_model("efficientnet_v2_s", drop_path_rate=0.2).modules())
    assert all(layer.scale_by_keep for layer in layers if isinstance(layer, DropPath))
    images = torch.randn(512, 3, 4, 5)
    torch.manual_seed(4)
    theirs = stochastic_depth(images, 0.195, "row", training=True)
    torch.manual_seed(4)
    ours = drop_path(images, 0.195, training=True)
    assert torch.equal(ours, theirs)
    kept = (ours != 0).all((1, 2, 3))
    assert 0 < int(kept.sum()) < 512
    assert torch.equal(kept, (ours != 0).any((1, 2, 3)))


def test_the_rates_act_in_training_alone(planned_efficientnet: LensFinder) -> None:
    images, backbone = torch.randn(2, 3, 64, 64), planned_efficientnet.backbone
    with torch.inference_mode():
        backbone.train()
        # Batch norm depends on the batch alone, so only the rates differ between two calls.
        first, second = backbone(images), backbone(images)
        backbone.eval()
        third, fourth = backbone(images), backbone(images)
    assert not torch.equal(first, second)
    assert torch.equal(third, fourth)


def test_a_checkpoint_shows_its_rates(tmp_path: Path) -> None:
    model = LensFinder(
        planned("efficientnet_v2_s_v5_annulus_fix").dataset.spec(),
        "test_efficientnet",
        drop_rate=0.2,
        drop_path_rate=0.1,
    )
    path = tmp_path / "a.safetensors"
    checkpoint.save(path, model, config={}, metrics={}, data={"data_origin": "simulated"})
    shown = invoke(app, "show", path, "--json")
    kwargs = json.loads(shown.stdout)["architecture"]["kwargs"]
    assert kwargs == {"drop_rate": 0.2, "drop_path_rate": 0.1}
    assert '"drop_path_rate": 0.1' in invoke(app, "show", path).stdout
    again, _ = checkpoint.load(path)
    assert path_rates(again.backbone) == path_rates(model.backbone) != [0.0] * 5


def test_the_bottlenecked_resnet_has_nothing_to_drop() -> None:
    model = initial_model(planned("bottlenecked_resnet_v2_annulus_fix"), 101)
    assert not [layer for layer in model.modules() if "Drop" in type(layer).__name__]
    for name in ("drop_rate", "drop_path_rate"):
        options: dict[str, Any] = {name: 0.2}
        with pytest.raises(ValueError, match=rf"{name}=0\.2.*bottlenecked_resnet.*set it to 0"):
            build_model("bottlenecked_resnet", **options)


def test_a_network_without_such_layers_is_named() -> None:
    with pytest.raises(ValueError, match=r"vgg11 cannot be built with .*drop_path_rate"):
        build_model("vgg11", drop_path_rate=0.1)


@pytest.mark.parametrize("value", [-0.1, 1.0])
@pytest.mark.parametrize("name", ["drop_rate", "drop_path_rate"])
def test_rates_are_probabilities_below_one(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"train\.{name}"):
        planned("efficientnet_v2_s_v5_annulus_fix", f"train.{name}={value}")


def test_warm_up_counts_its_epochs_from_one() -> None:
    train = planned("efficientnet_v2_s_v5_annulus_fix", "train.lr=1").train
    rates = [learning_rate(train, epoch) for epoch in range(7)]
    # 0.01 + 0.99 * epoch / 5 for the epochs 1 to 5, then the full rate.
    assert rates == pytest.approx([0.208, 0.406, 0.604, 0.802, 1.0, 1.0, 1.0])


def test_the_cosine_covers_all_epochs_with_warm_up_or_without() -> None:
    name = "efficientnet_v2_s_v5_annulus_fix"
    settings = ["train.lr=0.1", "train.epochs=12", "train.lr_schedule=cosine"]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=12)
    expected = []
    for _ in range(12):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    for warmup in (0, 5):
        train = planned(name, *settings, f"train.warmup_epochs={warmup}").train
        rates = [learning_rate(train, epoch) for epoch in range(12)]
        assert rates[warmup:] == pytest.approx(expected[warmup:])
        assert all(low < high for low, high in pairwise(rates[:warmup]))
