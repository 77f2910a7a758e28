"""Packs of pixels that teach nothing or the wrong thing: flat bands, and the same pixels twice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pytest
from numpy.typing import NDArray
from pyarrow import parquet

from dhs.manifest.format import MANIFEST, METADATA_KEY
from dhs.pack import PackResult, open_pack, verify_pack, write_pack
from tests.command_line import message
from tests.dhs.pack.pack_cases import run

SIDE = 30


def sky(seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 1, (3, SIDE, SIDE)).astype(np.float32)


def flat(seed: int, bands: Sequence[int] = (0,), fill: float = 0.0) -> NDArray[np.float32]:
    pixels = sky(seed)
    pixels[list(bands), :18] = fill
    return pixels


def manifest_of(folder: Path, images: Sequence[NDArray[np.float32]], **columns: Any) -> Path:
    names = [f"c{k}.npy" for k in range(len(images))]
    for name, image in zip(names, images, strict=True):
        np.save(folder / name, image)
    given = {"cutout_path": names, "label": [0] * len(images)} | columns
    pd.DataFrame(given).to_csv(folder / "cutouts.csv", index=False)
    return folder / "cutouts.csv"


def pack(manifest: Path, **options: Any) -> PackResult:
    return write_pack(manifest, manifest.parent / "pack", data_origin="made-up", **options)


def test_flat_cutouts_are_rejected_by_name(tmp_path: Path) -> None:
    images = [sky(0), flat(1), flat(2, (0, 2)), flat(3, (1,), np.nan), sky(4)]
    manifest = manifest_of(tmp_path, images)
    made = pack(manifest)
    assert not made.is_finished
    assert [item.path.name for item in made.rejected] == ["c1.npy", "c2.npy", "c3.npy"]
    assert made.rejected[1].reason.startswith("is flat in g, z: the MAD of the annulus (9.75, 13.5")
    assert "--allow-flat" in made.rejected[1].reason
    left_out = pack(manifest, allow_rejects=3)
    assert left_out.is_finished
    assert open_pack(left_out.out).table["flat_bands"].tolist() == [0, 0]


def test_flat_cutouts_that_are_allowed_are_counted(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, [sky(0), flat(1), flat(2, (0, 2)), flat(3, (1,), np.nan)])
    assert not pack(manifest).is_finished
    made = pack(manifest, allow_flat=True)  # the same folder goes on
    assert made.flat_bands == {"c1": 1, "c2": 2, "c3": 1}
    opened = open_pack(made.out)
    assert opened.table["flat_bands"].tolist() == [0, 1, 2, 1]
    assert opened.metadata["flat_annulus"] == [9.75, 13.5]
    assert verify_pack(made.out).flat_bands == made.flat_bands
    assert pack(manifest).flat_bands == made.flat_bands  # a complete pack says so again


def test_an_unfinished_pack_forgets_what_is_no_longer_allowed(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, [sky(0), flat(1)])
    np.save(tmp_path / "c0.npy", np.zeros((2, 2)))
    assert len(pack(manifest, allow_flat=True).rejected) == 1
    np.save(tmp_path / "c0.npy", sky(0))
    made = pack(manifest)
    assert [item.path.name for item in made.rejected] == ["c1.npy"]


def test_the_mask_decides_what_is_flat(tmp_path: Path) -> None:
    images = [sky(0), flat(1)]
    for k, image in enumerate(images):
        np.save(tmp_path / f"m{k}.npy", (image == 0).any(axis=0))
    manifest = manifest_of(tmp_path, images, mask_path=["m0.npy", "m1.npy"])
    made = pack(manifest)
    assert made.is_finished, made.rejected
    assert made.flat_bands == {}


@pytest.mark.parametrize("side", [1, 9])
def test_cutouts_too_small_for_an_annulus_have_no_answer(tmp_path: Path, side: int) -> None:
    made = pack(manifest_of(tmp_path, [sky(k)[:, :side, :side] for k in range(3)]))
    assert "flat_bands" not in open_pack(made.out).table
    assert open_pack(made.out).metadata["flat_annulus"] is None


def test_the_commands_name_and_count_flat_bands(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, [sky(0), flat(1), flat(2, (0, 2))])
    given = (manifest, "--out", tmp_path / "pack", "--data-origin", "made-up", "--workers", 1)
    refused = run(*given)
    assert refused.exit_code == 1
    assert "c2.npy" in message(refused)
    allowed = run(*given, "--allow-flat", "--json")
    assert allowed.exit_code == 0, allowed.output
    assert json.loads(allowed.stdout)["flat_bands"] == {"c1": 1, "c2": 2}
    verified = run("verify", tmp_path / "pack", "--workers", 1)
    assert verified.exit_code == 0
    for said in (allowed.stderr, verified.stderr):
        assert "flat bands (MAD 0): 3, of 2 cutouts: c1 (1), c2 (2)" in " ".join(said.split())


TWICE = [sky(0), sky(1), sky(0)]


def test_the_same_pixels_in_two_splits_are_refused(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, TWICE, split=["train", "val", "val"])
    with pytest.raises(ValueError, match=r"several splits: c0 \(train, .* = c2 \(val, label 0\)"):
        pack(manifest)


@pytest.mark.parametrize("splits", [["train", "val", "train"], ["train", "val", "val"]])
def test_the_same_pixels_with_opposite_labels_are_refused(
    tmp_path: Path, splits: list[str]
) -> None:
    manifest = manifest_of(tmp_path, TWICE, split=splits, label=[1, 0, 0])
    with pytest.raises(ValueError, match=r"c0 \(train, label 1\) = c2 \((train|val), label 0\)"):
        pack(manifest)


def test_the_same_pixels_in_one_split_are_named(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, TWICE, split=["train", "val", "train"])
    said: list[str] = []
    assert pack(manifest, warn=said.append).is_finished
    (only,) = said
    assert "1 cutouts are under several ids in one split" in only
    assert "c0 (train, label 0) = c2 (train, label 0)" in only
    report = verify_pack(tmp_path / "pack")
    assert report.faults == []
    assert "c0 (train, label 0) = c2" in report.remarks[0]


def test_splits_drawn_by_position_can_separate_them_and_are_refused(tmp_path: Path) -> None:
    images = [sky(0) if k % 2 else sky(k) for k in range(40)]
    manifest = manifest_of(tmp_path, images, ra=[10.0 * k % 360 for k in range(40)], dec=[0] * 40)
    with pytest.raises(ValueError, match="under several ids in several splits"):
        pack(manifest)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"split": "val"}, "in several splits"), ({"label": 1}, "with opposite labels")],
)
def test_verify_finds_them_in_packs_of_others(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    manifest = manifest_of(tmp_path, TWICE, split=["train", "val", "train"])
    made = pack(manifest, warn=lambda text: None)
    path = made.out / MANIFEST
    table, metadata = pd.read_parquet(path), parquet.read_schema(path).metadata
    for name, value in change.items():
        table.loc[2, name] = value
    parquet.write_table(
        pyarrow.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(
            {METADATA_KEY: metadata[METADATA_KEY]}
        ),
        path,
    )
    found = run("verify", made.out, "--workers", 1, "--json")
    assert found.exit_code == 1
    (fault,) = json.loads(found.stdout)["faults"]
    assert words in fault["reason"]
    assert "c0 (train, label 0) = c2" in fault["reason"]
