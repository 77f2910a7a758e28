"""The start of a training: its preprocessing, its network, and the classes of its splits."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow
import pytest
import torch
import torchvision
from pyarrow import parquet
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import fastnorm
from dhs.model import LensFinder, build_model
from dhs.train import FewForValidationWarning, train
from dhs.train.config import read_config
from tests.dhs.model.model_cases import CORRECTED
from tests.dhs.train.training_runs import CUTOUTS, configuration, run, write_pack

NUMBERS = np.arange(CUTOUTS)
IS_VALIDATION = NUMBERS % 4 >= 2


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def relabelled(folder: Path, labels: Any) -> Path:
    """Write a pack with other labels."""
    write_pack(folder)
    table = parquet.read_table(folder / "manifest.parquet")
    column = table.schema.get_field_index("label")
    changed = table.set_column(column, "label", pyarrow.array(np.asarray(labels, np.int8)))
    parquet.write_table(changed, folder / "manifest.parquet")
    return folder


def legacy(pack: Path, out: Path, *settings: str) -> Path:
    """Write the shortest configuration that there is."""
    path = out.parent / "minimal.yaml"
    path.write_text(
        f"dataset: {{parquet_path: '{pack}'}}\n"
        f"train: {{arch: bottlenecked_resnet, base_ch: 3, epochs: 1, batch_size: 8, lr: 0.01,\n"
        f"  device: cpu, out_dir: '{out}'}}\n"
    )
    return path


def large_pack(folder: Path, side: int = 70) -> Path:
    """Write a pack whose cutouts are larger than a crop of 64."""
    write_pack(folder)
    rng = np.random.default_rng(1)
    for path in folder.glob("shard-*.npy"):
        images = np.load(path)
        np.save(path, rng.normal(0, 1, (len(images), 3, side, side)).astype(np.float32))
    return folder


def test_the_first_lines_state_preprocessing_and_network(tmp_path: Path) -> None:
    lines: list[str] = []
    config = configuration(write_pack(tmp_path / "pack"), tmp_path / "run", epochs=1)
    train(config, "a name", report=lines.append)
    assert lines[0] == (
        "preprocessing: raw_robust, annulus (10.4, 14.4) px, no crop, clip 10 "
        "(corrected, on the sky)"
    )
    network = build_model("bottlenecked_resnet", base_ch=3)
    parameters = sum(value.numel() for value in network.parameters())
    assert lines[1:3] == [
        f"network: bottlenecked_resnet, base_ch 3, {parameters:,} parameters, from random weights",
        "training: 48 cutouts, 24 of them lenses, validation: 48 cutouts, 24 of them lenses",
    ]
    assert lines[3].startswith("few cutouts for validation: ")
    assert lines[4].startswith("epoch 1 of 1")


def test_a_minimal_file_warns_that_it_is_the_legacy_recipe(tmp_path: Path) -> None:
    pack = large_pack(tmp_path / "pack")
    config = read_config(legacy(pack, tmp_path / "run"))
    lines: list[str] = []
    expected = (
        r"legacy annulus \(20\.0, 32\.0\), with a crop to 64.*"
        r"dataset\.crop=false.*annulus_r_in=22\.75.*annulus_r_out=31\.5"
    )
    with pytest.warns(fastnorm.AnnulusWarning, match=expected):
        train(config, "a name", report=lines.append)
    assert lines[0] == (
        "preprocessing: raw_robust, annulus (20.0, 32.0) px, crop to 64, clip 10 "
        "(legacy, on the sky)"
    )


def test_the_command_shows_the_warning(tmp_path: Path) -> None:
    from dhs.cli import app

    path = legacy(large_pack(tmp_path / "pack"), tmp_path / "run")
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        result = CliRunner().invoke(app, ["train", str(path)])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(
        "preprocessing: raw_robust, annulus (20.0, 32.0) px, crop to 64"
    )
    assert "legacy annulus (20.0, 32.0)" in " ".join(result.stderr.split())


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("label", [0, 1])
def test_a_split_of_one_class_is_refused(tmp_path: Path, split: str, label: int) -> None:
    chosen = IS_VALIDATION if split == "val" else ~IS_VALIDATION
    labels = np.where(chosen, label, NUMBERS % 2)
    pack = relabelled(tmp_path / "pack", labels)
    with pytest.raises(ValueError, match=rf"{split!r} of .*pack has 48 .*label {label} alone"):
        run(pack, tmp_path / "run", epochs=1)
    assert not (tmp_path / "run" / "state.safetensors").exists()


@pytest.mark.parametrize(("few", "kind"), [(1, "lenses"), (0, "non-lenses")])
@pytest.mark.parametrize("count", [1, 9, 10])
def test_few_lenses_for_validation_are_counted(
    tmp_path: Path, count: int, few: int, kind: str
) -> None:
    labels = NUMBERS % 2
    labels[IS_VALIDATION] = 1 - few
    labels[np.flatnonzero(IS_VALIDATION)[:count]] = few
    pack = relabelled(tmp_path / "pack", labels)
    lines: list[str] = []
    made = configuration(pack, tmp_path / "run", epochs=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(made, "run", report=lines.append)
    said = [str(item.message) for item in caught if item.category is FewForValidationWarning]
    told = [line for line in lines if "few cutouts for validation: an AUC of 0.9 has the" in line]
    assert len(told) == (count == 10)
    if count == 10:
        assert said == []
    else:
        assert "mostly chance (an AUC of 0.9 has the 95 % interval 0." in said[0]
        assert len(said) == 1
        assert f"has only {count} {kind} for validation" in said[0]


def test_a_training_of_resnet18_is_that_of_torchvision(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18(num_classes=1).eval()
    ours = build_model("resnet18").eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(ours(images), theirs(images))
    assert build_model("resnet18", 5).conv1.weight.shape == (64, 5, 7, 7)  # type: ignore[union-attr]
    made = run(
        write_pack(tmp_path / "pack"), tmp_path / "run", arch="resnet18", base_ch=None, epochs=1
    )
    with safe_open(made.checkpoint, framework="pt") as file:
        assert any(name.endswith("fc.weight") for name in file.keys())  # noqa: SIM118


def test_imagenet_weights_of_torchvisions_resnet18_are_taken(tmp_path: Path) -> None:
    torch.manual_seed(1)
    source = torchvision.models.resnet18().state_dict()
    path = tmp_path / "resnet18.safetensors"
    save_file({name: value.contiguous() for name, value in source.items()}, path)
    model: Any = LensFinder(CORRECTED, "resnet18", pretrained=True, weights=path).backbone
    assert torch.equal(model.layer4[1].conv2.weight, source["layer4.1.conv2.weight"])
    assert torch.equal(model.conv1.weight, source["conv1.weight"])
    assert model.fc.weight.shape == (1, 512)
    tagged: Any = build_model("resnet18.tv_in1k")
    assert tagged.pretrained_cfg["tag"] == "tv_in1k"


def test_a_state_of_the_earlier_warm_up_is_not_resumed(tmp_path: Path) -> None:
    pack, out = write_pack(tmp_path / "pack"), tmp_path / "run"
    run(pack, out, epochs=1, warmup_epochs=1)
    state = out / "state.safetensors"
    with safe_open(state, framework="pt") as file:
        header = json.loads(file.metadata()["dhs"])
    del header["what"]["warm_up_from_epoch"]
    save_file(load_file(state), state, {"dhs": json.dumps(header)})
    with pytest.raises(ValueError, match=r"different training: warm_up_from_epoch None against 1"):
        run(pack, out, epochs=1, warmup_epochs=1)


@pytest.mark.parametrize("value", ["train", "val"])
def test_a_split_value_has_no_effect_and_is_said_to_have_none(
    tmp_path: Path, value: Literal["train", "val"]
) -> None:
    pack, lines = write_pack(tmp_path / "pack"), list[str]()
    config = configuration(pack, tmp_path / value, epochs=1)
    train(config, "test")
    config.split.split_value = value
    done = train(config, "test", report=lines.append)
    assert done.was_complete
    said = f"split.split_value={value} has no effect: a training takes the splits train and val"
    assert said in lines
    config.split.split_value = None
    train(config, "test", report=(without := list[str]()).append)
    assert [line for line in lines if line != said] == without


def test_a_training_that_cannot_start_leaves_no_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    config = configuration(tmp_path / "missing", out)
    with pytest.raises(FileNotFoundError, match="missing does not exist"):
        train(config, "test")
    assert not out.exists()
