"""Tests of the list of rejected files: grouped by reason, with the folder that was searched."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer

from fastnorm.cli import app
from fastnorm.io import Rejected
from fastnorm.terminal import finish
from tests.command_line import invoke

FAULTS = 12


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write one good file, twelve empty ones in two folders, and one without cutouts."""
    for name in ("a", "b"):
        (tmp_path / "in" / name).mkdir(parents=True)
    np.save(tmp_path / "in" / "good.npy", np.ones((3, 101, 101), np.float32))
    for k in range(FAULTS):
        (tmp_path / "in" / "ab"[k % 2] / f"empty-{k:02}.npy").touch()
    np.savez(tmp_path / "in" / "other.npz", image=np.zeros(3))
    return tmp_path


def shown(folder: Path, *paths: object) -> str:
    result = invoke(app, "normalize", *paths, "--out", folder / "stack.npy")
    assert result.exit_code == 1
    return result.stderr


def test_reasons_are_counted_and_the_folder_is_named_once(folder: Path) -> None:
    text = shown(folder, folder / "in")
    words = " ".join(text.replace("│", " ").split())
    assert f"13 rejected in {folder / 'in'}" in words
    assert text.count(str(folder)) == 1
    assert words.count("the file is empty (0 bytes)") == 1
    # In a pipe, a reason is one line that a search finds, without the frame of a table.
    row = next(line for line in text.splitlines() if "the file is" in line)
    assert row.split(maxsplit=1) == [f"{FAULTS}", row.split(maxsplit=1)[1]]
    assert "│" not in text
    assert max(map(len, text.splitlines()[1:])) < 120
    assert "a/empty-00.npy" in text
    assert f"and {FAULTS - 3} more" in words
    assert "--json lists all" in words
    # The most frequent reason comes first.
    assert text.index("the file is") < text.index("has no array")


def test_relative_paths_are_of_the_working_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    words = " ".join(shown(folder, "in").split())
    assert f"13 rejected in {folder / 'in'}" in words
    monkeypatch.chdir(folder / "in" / "b")
    assert f"6 rejected in {folder / 'in' / 'b'}" in " ".join(shown(folder, ".").split())


def test_relative_and_absolute_paths_have_one_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    text = shown(folder, "none.npz", folder / "in" / "other.npz")
    assert f"2 rejected in {folder}\n" in text
    assert " in/other.npz\n" in text


def test_a_single_file_is_named_with_its_folder(folder: Path) -> None:
    text = shown(folder, folder / "in" / "other.npz")
    assert f"1 rejected in {folder / 'in'}" in text
    assert "other.npz" in text
    assert "more" not in text


def test_json_lists_every_path(folder: Path) -> None:
    result = invoke(app, "normalize", folder / "in", "--out", folder / "stack.npy", "--json")
    rejected = json.loads(result.stdout)["rejected"]
    assert len({item["path"] for item in rejected}) == FAULTS + 1


def test_many_different_reasons_are_cut_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    rejected = [Rejected(Path(f"/data/{k}.npy"), f"reason {k}") for k in range(60)]
    with pytest.raises(typer.Exit):
        finish({"written": 1}, rejected, 0.0, "done", False, Path("rejected.parquet"))
    words = " ".join(capsys.readouterr().err.split())
    assert "60 rejected in /data" in words
    assert "reason 49" in words
    assert "reason 50" not in words
    assert "10 more reasons" in words
    assert "rejected.parquet lists all" in words
