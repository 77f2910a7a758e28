"""Batches: their contents and order, and the threads and memory that they use."""

from __future__ import annotations

import threading
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
import torch
from pyarrow import parquet

from dhs.preprocess import preprocess_stack
from dhs.preprocess.layer import Preprocess
from dhs.train.batches import Batch, Batches
from dhs.train.sampler import BatchSampler
from dhs.transforms import AugmentConfig, random_augment
from fastnorm.io import CutoutError
from tests.dhs.data.data_cases import CPU, add_masks, batches_of, of_files, opened
from tests.dhs.data.data_cases import files as files
from tests.dhs.data.data_cases import pack as pack
from tests.dhs.data.data_cases import pixels as pixels
from tests.dhs.data.data_cases import whole as whole
from tests.dhs.train.training_runs import SIDE


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
    # A view also keeps the memory of its batch.
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
