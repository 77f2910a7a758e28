"""Tests of ``dhs config`` and of the hint that names an installed configuration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dhs.cli import app
from tests import ROOT
from tests.command_line import invoke, message

CONFIGS = {path.name: path for path in (ROOT / "configs").glob("*.yaml")}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_installed_configuration_is_listed_with_its_purpose() -> None:
    text = invoke(app, "config", "list").stdout
    listed = {line.split()[0] for line in text.splitlines() if not line.startswith(" ")}
    assert listed == set(CONFIGS)
    assert "demo_grid.yaml (dhs grid)\n" in text
    assert "selection_grid.yaml (dhs grid)\n" in text
    assert "demo_bottlenecked_resnet.yaml (dhs train)\n" in text
    assert "simulated_survey.yaml (dhs simulate --config)\n" in text
    assert "    A demonstration of a training.\n" in text
    assert all(len(line) <= 80 for line in text.splitlines())
    found = json.loads(invoke(app, "config", "list", "--json").stdout)
    assert {entry["name"] for entry in found} == set(CONFIGS)


@pytest.mark.parametrize("name", ["demo_grid.yaml", "demo_grid"])
def test_a_copy_has_the_same_bytes(folder: Path, name: str) -> None:
    result = invoke(app, "config", "copy", name)
    assert result.exit_code == 0, result.output
    assert (folder / "demo_grid.yaml").read_bytes() == CONFIGS["demo_grid.yaml"].read_bytes()
    assert invoke(app, "config", "copy", name, "--out", "mine.yaml").exit_code == 0
    assert (folder / "mine.yaml").read_bytes() == CONFIGS["demo_grid.yaml"].read_bytes()


@pytest.mark.parametrize("out", [(), ("--out", "mine.yaml")], ids=["here", "out"])
def test_a_file_is_replaced_only_on_request(folder: Path, out: tuple[str, ...]) -> None:
    edited = folder / (out[-1] if out else "demo_grid.yaml")
    edited.write_text("my own")
    result = invoke(app, "config", "copy", "demo_grid", *out)
    assert result.exit_code == 2
    assert f"{edited.name} already exists" in message(result)
    assert "--overwrite" in message(result)
    assert edited.read_text() == "my own"
    assert invoke(app, "config", "copy", "demo_grid", *out, "--overwrite").exit_code == 0
    assert edited.read_bytes() == CONFIGS["demo_grid.yaml"].read_bytes()


def test_a_folder_is_no_file_to_write(folder: Path) -> None:
    (folder / "in.yaml").mkdir()
    for out, problem in (("in.yaml", "is a folder"), ("none/a.yaml", "does not exist")):
        result = invoke(app, "config", "copy", "demo_grid", "--out", out, "--overwrite")
        assert result.exit_code == 2
        assert problem in message(result)


def test_an_unknown_name_is_an_error_with_the_nearest(folder: Path) -> None:
    result = invoke(app, "config", "copy", "demo_gird")
    assert result.exit_code == 2
    assert "no installed configuration 'demo_gird'" in message(result)
    assert "nearest: demo_grid.yaml" in message(result)
    assert "dhs config list" in message(result)
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("command", "given", "nearest"),
    [
        ("train", "nosuch.yaml", ""),
        ("train", "demo_resnet.yaml", "demo_bottlenecked_resnet.yaml"),
        ("train", "demo_grid.yml", ""),
        ("grid", "nosuch.yaml", ""),
        ("grid plan", "selection_gird.yaml", "selection_grid.yaml"),
        ("grid run", "demo_gird.yaml", "demo_grid.yaml"),
        ("grid", "configs/selection_grid.yaml", "selection_grid.yaml"),
        ("grid", "simulated_bottlenecked.yaml", "simulated_grid.yaml"),
        ("simulate", "survey.yaml", "simulated_survey.yaml"),
    ],
)
def test_a_file_that_does_not_exist_names_the_nearest_of_its_kind(
    command: str, given: str, nearest: str
) -> None:
    option = ("--out", "out", "--n", 1, "--config") if command == "simulate" else ()
    result = invoke(app, *command.split(), *option, given)
    assert result.exit_code == 2
    said = message(result)
    assert f"{given} does not exist" in said
    name = said.split("copy it with: dhs config copy ")[1].rstrip(".") + ".yaml"
    kind = {"train": "\ntrain:", "grid": "\ncheckpoint:", "simulate": "\nlenses:"}[
        command.split()[0]
    ]
    assert kind in CONFIGS[name].read_text()
    assert not nearest or name == nearest
    copied = invoke(app, "config", "copy", name)
    assert copied.exit_code == 0, copied.output


@pytest.mark.parametrize("command", ["train", "grid", "grid plan"])
def test_a_similar_file_beside_it_is_named(folder: Path, command: str) -> None:
    (folder / "first").mkdir()
    (folder / "first" / "train.yaml").write_text("a: 1")
    result = invoke(app, *command.split(), Path("first", "trian.yaml"))
    assert result.exit_code == 2
    said = message(result)
    assert said.endswith("first/trian.yaml does not exist. Did you mean first/train.yaml?")
