"""The commands show, list and deprecate of ``dhs checkpoint``, on a folder of mixed files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import Result

from dhs import checkpoint
from dhs.checkpoint import DeprecatedCheckpointError, PreprocessSpec
from dhs.commands.checkpoint import app
from tests.command_line import invoke, message
from tests.dhs.model.model_cases import CORRECTED, LEGACY, save, small

CROPPED = PreprocessSpec(crop=True)


def run(*arguments: object) -> Result:
    return invoke(app, *arguments)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write corrected and legacy checkpoints, old files, foreign weights and a damaged file."""
    folder = tmp_path / "checkpoints"
    (folder / "v1").mkdir(parents=True)
    save(folder / "v2.safetensors")
    save(folder / "v1" / "last.safetensors", small(LEGACY), metrics={"best_auc": 0.5})
    save(folder / "v1" / "crop.safetensors", small(CROPPED), metrics={})
    (folder / "v1" / "best.safetensors").symlink_to("last.safetensors")
    dataset = {"preprocessing": "raw_robust", "crop": False, "annulus_r_in": 0.0}
    torch.save({"model": small().backbone.state_dict(), "dataset": dataset}, folder / "v0.pt")
    torch.save({"model": {}}, folder / "v1" / "state.pt")
    save_file({"w": torch.zeros(3)}, folder / "imagenet.safetensors")
    (folder / "v3.safetensors").write_bytes(b"nothing")
    (folder / "notes[1].txt").write_text("")
    return folder


def names(items: list[dict[str, Any]]) -> set[str]:
    return {Path(item["file"]).name for item in items}


def test_deprecate_a_folder(folder: Path) -> None:
    kept = {p: p.read_bytes() for p in (folder / "v2.safetensors", folder / "v1/crop.safetensors")}
    result = run("deprecate", folder, "--reason", "wrong | annulus", "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert names(report["marked"]) == {"last.safetensors", "best.safetensors"}
    assert names(report["left"]) == {"v2.safetensors", "crop.safetensors"}
    assert report["marked_before"] == []
    assert [Path(path).name for path in report["not_imported"]] == ["v0.pt", "state.pt"]
    assert [Path(path).name for path in report["others"]] == ["imagenet.safetensors"]
    [rejected] = report["rejected"]
    assert rejected["path"] == str(folder / "v3.safetensors")
    assert all(path.read_bytes() == content for path, content in kept.items())
    assert report["notices"] == [str(folder / "v1/DEPRECATED.md"), str(folder / "DEPRECATED.md")]
    notice = (folder / "v1" / "DEPRECATED.md").read_text()
    assert r"| last.safetensors | (20, 32) | wrong \| annulus | 2" in notice
    assert "crop.safetensors" not in notice
    assert (
        "| v0.pt | (20, 32) | wrong \\| annulus (not imported"
        in (folder / "DEPRECATED.md").read_text()
    )
    with pytest.raises(DeprecatedCheckpointError):
        checkpoint.load(folder / "v1" / "last.safetensors", allow_deprecated=False)

    (folder / "v3.safetensors").unlink()
    again = run("deprecate", folder, "--reason", "another")
    assert again.exit_code == 0, again.output
    assert "0 checkpoints marked" in again.stdout
    for file, what in (
        ("last.safetensors", "already marked"),
        ("v2.safetensors", "not marked"),
        ("crop.safetensors", "legacy, on the sky"),
        ("v0.pt", "legacy, inside the galaxy, by its own configuration"),
        ("state.pt", "has no annulus"),
        ("imagenet.safetensors", "is not a dhs checkpoint"),
    ):
        assert any(file in line and what in line for line in again.stdout.splitlines()), file
    assert r"wrong \| annulus" in (folder / "v1" / "DEPRECATED.md").read_text()


def test_the_annulus_of_an_unknown_network_is_known(tmp_path: Path) -> None:
    dataset = {"crop": False, "annulus_r_in": None}
    torch.save({"model": {"w": torch.zeros(3)}, "dataset": dataset}, tmp_path / "other.pt")
    result = run("deprecate", tmp_path, "--reason", "wrong annulus", "--json")
    assert result.exit_code == 0, result.output
    assert "| other.pt | (20, 32) | wrong annulus" in (tmp_path / "DEPRECATED.md").read_text()


def test_deprecate_does_not_replace_a_note_of_somebody(folder: Path) -> None:
    note = folder / "v1" / "DEPRECATED.md"
    note.write_text("My own.")
    result = run("deprecate", folder, "--reason", "x")
    assert result.exit_code == 1
    assert "was not written by dhs and is kept" in message(result)
    assert note.read_text() == "My own."
    assert checkpoint.read(folder / "v1" / "last.safetensors").deprecated == "x"


@pytest.mark.parametrize("command", ["list", "deprecate"])
def test_a_folder_that_is_none(tmp_path: Path, command: str) -> None:
    options = ["--reason", "x"] if command == "deprecate" else []
    for path in (tmp_path / "none", Path(__file__)):
        result = run(command, path, *options)
        assert result.exit_code == 2
        assert "is not a folder" in message(result)
    empty = run("deprecate", tmp_path, "--reason", " ")
    assert empty.exit_code == 2
    assert "reason is empty" in message(empty)


def test_list(folder: Path) -> None:
    result = run("list", folder)
    assert result.exit_code == 1
    assert "v3.safetensors is truncated, damaged" in message(result)
    lines = result.stdout.splitlines()
    fingerprint = checkpoint.read(folder / "v2.safetensors").fingerprint
    for expected in (
        ("v2.safetensors", "bottlenecked_resnet", "(32.5, 45)", "corrected, on the sky", "0.75"),
        ("v2.safetensors", "simulated", f" {fingerprint[:12]} "),
        ("last.safetensors", "(20, 32)", "legacy, inside the galaxy", "0.5"),
        ("crop.safetensors", "legacy, on the sky"),
        ("v0.pt", "not imported: dhs checkpoint import"),
        ("imagenet.safetensors", "not a dhs checkpoint"),
    ):
        assert any(all(part in line for part in expected) for line in lines), expected
    (folder / "v3.safetensors").unlink()
    result = run("list", folder, "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert len(report["checkpoints"]) == 4
    assert report["checkpoints"][3]["fingerprint"] == fingerprint
    assert report["rejected"] == []


def test_list_of_nothing(tmp_path: Path) -> None:
    result = run("list", tmp_path)
    assert result.exit_code == 0
    assert "0 checkpoints in" in result.stdout
    assert json.loads(run("list", tmp_path, "--json").stdout)["checkpoints"] == []


def test_show(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    saved = save(path)
    result = run("show", path)
    assert result.exit_code == 0
    for part in (saved.fingerprint, CORRECTED.fingerprint, "corrected, on the sky", '"lr": 0.0005'):
        assert part in result.stdout
    shown = json.loads(run("show", path, "--json").stdout)
    assert shown["fingerprint"] == saved.fingerprint
    assert shown["spec"] == CORRECTED.to_dict()
    assert len(shown["tensors"]) == len(saved.tensors)
    missing = run("show", tmp_path / "b.safetensors")
    assert missing.exit_code == 2
    assert "b.safetensors is not a file" in message(missing)
