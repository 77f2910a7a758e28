"""Datasets: contents, order, and refused manifests and configurations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import BaseModel, ValidationError

from dhs.config.errors import describe
from dhs.data import DatasetConfig, LensDataset, SplitConfig
from dhs.preprocess.spec import PreprocessSpec
from fastnorm.io import CutoutError
from tests.dhs.data.data_cases import CPU, LABELS, add_masks, batches_of, change, of_files, opened
from tests.dhs.data.data_cases import files as files
from tests.dhs.data.data_cases import pack as pack
from tests.dhs.data.data_cases import pixels as pixels
from tests.dhs.data.data_cases import whole as whole
from tests.dhs.train.training_runs import CUTOUTS, SIDE


def test_rows_come_in_the_order_asked_for(whole: Path, pixels: np.ndarray[Any, Any]) -> None:
    data = opened(whole)
    assert (len(data), data.size, data.data_origin) == (CUTOUTS, SIDE, "simulated")
    rows = np.array([95, 3, 60, 3, 0, 47, 48])
    images, mask = data.read(rows)
    assert images.dtype == torch.float32
    assert mask is None
    assert np.array_equal(images.numpy(), pixels[rows])
    assert data.labels.dtype == np.float32
    assert np.array_equal(data.labels, np.arange(CUTOUTS) % 2)
    assert data.ids[60] == "galaxy-060"
    assert data.read([])[0].shape == (0, 3, SIDE, SIDE)


def test_the_section_split_is_not_the_split(whole: Path) -> None:
    section: Any = SplitConfig(split_value="val")
    with pytest.raises(TypeError, match=r"split is a SplitConfig.*split_config="):
        LensDataset(DatasetConfig(parquet_path=str(whole)), section)


def test_memory_may_be_given(whole: Path, pixels: np.ndarray[Any, Any]) -> None:
    out = torch.full((4, 3, SIDE, SIDE), torch.nan)
    for rows in ([0, 1, 2, 3], [90, 1, 50, 50]):
        images, _ = opened(whole).read(rows, out=out)
        assert images is out
        assert np.array_equal(out.numpy(), pixels[rows])


def test_masks_go_with_their_cutouts(pack: Path) -> None:
    masks = np.concatenate(add_masks(pack))
    data = opened(pack, "val")
    positions = [5, 40, 0]
    _, mask = data.read(positions)
    assert mask is not None
    assert mask.dtype == torch.bool
    places = np.flatnonzero(np.arange(CUTOUTS) % 4 >= 2)[positions]
    assert np.array_equal(mask.numpy(), masks[places])


@pytest.mark.parametrize(
    ("rows", "out", "error", "named"),
    [
        ([0.0], None, TypeError, r"float64 and shape \(1,\)"),
        ([[0]], None, TypeError, r"shape \(1, 1\)"),
        ([3, -1], None, ValueError, "rows has -1; positions are 0 to 95"),
        ([96], None, ValueError, "rows has 96"),
        ([0], torch.empty(2, 3, SIDE, SIDE), ValueError, r"out is .*\(2, 3, 33, 33\)"),
        ([0], torch.empty(1, 3, SIDE, SIDE).double(), ValueError, "out is torch.float64"),
        ([0], torch.empty(1, 3, SIDE, 2 * SIDE)[..., ::2], ValueError, "need contiguous float32"),
    ],
)
def test_rows_that_are_none(
    whole: Path, rows: Any, out: torch.Tensor | None, error: type[Exception], named: str
) -> None:
    with pytest.raises(error, match=named):
        opened(whole).read(rows, out=out)


def test_a_pack_is_named_by_its_folder_or_its_manifest(whole: Path) -> None:
    assert opened(whole).fingerprint == opened(whole / "manifest.parquet").fingerprint


def test_the_column_decides_the_split(
    whole: Path, pack: Path, pixels: np.ndarray[Any, Any]
) -> None:
    train, val = opened(whole, "train"), opened(whole, "val")
    assert np.array_equal(train.table["row"], [k for k in range(48) if k % 4 < 2] * 2)
    assert sorted([*train.ids, *val.ids]) == sorted(opened(whole).ids)
    assert np.array_equal(val.read([0])[0][0].numpy(), pixels[2])
    labels = np.random.default_rng(0).integers(0, 2, CUTOUTS)
    other = opened(change(pack, other=labels), "val", label_col="other")
    assert np.array_equal(other.labels, labels[np.arange(CUTOUTS) % 4 >= 2])
    with pytest.raises(ValueError, match="has no cutouts in 'test'"):
        opened(whole, "test")
    with pytest.raises(ValueError, match="split='validation' is not known"):
        opened(whole, "validation")


def test_without_a_column_the_seed_decides(pack: Path) -> None:
    change(pack, drop=("split",))
    shares = []
    for seed in (42, 42, 43):
        config = SplitConfig(train_fraction=0.6, seed=seed)
        dataset = DatasetConfig(parquet_path=str(pack))
        train, val = (LensDataset(dataset, split, config) for split in ("train", "val"))
        assert sorted([*train.ids, *val.ids]) == sorted(opened(pack).ids)
        assert 40 < len(train) < 75
        shares.append(set(train.ids))
    assert shares[0] == shares[1] != shares[2]


IDS = np.array([f"galaxy-{k:03d}" for k in range(CUTOUTS)])


@pytest.mark.parametrize(
    ("columns", "settings", "named"),
    [
        ({"label": LABELS * 2}, {}, "48 values of label are neither 0 nor 1, the first 2 in row 1"),
        ({"label": np.where(LABELS, "lens", "0")}, {}, "neither 0 nor 1, the first lens in row 1"),
        ({"other": np.where(LABELS, np.nan, 1)}, {"label_col": "other"}, "other is missing in 48"),
        ({}, {"label_col": "labels"}, r"no column 'labels' \(label_col\); did you mean label\?"),
        ({}, {"label_col": "zzz"}, "it has shard, row, sha256, galaxy_id"),
        ({}, {"sample_weight_col": "weight"}, "did you mean sample_weight"),
        ({"w": LABELS - 0.5}, {"sample_weight_col": "w"}, "w are not .* first -0.5 in row 0"),
        (
            {"w": np.where(LABELS, np.inf, 1)},
            {"sample_weight_col": "w"},
            "w are not finite",
        ),
        ({"galaxy_id": [*IDS[:-1], IDS[7]]}, {}, "1 rows have the id of another.*galaxy-007"),
        (
            {"split": ["train"] * 95 + ["training"]},
            {},
            "not one of train, val, test, the first training in row 95",
        ),
        (
            {"ra": np.full(CUTOUTS, 150.0), "dec": np.full(CUTOUTS, 2.0)},
            {},
            "1 leaks between splits, the first: HEALPix [0-9]+ is in train and val",
        ),
        ({}, {"data_origin": "DR10"}, "data_origin='DR10' contradicts .* has 'simulated'"),
    ],
)
def test_a_manifest_that_cannot_be_trained_on(
    pack: Path, columns: dict[str, Any], settings: dict[str, Any], named: str
) -> None:
    change(pack, **columns)
    with pytest.raises(ValueError, match=named) as error:
        opened(pack, "train", **settings)
    assert str(pack) in str(error.value)


def test_weights_are_read_where_they_are_asked_for(whole: Path) -> None:
    assert opened(whole, "val").weights is None
    assert next(iter(batches_of(opened(whole))[0])).weights is None
    data = opened(whole, "val", sample_weight_col="sample_weight")
    assert data.weights is not None
    assert data.weights.dtype == np.float32
    assert data.weights == pytest.approx(np.linspace(0.5, 1.5, CUTOUTS)[np.arange(96) % 4 >= 2])
    batch = next(iter(batches_of(data)[0]))
    assert batch.weights is not None
    assert np.array_equal(batch.weights.numpy(), data.weights[batch.positions])


def test_cutouts_have_to_be_squares(pack: Path) -> None:
    for k in (0, 1):
        (pack / f"shard-0000{k}.npy").unlink()
        np.save(pack / f"shard-0000{k}.npy", np.zeros((48, 3, 9, 8), np.float32))
    with pytest.raises(ValueError, match=r"has cutouts of \(3, 9, 8\); they must be square"):
        opened(pack)


def test_the_fingerprint_is_of_what_is_trained_on(pack: Path, whole: Path) -> None:
    first = opened(whole, "train").fingerprint
    assert opened(pack, "train").fingerprint == first
    others = {opened(whole, "val").fingerprint, opened(whole).fingerprint}
    others.add(opened(whole, "train", sample_weight_col="sample_weight").fingerprint)
    others.add(opened(change(pack, label=1 - LABELS), "train").fingerprint)
    others.add(opened(change(pack, label=LABELS, sha256="0"), "train").fingerprint)
    assert len(others | {first}) == 6


def test_files_give_what_a_pack_gives(files: Path, pixels: np.ndarray[Any, Any]) -> None:
    data = of_files(files)
    assert (len(data), data.size, data.data_origin) == (8, SIDE, "simulated")
    assert data.ids[3] == "cutout-3"
    images, mask = data.read([6, 2, 2])
    assert np.array_equal(images.numpy(), pixels[[6, 2, 2]])
    assert mask is None
    with pytest.raises(ValueError, match="does not state where its cutouts come from"):
        of_files(files, data_origin="")
    with pytest.raises(ValueError, match=r"'cutout' \(cutout_path_col\); did you mean cutout_path"):
        of_files(files, cutout_path_col="cutout")


def test_masks_of_files_are_read(files: Path) -> None:
    masks = np.random.default_rng(3).random((8, SIDE, SIDE)) < 0.1
    for k, mask in enumerate(masks):
        np.save(files.parent / f"mask-{k}.npy", mask)
    table = pd.read_csv(files).assign(mask_path=[f"mask-{k}.npy" for k in range(8)])
    table.to_csv(files, index=False)
    _, mask = of_files(files).read([6, 2, 2])
    assert mask is not None
    assert np.array_equal(mask.numpy(), np.repeat(masks[[6, 2, 2], None], 3, axis=1))
    np.save(files.parent / "mask-2.npy", masks[2, 1:])
    with pytest.raises(CutoutError, match=r"cutout-2.npz: its mask mask-2.npy has shape"):
        of_files(files).read([2])


def test_a_file_that_cannot_be_read_is_named(files: Path) -> None:
    data = of_files(files)
    (files.parent / "cutout-5.npz").write_bytes(b"nothing of the kind")
    np.savez(files.parent / "cutout-6.npz", cutout=np.zeros((9, 9, 3), np.float32))
    (files.parent / "cutout-7.npz").unlink()
    data.read([4])
    for row, named in ((5, "cutout-5.npz: is damaged"), (6, "cutout-6.npz: has 9 x 9 pixels")):
        with pytest.raises(CutoutError, match=named):
            data.read([0, row])
    with pytest.raises(CutoutError, match=r"cutout-7.npz"):
        data.read([7])


class _Outer(BaseModel, extra="forbid"):
    dataset: DatasetConfig


def test_a_configuration_that_is_wrong_is_described() -> None:
    good = {"parquet_path": "a", "crop": False, "annulus_r_in": 32.5, "annulus_r_out": 45.0}
    assert DatasetConfig.model_validate(good).spec() == PreprocessSpec(
        annulus_r_in=32.5, annulus_r_out=45
    )
    legacy = PreprocessSpec(annulus_r_in=20, annulus_r_out=32)
    assert DatasetConfig(parquet_path="a", crop=False).spec() == legacy
    for bad, named in (
        (
            {"anulus_r_in": 1},
            "dataset.anulus_r_in is not a known key (nearest: dataset.",
        ),
        ({"zzzzzz": 1}, "dataset.zzzzzz is not a known key (allowed: parquet_path, mode"),
        ({"annulus_r_out": 0.0}, "annulus_r_in=32.5 and annulus_r_out=0.0: give both radii"),
        ({"parquet_path": ""}, "dataset: mode pack needs parquet_path"),
        ({"mode": "files"}, "dataset.mode: "),
        ({"clip_range": -1.0}, "clip_range=-1.0 must be above 0"),
    ):
        with pytest.raises(ValidationError) as error:
            _Outer.model_validate({"dataset": good | bad})
        said = describe(error.value, "a.yaml", _Outer)
        assert said.startswith("a.yaml is not valid: dataset")
        assert named in said
    with pytest.raises(ValidationError) as error:
        _Outer.model_validate({"datasett": good})
    said = describe(error.value, "a.yaml", _Outer)
    assert said == (
        "a.yaml is not valid: dataset is missing; datasett is not a known key (nearest: dataset)."
    )


@pytest.mark.parametrize("has_masks", [False, True])
def test_the_whole_split_on_a_device(
    pack: Path, has_masks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if has_masks:
        add_masks(pack)
    monkeypatch.setattr("dhs.data.dataset.STAGED", 7)
    data = opened(pack, "train")
    images, mask = data.resident(CPU)
    expected, bad = data.read(np.arange(len(data)))
    assert torch.equal(images, expected)
    assert (mask is None) == (bad is None) == (not has_masks)
    if mask is not None and bad is not None:
        assert torch.equal(mask, bad)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10**5, 10**6))
    with pytest.raises(ValueError, match=r"48 cutouts take 0.0 GB.* set dataset.resident=false"):
        data.resident(torch.device("cuda", 0))


def test_an_empty_mask_path_is_refused_where_masks_are_trained_with(
    files: Path, pixels: np.ndarray[Any, Any]
) -> None:
    frame = pd.read_csv(files)
    np.save(files.parent / "mask.npy", np.zeros(pixels.shape[1:], bool))
    frame["mask_path"] = ["mask.npy"] * 7 + [""]
    frame.to_csv(files, index=False)
    with pytest.raises(ValueError, match=r"mask_path is (empty|missing) in 1 rows, first in row 7"):
        of_files(files)
