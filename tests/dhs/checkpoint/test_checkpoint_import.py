"""Old .pt files: their annulus, and identical results after the import."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from typer.testing import Result

from dhs import checkpoint
from dhs.checkpoint import CheckpointError
from dhs.checkpoint.published import import_old, read_old
from dhs.checkpoint.torchvision_names import to_timm
from dhs.commands.checkpoint import app
from dhs.model import build_model
from dhs.preprocess.spec import PreprocessSpec, SpecMismatchError
from tests.command_line import invoke, message
from tests.dhs.model.model_cases import CORRECTED, DATASET, LEGACY, TRAIN, weights, write
from tests.dhs.model.model_cases import one_thread as one_thread


def dataset(**changes: Any) -> dict[str, Any]:
    return DATASET | changes


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in DATASET.items() if name not in names}


def run(*arguments: object) -> Result:
    return invoke(app, "import", *arguments)


def test_an_old_file_becomes_a_checkpoint(tmp_path: Path) -> None:
    old = write(
        tmp_path / "best.pt", epoch=7, best_auc=0.9978, optimizer={"state": {}}, loss=float("nan")
    )
    out = tmp_path / "best.safetensors"
    made = import_old(old, out)
    model, loaded = checkpoint.load(out, expect_spec=LEGACY, expect_arch="bottlenecked_resnet")
    assert loaded == made
    assert model.architecture["kwargs"] == {"base_ch": 4}
    for name, value in weights().items():
        assert torch.equal(model.backbone.state_dict()[name], value)
    assert made.metrics == {"epoch": 7, "best_auc": 0.9978}
    assert made.config == {"train": TRAIN, "dataset": DATASET}
    assert made.data_origin == "DR10"
    assert made.status == "legacy, inside the galaxy"
    assert made.imported_from == {
        "file": "best.pt",
        "sha256": hashlib.sha256(old.read_bytes()).hexdigest(),
        "weights": "model",
        "defaults": {"clip_range": 10.0, "in_ch": 3, "annulus": [20.0, 32.0]},
        "left_out": ["loss", "optimizer"],
    }


@pytest.mark.parametrize(
    ("changes", "spec"),
    [
        (dataset(), LEGACY),
        (dataset(annulus_r_in=None, annulus_r_out=None), LEGACY),
        (without("annulus_r_out"), LEGACY),
        (without("annulus_r_in") | {"annulus_r_out": None}, LEGACY),
        (dataset(annulus_r_in=20, annulus_r_out=32), LEGACY),
        (dataset(annulus_r_in=32.5, annulus_r_out=45), CORRECTED),
        (dataset(crop=True), PreprocessSpec(crop=True)),
        (dataset(crop=True, crop_size=None), PreprocessSpec(crop=True)),
        # In the published code, 0 means the default of 64.
        (dataset(crop=True, crop_size=0), PreprocessSpec(crop=True)),
        (dataset(crop=False, crop_size=0), LEGACY),
        (without("crop"), LEGACY),
        (dataset(clip_range=5), PreprocessSpec(clip_range=5)),
        (dataset(clip_range=None, preprocessing=None), LEGACY),
        (
            dataset(preprocessing="residual_radial_profile"),
            PreprocessSpec("residual_radial_profile"),
        ),
    ],
)
def test_the_preprocessing_is_read_from_the_file(
    tmp_path: Path, changes: dict[str, Any], spec: PreprocessSpec
) -> None:
    assert read_old(write(tmp_path / "a.pt", dataset=changes)).spec == spec


def test_its_own_spec_comes_first(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pt", dataset=None, preprocess_spec=CORRECTED.to_dict())
    assert read_old(path).spec == CORRECTED
    part = {"mode": "raw_robust", "annulus_r_in": 32.5, "annulus_r_out": 45}
    same = dataset(annulus_r_in=32.5, annulus_r_out=45.0)
    assert read_old(write(path, dataset=same, preprocess_spec=part)).spec == CORRECTED
    write(path, preprocess_spec=CORRECTED.to_dict())
    with pytest.raises(SpecMismatchError) as caught:
        read_old(path)
    first, _, second = str(caught.value).partition("and the dataset")
    assert "preprocess_spec (raw_robust, annulus (32.5, 45.0) px" in first
    assert "(20.0, 32.0)" in second


def test_without_an_annulus_it_is_not_guessed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pt", dataset=without("annulus_r_in", "annulus_r_out"))
    with pytest.raises(CheckpointError, match=r"has no annulus, neither .* --annulus 20 32"):
        read_old(path)
    assert read_old(path, annulus=(20, 32)).spec == LEGACY
    assert read_old(path, annulus=(0, 0)).spec == LEGACY
    assert read_old(path, annulus=(32.5, 45)).spec == CORRECTED
    write(path, dataset=None, preprocess_spec={"mode": "raw_robust", "crop": False})
    with pytest.raises(CheckpointError, match="has no annulus"):
        read_old(path)
    write(path, dataset=without("crop"))
    assert read_old(path).defaults["crop"] is False
    assert read_old(path, crop=True).spec == PreprocessSpec(crop=True)


@pytest.mark.parametrize("given", [{"annulus": (32.5, 45.0)}, {"crop": True}])
def test_what_a_file_says_is_never_overruled(tmp_path: Path, given: dict[str, Any]) -> None:
    path = write(tmp_path / "a.pt")
    with pytest.raises(SpecMismatchError, match=r"its dataset .* and the given annulus"):
        read_old(path, **given)
    assert read_old(path, annulus=(20, 32), crop=False).spec == LEGACY


def test_one_radius_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pt", dataset=dataset(annulus_r_in=32.5))
    with pytest.raises(ValueError, match=r"annulus_r_in=32\.5 and annulus_r_out=0\.0: give both"):
        read_old(path)
    spec = {"annulus_r_out": 45.0, "crop": False}
    write(path, dataset=without("annulus_r_out") | {"annulus_r_in": 32.5}, preprocess_spec=spec)
    with pytest.raises(ValueError, match="give both radii"):
        read_old(path)


def test_defaults_of_architectures(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.pt", train={"arch": "bottlenecked_resnet"}, model=weights(base_ch=16)
    )
    made = import_old(path, tmp_path / "a.safetensors")
    assert made.architecture["kwargs"] == {"base_ch": 16}
    assert made.imported_from is not None
    assert made.imported_from["defaults"]["base_ch"] == 16
    torch.manual_seed(5)
    resnet = torchvision.models.resnet18(num_classes=1).eval()
    write(path, train=None, model=resnet.state_dict())
    out = tmp_path / "b.safetensors"
    assert import_old(path, out, size=64).imported_from is not None
    model, loaded = checkpoint.load(out)
    assert (loaded.arch, loaded.size) == ("resnet18", 64)
    assert loaded.status == "legacy, on the sky"
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(model.backbone(images), resnet(images))


def test_weights_of_another_architecture_are_named(tmp_path: Path) -> None:
    path, out = tmp_path / "a.pt", tmp_path / "a.safetensors"
    write(path, train={"arch": "bottlenecked_resnet", "base_ch": 16})
    reason = r"with {'base_ch': 16} .*stem\.0\.weight has shape .*"
    hint = r"stem in the file has 4 channels, so its base_ch is 4; .* base_ch=4 under 'train'"
    with pytest.raises(CheckpointError, match=f"{reason}.*{hint}"):
        import_old(path, out)
    state = weights()
    state["head.bias"] = state.pop("classifier.bias")
    write(path, model=state)
    reason = r"2 differences \(classifier\.bias is missing; head\.bias does not belong\)"
    with pytest.raises(CheckpointError, match=reason):
        import_old(path, out)
    write(path, train=TRAIN | {"arch": "resnet9000"})
    with pytest.raises(ValueError, match="arch='resnet9000' is not known"):
        import_old(path, out)
    assert os.listdir(tmp_path) == ["a.pt"]


class Config(argparse.Namespace):
    """A class whose objects old programs saved in their files."""


def garbage(path: Path) -> None:
    path.write_bytes(b"hello world" * 10)


def cut(path: Path) -> None:
    path.write_bytes(write(path).read_bytes()[:3000])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda p: write(p, dataset=Config()), r"object of \S*\.Config\. .*dataclasses\.asdict"),
        (lambda p: write(p, out=Path("x")), r"object of pathlib\S*\.PosixPath"),
        (lambda p: write(p, dataset="crop: false"), "its 'dataset' is a str; it must be a dict"),
        (lambda p: write(p, train=[1]), "its 'train' is a list"),
        (lambda p: write(p, preprocess_spec=3), "its 'preprocess_spec' is a int"),
        (lambda p: write(p, model=None), "no state dict of tensors under 'model'"),
        (lambda p: write(p, model={"w": 3}), "no state dict of tensors under 'model'"),
        (lambda p: torch.save([1], p), "has a list; an old checkpoint is a dict"),
        (garbage, r"is damaged or not a \.pt file"),
        (cut, r"is damaged or not a \.pt file"),
        (lambda p: p.write_bytes(b""), r"is damaged or not a \.pt file"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, make: Callable[[Path], object], reason: str) -> None:
    path = tmp_path / "a.pt"
    make(path)
    with pytest.raises(CheckpointError, match=reason) as caught:
        read_old(path)
    assert str(path) in str(caught.value)
    assert "weights_only" not in str(caught.value)


def test_nothing_in_the_file_runs(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "trapped"),)

    write(tmp_path / "a.pt", extra=Trap())
    with pytest.raises(CheckpointError, match=r"object of \S*mkdir"):
        read_old(tmp_path / "a.pt")
    assert os.listdir(tmp_path) == ["a.pt"]


def test_the_origin_of_the_data(tmp_path: Path) -> None:
    path, out = tmp_path / "a.pt", tmp_path / "a.safetensors"
    write(path, dataset=without("data_origin"))
    with pytest.raises(ValueError, match="give --data-origin"):
        import_old(path, out)
    assert import_old(path, out, data_origin="simulated").data_origin == "simulated"
    write(path, dataset=without("data_origin"), data_origin="DR9")
    assert import_old(path, out).data_origin == "DR9"
    with pytest.raises(ValueError, match="has data_origin='DR9', but 'DR10' is given"):
        import_old(path, out, data_origin="DR10")


def test_the_command(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.pt", dataset=without("annulus_r_in", "annulus_r_out", "data_origin", "crop")
    )
    out = tmp_path / "a.safetensors"
    refused = run(path, "--out", out)
    assert refused.exit_code == 2
    assert "--annulus 20 32" in message(refused)
    options = ("--annulus", 20, 32, "--no-crop", "--data-origin", "DR10")
    result = run(path, "--out", out, *options)
    assert result.exit_code == 0, result.output
    assert "bottlenecked_resnet, raw_robust, annulus (20.0, 32.0) px, no crop" in result.stdout
    assert "assumed: clip_range = 10.0" in message(result)
    assert "mark the checkpoint with dhs checkpoint deprecate" in message(result)
    again = run(path, "--out", out, *options)
    assert again.exit_code == 2
    assert "already exists; choose another file" in message(again)
    other = run(path, "--out", tmp_path / "b.safetensors", *options, "--size", 64, "--json")
    assert other.exit_code == 0
    report = json.loads(other.stdout)
    assert report["status"] == "legacy, on the sky"
    assert report["imported_from"]["file"] == "a.pt"
    for arguments, reason in (
        ((path, "--out", tmp_path / "c.pt"), "must end in .safetensors"),
        ((tmp_path / "none.pt", "--out", tmp_path / "c.safetensors"), "none.pt is not a file"),
    ):
        wrong = run(*arguments)
        assert wrong.exit_code == 2
        assert reason in message(wrong)


@pytest.fixture(scope="module")
def calibrated() -> tuple[nn.Module, Tensor]:
    """Return a torchvision network with the statistics of some galaxies, and these galaxies."""
    torch.manual_seed(11)
    options: dict[str, Any] = {"stochastic_depth_prob": 0.0, "dropout": 0.0}
    model = torchvision.models.efficientnet_v2_s(num_classes=1, **options)
    rng = np.random.default_rng(2)
    radius = np.hypot(*np.mgrid[-50:51, -50:51])
    width = rng.uniform(3, 12, (8, 3, 1, 1))
    images = 10 * np.exp(-radius / width) + rng.normal(0, 1, (8, 3, 101, 101))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            # None means the plain average over all batches.
            module.momentum = None
    seen = torch.from_numpy(images.astype(np.float32))
    with torch.no_grad():
        model.train()(seen)
    return model.eval(), seen


def test_torchvision_weights_do_the_same_here(
    tmp_path: Path, calibrated: tuple[nn.Module, Tensor]
) -> None:
    theirs, images = calibrated
    corrected = dataset(annulus_r_in=32.5, annulus_r_out=45.0)
    old, out = tmp_path / "a.pt", tmp_path / "a.safetensors"
    train = {"arch": "efficientnet_v2_s"}
    made = import_old(write(old, model=theirs.state_dict(), train=train, dataset=corrected), out)
    assert made.arch == "efficientnet_v2_s_torchvision"
    model, _ = checkpoint.load(out, expect_spec=CORRECTED)
    padded_otherwise = build_model("efficientnet_v2_s").eval()
    padded_otherwise.load_state_dict(model.backbone.state_dict())
    with torch.inference_mode():
        expected = theirs(images)
        spread = expected.std().item()
        assert spread > 1e-3
        ours, other = model.backbone(images), padded_otherwise(images)
    assert (ours - expected).abs().max() <= 1e-3 * spread
    assert (other - expected).abs().max() > 0.1 * spread


def test_names_of_torchvision(calibrated: tuple[nn.Module, Tensor]) -> None:
    theirs = calibrated[0].state_dict()
    ours = build_model("efficientnet_v2_s_torchvision").state_dict()
    renamed = to_timm(theirs)
    # Both list the layers in the order in which they are used.
    assert list(renamed) == list(ours)
    for name, value in ours.items():
        assert renamed[name].shape == value.shape
    stray = {"features.4.0.block.9.0.weight": theirs["classifier.1.bias"]}
    assert list(to_timm(stray)) == list(stray)
