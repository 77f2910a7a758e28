"""Datasets and batches: what is read, what is refused, and what a batch depends on."""

from __future__ import annotations

import threading
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pytest
import torch
from pyarrow import parquet
from pydantic import BaseModel, ValidationError

from dhs.batches import Batch, Batches
from dhs.config_errors import describe
from dhs.data import DatasetConfig, LensDataset, SplitConfig
from dhs.layer import Preprocess
from dhs.preprocess import preprocess_stack
from dhs.sampler import BatchSampler
from dhs.spec import PreprocessSpec
from dhs.transforms import AugmentConfig, random_augment
from fastnorm.io import CutoutError
from tests.training_runs import CUTOUTS, SIDE, write_pack

CPU = torch.device("cpu")
SETTINGS: dict[str, Any] = {"crop": False, "annulus_r_in": 10.4, "annulus_r_out": 14.4}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pack(tmp_path_factory.mktemp("data") / "pack")


@pytest.fixture(scope="module")
def pixels(whole: Path) -> np.ndarray[Any, Any]:
    return np.concatenate([np.load(whole / f"shard-0000{k}.npy") for k in (0, 1)])


@pytest.fixture
def pack(whole: Path, tmp_path: Path) -> Path:
    """A pack whose manifest may be changed."""
    folder = tmp_path / "pack"
    folder.mkdir()
    for path in whole.iterdir():
        (folder / path.name).symlink_to(path)
    table = parquet.read_table(whole / "manifest.parquet")
    (folder / "manifest.parquet").unlink()
    parquet.write_table(table, folder / "manifest.parquet")
    return folder


def change(pack: Path, drop: tuple[str, ...] = (), **columns: Any) -> Path:
    table = parquet.read_table(pack / "manifest.parquet")
    frame = table.to_pandas().drop(columns=list(drop)).assign(**columns)
    changed = pyarrow.Table.from_pandas(frame, preserve_index=False)
    changed = changed.replace_schema_metadata(table.schema.metadata)
    parquet.write_table(changed, pack / "manifest.parquet")
    return pack


def opened(pack: Path, split: str | None = None, **settings: Any) -> LensDataset:
    return LensDataset(DatasetConfig(parquet_path=str(pack), **SETTINGS | settings), split)


def add_masks(pack: Path) -> list[np.ndarray[Any, Any]]:
    masks = [np.random.default_rng(k).random((CUTOUTS // 2, 3, SIDE, SIDE)) < 0.1 for k in (0, 1)]
    for k, mask in enumerate(masks):
        np.save(pack / f"mask-0000{k}.npy", mask)
    change(pack, mask_sha256=["not looked at"] * CUTOUTS)
    return masks


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
        ([3, -1], None, ValueError, "rows holds -1; allowed is 0 to 95"),
        ([96], None, ValueError, "rows holds 96"),
        ([0], torch.empty(2, 3, SIDE, SIDE), ValueError, r"out is .*\(2, 3, 33, 33\)"),
        ([0], torch.empty(1, 3, SIDE, SIDE).double(), ValueError, "out is torch.float64"),
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
    with pytest.raises(ValueError, match="holds no cutouts of 'test'"):
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


LABELS = np.arange(CUTOUTS) % 2
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
            "none of train, val, test, the first training in row 95",
        ),
        (
            {"ra": np.full(CUTOUTS, 150.0), "dec": np.full(CUTOUTS, 2.0)},
            {},
            "1 leaks between splits, the first: HEALPix [0-9]+ is in train and val",
        ),
        ({}, {"data_origin": "DR10"}, "data_origin='DR10' contradicts .* says 'simulated'"),
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
    with pytest.raises(ValueError, match=r"holds cutouts of \(3, 9, 8\); allowed are squares"):
        opened(pack)


def test_the_fingerprint_is_of_what_is_trained_on(pack: Path, whole: Path) -> None:
    first = opened(whole, "train").fingerprint
    assert opened(pack, "train").fingerprint == first
    others = {opened(whole, "val").fingerprint, opened(whole).fingerprint}
    others.add(opened(whole, "train", sample_weight_col="sample_weight").fingerprint)
    others.add(opened(change(pack, label=1 - LABELS), "train").fingerprint)
    others.add(opened(change(pack, label=LABELS, sha256="0"), "train").fingerprint)
    assert len(others | {first}) == 6


@pytest.fixture
def files(pixels: np.ndarray[Any, Any], tmp_path: Path) -> Path:
    """The first cutouts of the pack as files of their own, with a manifest."""
    folder = tmp_path / "files"
    folder.mkdir()
    for k in range(8):
        np.savez(folder / f"cutout-{k}.npz", cutout=pixels[k].transpose(1, 2, 0))
    paths = [f"cutout-{k}.npz" for k in range(8)]
    frame = pd.DataFrame({"cutout_path": paths, "label": LABELS[:8], "split": ["train"] * 8})
    frame.to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


def of_files(manifest: Path, **settings: Any) -> LensDataset:
    settings = {"data_origin": "simulated"} | settings
    config = DatasetConfig(mode="file_manifest", manifest_path=str(manifest), **settings)
    return LensDataset(config, "train")


def test_files_give_what_a_pack_gives(files: Path, pixels: np.ndarray[Any, Any]) -> None:
    data = of_files(files)
    assert (len(data), data.size, data.data_origin) == (8, SIDE, "simulated")
    assert data.ids[3] == "cutout-3"
    images, mask = data.read([6, 2, 2])
    assert np.array_equal(images.numpy(), pixels[[6, 2, 2]])
    assert mask is None
    with pytest.raises(ValueError, match="does not say where its cutouts are from"):
        of_files(files, data_origin="")
    with pytest.raises(ValueError, match=r"'cutout' \(cutout_path_col\); did you mean cutout_path"):
        of_files(files, cutout_path_col="cutout")


def test_a_file_that_cannot_be_read_is_named(files: Path) -> None:
    data = of_files(files)
    (files.parent / "cutout-5.npz").write_bytes(b"nothing of the kind")
    np.savez(files.parent / "cutout-6.npz", cutout=np.zeros((9, 9, 3), np.float32))
    (files.parent / "cutout-7.npz").unlink()
    data.read([4])
    for row, named in ((5, "cutout-5.npz: damaged"), (6, r"cutout-6.npz: has shape \(3, 9, 9\)")):
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
            "dataset.anulus_r_in is not known, the nearest key is dataset.",
        ),
        ({"zzzzzz": 1}, "dataset.zzzzzz is not known, allowed are parquet_path, mode"),
        ({"annulus_r_out": 0.0}, "annulus_r_in=32.5 and annulus_r_out=0.0: give both radii"),
        ({"parquet_path": ""}, "dataset: mode pack needs parquet_path"),
        ({"mode": "files"}, "dataset.mode: "),
        ({"clip_range": -1.0}, "clip_range=-1.0 is not above 0"),
    ):
        with pytest.raises(ValidationError) as error:
            _Outer.model_validate({"dataset": good | bad})
        said = describe(error.value, "a.yaml", _Outer)
        assert said.startswith("a.yaml is not allowed: dataset")
        assert named in said
    with pytest.raises(ValidationError) as error:
        _Outer.model_validate({"datasett": good})
    said = describe(error.value, "a.yaml", _Outer)
    assert said == (
        "a.yaml is not allowed: dataset is missing; datasett is not known, the nearest key is "
        "dataset."
    )


@pytest.mark.parametrize("has_masks", [False, True])
def test_the_whole_split_on_a_device(
    pack: Path, has_masks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if has_masks:
        add_masks(pack)
    monkeypatch.setattr("dhs.data.STAGED", 7)
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


def batches_of(
    data: LensDataset, epoch: int = 0, given_out: int = 0, **options: Any
) -> tuple[Batches, BatchSampler]:
    sampler = BatchSampler(len(data), 8, seed=5)
    sampler.set_epoch(epoch)
    sampler.given_out = given_out
    return Batches(data, sampler, device=CPU, **options), sampler


def as_bytes(batches: list[Batch]) -> list[list[bytes]]:
    return [
        [np.asarray(value).tobytes() for value in vars(batch).values() if value is not None]
        for batch in batches
    ]


@pytest.mark.parametrize("is_resident", [False, True])
def test_batches_are_what_existing_datasets_give(whole: Path, is_resident: bool) -> None:
    data, augment, epoch = opened(whole, "train"), AugmentConfig(), 3
    spec, seen = data.config.spec(), []
    layer = Preprocess(spec, data.size)
    resident = data.resident(CPU) if is_resident else None
    for batch in batches_of(data, epoch, augment=augment, seed=1337, resident=resident)[0]:
        assert (batch.index is not None) == is_resident
        assert np.array_equal(batch.labels.numpy(), data.labels[batch.positions])
        images = layer(batch.images, index=batch.index, dihedral=batch.dihedral).numpy()
        for position, image in zip(batch.positions.tolist(), images, strict=True):
            raw = data.read([position])[0][0].numpy()
            normal = preprocess_stack(raw, **spec.preprocess_keywords())
            seed = (1337 * 1000003 + position + epoch * len(data)) & 0x7FFFFFFF
            assert np.array_equal(image, random_augment(normal, seed, augment))
            seen.append(position)
    assert sorted(seen) == list(range(48))


def test_masks_reach_the_statistics(pack: Path) -> None:
    add_masks(pack)
    data = opened(pack, "train")
    layer = Preprocess(data.config.spec(), data.size)
    one, many = (next(iter(batches_of(data, resident=r)[0])) for r in (None, data.resident(CPU)))
    expected = layer(one.images, mask=one.mask)
    assert torch.equal(layer(many.images, index=many.index, mask=many.mask), expected)
    assert not torch.equal(layer(one.images), expected)


def test_the_rest_of_an_epoch_is_the_rest_of_it(whole: Path) -> None:
    data = opened(whole)
    options: dict[str, Any] = {"augment": AugmentConfig(), "seed": 1}
    uninterrupted = as_bytes(list(batches_of(data, 2, **options)[0]))
    assert len(uninterrupted) == 12
    assert as_bytes(list(batches_of(data, 2, prefetch=5, **options)[0])) == uninterrupted
    batches, sampler = batches_of(data, 2, **options)
    with closing(iter(batches)) as stream:
        begun = as_bytes(list(islice(stream, 5)))
    assert sampler.given_out == 5
    assert begun + as_bytes(list(batches)) == uninterrupted
    assert as_bytes(list(batches_of(data, 3, **options)[0])) != uninterrupted


def test_flips_are_left_to_others_where_they_are_not_all(whole: Path) -> None:
    corrupting = AugmentConfig(core_dropout_prob=0.5)
    for augment in (None, corrupting):
        assert next(iter(batches_of(opened(whole), augment=augment)[0])).dihedral is None


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "batches" in thread.name]


def test_no_thread_is_left(whole: Path) -> None:
    for given_out in (0, 1, 12):
        stream = iter(batches_of(opened(whole))[0])
        for _ in islice(stream, given_out):
            assert len(_threads()) == 1
        stream.close()
        assert not _threads()
    list(batches_of(opened(whole))[0])
    assert not _threads()
    with pytest.raises(ValueError, match="prefetch=0"):
        batches_of(opened(whole), prefetch=0)


def test_an_error_of_the_thread_is_raised_where_the_batch_is_taken(files: Path) -> None:
    data = of_files(files)
    (files.parent / "cutout-2.npz").unlink()
    sampler = BatchSampler(8, 2, seed=0)
    bad = next(k for k, positions in enumerate(sampler.batches()) if 2 in positions)
    taken: list[Batch] = []
    with pytest.raises(CutoutError, match=r"cutout-2\.npz"):
        taken.extend(Batches(data, sampler, device=CPU))
    assert sampler.given_out == bad
    assert not _threads()


def test_batches_that_are_kept_stay_as_they_were(whole: Path, pixels: np.ndarray[Any, Any]) -> None:
    kept = list(batches_of(opened(whole))[0])
    for batch in kept:
        assert np.array_equal(batch.images.numpy(), pixels[batch.positions])
    # A view keeps the memory of its batch as well.
    views = [batch.images[3, 1].numpy() for batch in batches_of(opened(whole))[0]]
    for view, batch in zip(views, kept, strict=True):
        assert np.array_equal(view, pixels[batch.positions[3], 1])


def test_memory_of_batches_that_are_gone_is_used_again(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, shapes, empty = opened(whole), [], np.empty

    def counted(shape: Any, *rest: Any, **options: Any) -> np.ndarray[Any, Any]:
        shapes.append(shape)
        return empty(shape, *rest, **options)

    monkeypatch.setattr(np, "empty", counted)
    assert len([batch.labels for batch in batches_of(data)[0]]) == 12
    assert 1 <= shapes.count((8, 3, SIDE, SIDE)) <= 5


def anonymous_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("RssAnon:")[1].split()[0])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system has no /proc")
def test_memory_does_not_grow_with_the_pack(tmp_path: Path) -> None:
    side, batch, growth = 101, 16, []
    for count in (200, 2000):
        folder = tmp_path / str(count)
        folder.mkdir()
        shape = (count, 3, side, side)
        np.lib.format.open_memmap(folder / "shard-00000.npy", "w+", "<f4", shape).flush()
        columns = {
            "shard": ["shard-00000.npy"] * count,
            "row": np.arange(count),
            "sha256": [""] * count,
            "galaxy_id": [str(k) for k in range(count)],
            "label": np.zeros(count, int),
        }
        table = pyarrow.table(columns, metadata={"dhs": '{"data_origin": "simulated"}'})
        parquet.write_table(table, folder / "manifest.parquet")
        data, most = opened(folder), 0
        before = anonymous_bytes()
        for _ in Batches(data, BatchSampler(count, batch, seed=0), device=CPU):
            most = max(most, anonymous_bytes())
        growth.append(most - before)
    batch_bytes = batch * 3 * side * side * 4
    assert max(growth) < 8 * batch_bytes + 2**22
    assert 2000 * 3 * side * side * 4 > 10 * max(growth)


@pytest.mark.gpu
@pytest.mark.parametrize("is_resident", [False, True])
def test_batches_on_a_gpu(whole: Path, is_resident: bool) -> None:
    gpu, data = torch.device("cuda", 0), opened(whole)
    layer = Preprocess(data.config.spec(), data.size)
    options: dict[str, Any] = {"augment": AugmentConfig(), "seed": 2}
    resident = data.resident(gpu) if is_resident else None
    sampler = BatchSampler(len(data), 8, seed=5)
    there = Batches(data, sampler, device=gpu, resident=resident, **options)
    for ours, theirs in zip(batches_of(data, **options)[0], there, strict=True):
        assert theirs.images.device == theirs.labels.device == gpu
        on_gpu = layer.to(gpu)(theirs.images, index=theirs.index, dihedral=theirs.dihedral)
        expected = layer.to(CPU)(ours.images, dihedral=ours.dihedral)
        assert torch.equal(on_gpu.cpu(), expected)
