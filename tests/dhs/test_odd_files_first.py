"""One odd file, first in its folder, does not end a run of ``dhs``."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dhs.cli import app
from tests.command_line import invoke
from tests.dhs.score.score_cases import write_model
from tests.dhs.train.training_runs import SIDE

ODD: dict[str, Callable[[Path], None]] = {
    "a link to itself": lambda folder: (folder / "0.npz").symlink_to(folder / "0.npz"),
    "a pipe": lambda folder: os.mkfifo(folder / "0.npy"),
    "one pixel": lambda folder: save(folder / "0.npz", 1),
}


def save(path: Path, side: int = SIDE, seed: int = 0) -> None:
    pixels = np.random.default_rng(seed).normal(0, 0.02, (side, side, 3)).astype(np.float32)
    np.savez(path, cutout=pixels)


@pytest.mark.slow
@pytest.mark.parametrize("name", ODD)
def test_the_others_are_used(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "cutouts"
    folder.mkdir()
    ODD[name](folder)
    for seed in (1, 2):
        save(folder / f"{seed}.npz", seed=seed)
    files, small = sorted(folder.iterdir()), ("--batch-size", 4)
    model = write_model(tmp_path / "model.safetensors")
    commands = (
        ["inject", "--hosts", folder, "--theta-e", 1.5, "--r-mag", 22, "--out", tmp_path / "a.png"],
        ["score", model, folder, "--out", tmp_path / "a.parquet", *small],
        ["score", model, *files, "--out", tmp_path / "b.parquet", *small],
    )
    for command in commands:
        done = invoke(app, *command, "--json")
        assert done.exit_code == 1, command
        report = json.loads(done.stdout)
        assert report["written"] == 2
        [rejected] = report["rejected"]
        assert Path(rejected["path"]) == files[0]
