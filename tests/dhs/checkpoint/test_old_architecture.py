"""Old .pt files that do not state their architecture, or not the right one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor

from dhs import checkpoint
from dhs.checkpoint import CheckpointError
from dhs.checkpoint.published import import_old, read_old
from dhs.checkpoint.published_names import to_ours
from dhs.commands.checkpoint import app
from tests.command_line import invoke, message
from tests.dhs.checkpoint.test_checkpoint_published import PublishedNetwork
from tests.dhs.model.model_cases import TRAIN, weights, write
from tests.dhs.model.model_cases import one_thread as one_thread


def of_torchvision(name: str) -> dict[str, Tensor]:
    with torch.device("meta"):
        state: dict[str, Tensor] = getattr(torchvision.models, name)(num_classes=1).state_dict()
    return {key: torch.empty(value.shape) for key, value in state.items()}


@pytest.mark.parametrize(
    ("state", "arch", "kwargs"),
    [
        (PublishedNetwork(4).state_dict(), "bottlenecked_resnet", {"base_ch": 4}),
        (weights(base_ch=5), "bottlenecked_resnet", {"base_ch": 5}),
        (of_torchvision("resnet18"), "resnet18", {}),
        (of_torchvision("efficientnet_v2_s"), "efficientnet_v2_s_torchvision", {}),
    ],
    ids=["published", "ours", "resnet18", "efficientnet"],
)
@pytest.mark.parametrize("train", [None, {"lr": 1e-3}], ids=["no train", "no arch"])
def test_the_names_of_tensors_tell_the_architecture(
    tmp_path: Path,
    state: dict[str, Tensor],
    arch: str,
    kwargs: dict[str, Any],
    train: dict[str, Any] | None,
) -> None:
    old = read_old(write(tmp_path / "a.pt", model=state, train=train))
    assert (old.arch, old.kwargs) == (arch, kwargs)
    assert old.defaults["arch"] == arch
    assert old.defaults.get("base_ch") == kwargs.get("base_ch")


def test_such_a_file_becomes_a_checkpoint(tmp_path: Path) -> None:
    torch.manual_seed(5)
    published = PublishedNetwork(16)
    state = {f"module.{name}": value for name, value in published.state_dict().items()}
    old, out = write(tmp_path / "a.pt", model=state, train=None), tmp_path / "a.safetensors"
    done = invoke(app, "import", old, "--out", out)
    assert done.exit_code == 0, done.output
    said = message(done)
    assert "arch = bottlenecked_resnet, from the names of its tensors" in said
    assert "base_ch = 16, from the shape of its stem" in said
    finder, _ = checkpoint.load(out)
    for name, value in to_ours(published.state_dict()).items():
        assert torch.equal(finder.backbone.state_dict()[name], value)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (of_torchvision("resnet34"), r"give --arch, .* such as --arch resnet18"),
        (of_torchvision("resnet50"), "give --arch"),
        (of_torchvision("efficientnet_b0"), "give --arch"),
        ({"net." + name: value for name, value in weights().items()}, r"start with 'net\.'"),
        ({"features.0.weight": torch.ones(2)}, "give --arch"),
        (
            timm.create_model("tf_efficientnetv2_s", num_classes=1).state_dict(),
            "--arch efficientnet_v2_s, or --arch efficientnet_v2_s_torchvision",
        ),
    ],
    ids=["resnet34", "resnet50", "b0", "prefix", "other", "timm"],
)
def test_an_unknown_architecture_is_not_guessed(
    tmp_path: Path, state: dict[str, Tensor], said: str
) -> None:
    path = write(tmp_path / "a.pt", model=state, train=None)
    with pytest.raises(CheckpointError, match=rf"does not state its architecture .*{said}"):
        read_old(path)


def test_the_architecture_may_be_given(tmp_path: Path) -> None:
    path, out = tmp_path / "a.pt", tmp_path / "a.safetensors"
    write(path, model=of_torchvision("resnet34"), train=None)
    done = invoke(app, "import", path, "--out", out, "--arch", "resnet34", "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["arch"] == "resnet34"
    assert "arch" not in report["imported_from"]["defaults"]
    write(path)
    assert read_old(path, arch="bottlenecked_resnet").arch == "bottlenecked_resnet"
    with pytest.raises(CheckpointError, match=r"train\.arch='bottlenecked_resnet', but .*resnet34"):
        read_old(path, arch="resnet34")


def test_both_names_of_torchvisions_network_are_one(tmp_path: Path) -> None:
    state = of_torchvision("efficientnet_v2_s")
    path = write(tmp_path / "a.pt", model=state, train={"arch": "efficientnet_v2_s"})
    given = read_old(path, arch="efficientnet_v2_s_torchvision")
    assert given.arch == read_old(path).arch == "efficientnet_v2_s_torchvision"


def test_weights_that_do_not_fit_say_what_to_do(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pt", train=TRAIN | {"arch": "resnet18"})
    reason = r"do not fit resnet18 .* names of bottlenecked_resnet; correct 'train\.arch' and save"
    with pytest.raises(CheckpointError, match=reason):
        import_old(path, tmp_path / "a.safetensors")
    write(path, train=None)
    with pytest.raises(CheckpointError, match=r"names of bottlenecked_resnet; .*--arch"):
        import_old(path, tmp_path / "a.safetensors", arch="resnet18")
    state = of_torchvision("resnet18")
    write(path, model=state, train={"arch": "bottlenecked_resnet"})
    with pytest.raises(CheckpointError, match=r"names of resnet18; correct 'train\.arch'"):
        import_old(path, tmp_path / "a.safetensors")


def test_a_missing_tensor_does_not_change_the_architecture(tmp_path: Path) -> None:
    state = of_torchvision("efficientnet_v2_s")
    del state["classifier.1.bias"]
    path = write(tmp_path / "a.pt", model=state, train=None)
    with pytest.raises(CheckpointError, match=r"1 differences \(classifier\.bias") as caught:
        import_old(path, tmp_path / "a.safetensors")
    assert "have the names of" not in str(caught.value)
