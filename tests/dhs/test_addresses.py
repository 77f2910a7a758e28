"""Addresses of object stores are refused at every door of ``dhs``, and leave nothing behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import pytest
from typer.main import get_command

from dhs import checkpoint
from dhs.audit.artefacts import find_artefacts
from dhs.checkpoint.folder import find
from dhs.cli import app
from dhs.config.file import read_config_file
from dhs.config.section import LocalPath, Section
from dhs.data import DatasetConfig, LensDataset
from dhs.fetch.catalogue import read_catalogue
from dhs.manifest.table import manifest_path, read_manifest
from dhs.pack import open_pack, write_pack
from dhs.score.input import open_input
from dhs.score.table import read_table
from dhs.selection.config import GridConfig
from dhs.selection.grid_result import GridResult
from dhs.train.config import TrainConfig
from tests.command_line import invoke, message

ADDRESS = "s3://bucket/folder/out"
SAID = f"{ADDRESS} is an address of an object store; copy the files to a disk first"


def _leaves(words: tuple[str, ...], command: Any) -> Iterator[tuple[str, ...]]:
    inner = getattr(command, "commands", {})
    if not inner:
        yield words
    for name, found in inner.items():
        yield from _leaves((*words, name), found)


@pytest.mark.parametrize("words", list(_leaves((), get_command(app))), ids=" ".join)
@pytest.mark.parametrize("how", [(ADDRESS,), ("--out", ADDRESS), (f"--out={ADDRESS}",)])
def test_every_command_refuses_an_address(
    words: tuple[str, ...], how: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = invoke(app, *words, *how)
    assert done.exit_code == 2
    assert message(done) == f"error: {SAID}"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "given",
    [("--data-origin", "https://www.legacysurvey.org"), ("--data-origin=s3://bucket",)],
)
def test_an_origin_may_be_an_address(given: tuple[str, ...], tmp_path: Path) -> None:
    missing = tmp_path / "missing.csv"
    done = invoke(app, "pack", missing, "--out", tmp_path / "pack", *given)
    assert done.exit_code == 2
    assert f"{missing} does not exist" in message(done)


DOORS: dict[str, Callable[[str], object]] = {
    "read_config_file": lambda path: read_config_file(path, TrainConfig),
    "read_manifest": read_manifest,
    "manifest_path": manifest_path,
    "open_pack": open_pack,
    "write_pack, manifest": lambda path: write_pack(path, "out"),
    "read_catalogue": lambda path: read_catalogue(path, None),
    "checkpoint.read": checkpoint.read,
    "checkpoint.load": checkpoint.load,
    "folder.find": find,
    "read_table": read_table,
    "open_input": lambda path: open_input([path], 101),
    "GridResult": lambda path: GridResult(Path(path)),
    "find_artefacts": lambda path: find_artefacts([path]),
    "LensDataset": lambda path: LensDataset(_assigned(path)),
}


def _assigned(path: str) -> DatasetConfig:
    config = DatasetConfig(parquet_path="a")
    config.parquet_path = path
    return config


@pytest.mark.parametrize("name", DOORS)
def test_functions_refuse_an_address(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="address") as error:
        DOORS[name](ADDRESS)
    assert SAID in str(error.value)


TRAINING = """
dataset: {parquet_path: pack}
train: {arch: resnet18, epochs: 1, lr: 0.1, out_dir: out}
"""
GRID = """
checkpoint: a.safetensors
out_dir: out
hosts: {parquet_path: pack}
"""


def _paths(model: type[Section], before: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Section):
            yield from _paths(inner, f"{before}{name}.")
        elif field.metadata[:1] == list(get_args(LocalPath)[1:]):
            yield before + name


MODELS: list[type[Section]] = [TrainConfig, GridConfig]
KEYS = [(model, key) for model in MODELS for key in _paths(model)]


def test_the_keys_with_paths_are_known() -> None:
    assert sorted(key for _, key in KEYS) == [
        "checkpoint",
        *("dataset.manifest_path", "dataset.parquet_path"),
        *("hosts.manifest_path", "hosts.parquet_path"),
        "out_dir",
        *("train.init_weights", "train.out_dir", "train.weights"),
    ]


@pytest.mark.parametrize(("model", "key"), KEYS, ids=[key for _, key in KEYS])
def test_configurations(model: type[Section], key: str, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(TRAINING if model is TrainConfig else GRID)
    read_config_file(path, model)
    with pytest.raises(ValueError, match="address") as error:
        read_config_file(path, model, [f"{key}={ADDRESS}"])
    assert f"{key}: {SAID}" in str(error.value)


def test_the_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(TRAINING)
    config = read_config_file(path, TrainConfig)
    monkeypatch.setenv("DHS_DATA", ADDRESS)
    with pytest.raises(ValueError, match="object store") as error:
        config.located_dataset()
    assert str(error.value) == SAID


@pytest.mark.parametrize("column", ["cutout_path", "mask_path"])
def test_rows_of_manifests(column: str, tmp_path: Path) -> None:
    table = pd.DataFrame({"cutout_path": ["a.npz", "b.npz"], "label": [0, 1]})
    table["mask_path"] = ["c.npz", "d.npz"]
    table.loc[1, column] = ADDRESS
    manifest = tmp_path / "manifest.csv"
    table.assign(split="train").to_csv(manifest, index=False)
    config = DatasetConfig(mode="file_manifest", manifest_path=str(manifest), data_origin="here")
    said = (
        f"1 rows whose {column} is an address of an object store; copy the files to a disk first: "
        f"row 1 ('{ADDRESS}')"
    )
    for read in (
        lambda: write_pack(manifest, tmp_path / "pack", data_origin="here"),
        lambda: LensDataset(config),
    ):
        with pytest.raises(ValueError, match="address") as error:
            read()
        assert said in str(error.value)
