"""A shard that becomes shorter while it is read is an error that names it, and no crash."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from dhs.cli import app
from dhs.data import DatasetConfig, LensDataset
from dhs.pack import open_pack, stack
from tests.dhs.score.score_cases import write_model
from tests.dhs.selection import grid_runs
from tests.dhs.selection.grid_runs import grid, write_hosts
from tests.dhs.train.training_runs import configuration, write_pack

SHARD = "shard-00001.npy"


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    return write_pack(tmp_path / "pack")


@pytest.fixture
def cut_while_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut the second shard at its second read."""
    read, seen = stack.StackFile.read, 0

    def cutting(self: stack.StackFile, *given: Any) -> None:
        nonlocal seen
        if self.path.name == SHARD:
            seen += 1
            if seen == 2:
                os.truncate(self.path, 1000)
        read(self, *given)

    monkeypatch.setattr(stack.StackFile, "read", cutting)


def said(*command: str | Path) -> str:
    """Run a command that must fail, and return its message in one line."""
    done = CliRunner().invoke(app, [*map(str, command)], terminal_width=1000)
    assert done.exit_code == 2, done.output
    assert done.exception is None or isinstance(done.exception, SystemExit)
    return " ".join(done.stderr.split())


def test_rows(pack: Path) -> None:
    opened = open_pack(pack)
    last = len(opened.shards[1]) - 1
    opened.shards[1][last]
    os.truncate(pack / SHARD, (pack / SHARD).stat().st_size - 1)
    assert np.isfinite(opened.shards[1][last - 1]).all()
    with pytest.raises(OSError, match=rf"{SHARD} ends before row {last} of 48: .* Restore it"):
        opened.shards[1][last]


def test_a_dataset(pack: Path) -> None:
    data = LensDataset(DatasetConfig(parquet_path=str(pack), crop=False), "val")
    os.truncate(pack / SHARD, 1000)
    with pytest.raises(OSError, match=f"{SHARD} ends before row"):
        data.read(np.arange(len(data)))


@pytest.mark.usefixtures("cut_while_read")
def test_training(pack: Path, tmp_path: Path) -> None:
    configuration(pack, tmp_path / "run")
    message = said("train", tmp_path / "run.yaml")
    assert f"{SHARD} ends before row" in message
    assert not (tmp_path / "run" / "best.safetensors").exists()


@pytest.mark.usefixtures("cut_while_read")
def test_scoring(pack: Path, tmp_path: Path) -> None:
    model, out = write_model(tmp_path / "model.safetensors"), tmp_path / "scores.parquet"
    assert f"{SHARD} ends before row" in said("score", model, pack, "--out", out)
    assert not out.exists()


@pytest.mark.usefixtures("cut_while_read")
def test_a_grid(tmp_path: Path) -> None:
    hosts = write_hosts(tmp_path / "hosts")
    model = grid_runs.write_model(tmp_path / "model.safetensors")
    config = grid(hosts, model, tmp_path / "grid")
    path = tmp_path / "grid.yaml"
    path.write_text(config.model_dump_json())
    message = said("grid", path, "--workers", "1")
    assert f"{SHARD} ends before row" in message
    assert not (tmp_path / "grid" / "grid.json").exists()


@pytest.mark.usefixtures("cut_while_read")
def test_verification(pack: Path) -> None:
    done = CliRunner().invoke(app, ["pack", "verify", str(pack), "--workers", "1"])
    assert done.exit_code != 0
    assert SHARD in done.output
