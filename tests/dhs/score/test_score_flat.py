"""Scores of cutouts with flat bands: the table and the command count and name them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dhs.cli import app
from dhs.preprocess.spec import PreprocessSpec
from dhs.score import score
from dhs.score.flat import count_flat_bands
from dhs.score.table import read_flat_bands, read_table
from tests.command_line import invoke, message
from tests.dhs.score.score_cases import OTHER_SPEC, SPEC, images_of, save_all, write_model
from tests.dhs.score.score_cases import model as model
from tests.dhs.score.score_cases import pack as pack


def _beyond_the_edge(pack: Path) -> NDArray[np.float32]:
    images = images_of(pack)[:6].copy()
    side = images.shape[-1]
    images[1, 0, : side * 2 // 3] = 0
    images[3, :2, : side * 2 // 3] = np.nan
    return images


@pytest.mark.parametrize("batch_size", [1, 4])
def test_the_table_counts_flat_bands(
    model: Path, pack: Path, tmp_path: Path, batch_size: int
) -> None:
    folder = save_all(tmp_path / "cutouts", _beyond_the_edge(pack))
    out = tmp_path / "scores.parquet"
    scored = score(model, [folder], out, batch_size=batch_size)
    assert scored.flat_bands == {"galaxy-001": 1, "galaxy-003": 2}
    flat = read_table(out).flat_bands
    assert flat is not None
    assert flat.tolist() == [0, 1, 0, 2, 0, 0]
    again = score(model, [folder], out, batch_size=batch_size)
    assert again.was_complete
    assert again.flat_bands == scored.flat_bands == read_flat_bands(out)


def test_the_command_names_them(model: Path, pack: Path, tmp_path: Path) -> None:
    folder = save_all(tmp_path / "cutouts", _beyond_the_edge(pack))
    given = ("score", model, folder, "--out", tmp_path / "s.parquet", "--device", "cpu", "--json")
    result = invoke(app, *given)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["flat_bands"] == {"galaxy-001": 1, "galaxy-003": 2}
    assert "flat bands (MAD 0): 3, of 2 cutouts: galaxy-001 (1), galaxy-003 (2)" in message(result)
    good = save_all(tmp_path / "good", images_of(pack)[:3])
    result = invoke(app, "score", model, good, "--out", tmp_path / "t.parquet", "--json")
    assert "flat" not in message(result)


def test_every_member_has_its_own_annulus() -> None:
    side = 32
    images = np.random.default_rng(1).normal(0, 1, (1, 3, side, side)).astype(np.float32)
    radius = np.hypot(*(np.mgrid[:side, :side] - side // 2))
    # Flat between 8 and 11 pixels: most of one annulus, little of the other.
    images[0, 2, (radius >= 8) & (radius < 12)] = 0.5
    inner = PreprocessSpec(annulus_r_in=8, annulus_r_out=13)
    outer = PreprocessSpec(annulus_r_in=11, annulus_r_out=16)
    assert count_flat_bands([inner], images, None).tolist() == [1]
    assert count_flat_bands([outer], images, None).tolist() == [0]
    assert count_flat_bands([outer, inner], images, None).tolist() == [1]
    mask = np.broadcast_to(images == 0.5, images.shape)
    assert count_flat_bands([inner], images, mask).tolist() == [0]
    cropped = PreprocessSpec(annulus_r_in=8, annulus_r_out=13, crop=True, crop_size=26)
    assert count_flat_bands([cropped], images, None).tolist() == [1]
    assert count_flat_bands([cropped], np.roll(images, 9, axis=-1), None).tolist() == [0]


def test_an_ensemble_counts_the_worst_member(model: Path, pack: Path, tmp_path: Path) -> None:
    other = write_model(tmp_path / "other.safetensors", seed=2, spec=OTHER_SPEC)
    images = images_of(pack)[:2].copy()
    side = images.shape[-1]
    radius = np.hypot(*(np.mgrid[:side, :side] - side // 2))
    images[1, 1, (radius >= 8) & (radius < 11.5)] = 0
    folder = save_all(tmp_path / "cutouts", images)
    both = score([model, other], [folder], tmp_path / "b.parquet", across_annuli=True)
    alone = score([model], [folder], tmp_path / "a.parquet")
    specs = [count_flat_bands([spec], images, None).tolist() for spec in (SPEC, OTHER_SPEC)]
    assert specs == [[0, 0], [0, 1]]
    assert (alone.flat_bands, both.flat_bands) == ({}, {"galaxy-001": 1})
