"""Transfers to a GPU and back, on a fake GPU: what is copied, and where the host waits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dhs.device.copies import to_device
from dhs.model.features import features_of
from dhs.model.finder import LensFinder
from dhs.model.inference import logits_of, run_batches
from dhs.model.transfer import BATCHES_PER_READ, Gathered, sent_ahead
from tests.dhs.model.fake_gpu import GPU, FakeGPU, HostReads
from tests.dhs.model.fake_gpu import gpu as gpu
from tests.dhs.model.model_cases import small
from tests.kernels.test_gpu import no_waiting

CPU = torch.device("cpu")


class Numbers:
    """Cutouts of one pixel, each with its number, and masks."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def read(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor | None]:
        images = torch.from_numpy(rows.astype(np.float32)).reshape(-1, 1, 1, 1)
        return images, torch.zeros(images.shape, dtype=torch.bool)


class Thrice(nn.Module):
    def forward(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        return 3 * images[:, 0, 0, 0]


def test_a_copy_is_made_from_pinned_memory(gpu: FakeGPU) -> None:
    tensor = torch.arange(5)
    assert torch.equal(to_device(tensor, GPU), tensor)
    staged = torch.empty(3, pin_memory=True)
    to_device(staged, GPU)
    assert [one.bytes for one in gpu.copies] == [40, 12]
    assert gpu.host_never_waits
    assert to_device(tensor, CPU) is tensor


def test_a_stack_is_copied_while_the_model_works_on_the_one_before(gpu: FakeGPU) -> None:
    def stacks() -> Iterator[tuple[Tensor, Tensor | None]]:
        for k in range(4):
            gpu.log.append(f"read {k}")
            yield torch.full((2,), float(k)), None

    for k, (images, mask) in enumerate(sent_ahead(stacks(), GPU)):
        assert images.tolist() == [k, k]
        assert mask is None
        gpu.log.append(f"model {k}")
    sent = ["copy {}", "work after copies", "work uses 8", "model {}", "mark {}"]
    expected = []
    for k in range(4):
        # Two stacks may be queued: before the third copy, the host waits for the first model.
        waits = [f"host waits for {k - 2}"] if k >= 2 else []
        expected += [f"read {k}", *waits, *(line.format(k) for line in sent)]
    assert gpu.log == expected
    assert gpu.host_never_waits
    assert {one.stream for one in gpu.copies} == {"copies"}


def test_on_a_cpu_stacks_pass_as_they_are() -> None:
    stacks = [(torch.zeros(2), None), (torch.ones(2), torch.zeros(2, dtype=torch.bool))]
    for given, got in zip(stacks, sent_ahead(iter(stacks), CPU), strict=True):
        assert got is given


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("batches", [1, 16, 17, 40])
def test_logits_are_read_many_batches_at_a_time(gpu: FakeGPU, batches: int, world: int) -> None:
    count, per_batch = 4 * batches - 1, 4
    with HostReads() as reads:
        parts = [
            logits_of(Thrice(), Numbers(count), per_batch, GPU, rank=rank, world=world)
            for rank in range(world)
        ]
    assert np.array_equal(sum(parts), 3 * np.arange(count))
    mine = [len(range(rank, batches, world)) for rank in range(world)]
    assert reads.names == ["cpu"] * sum(-(-number // BATCHES_PER_READ["cuda"]) for number in mine)
    # One of the images and one of the mask.
    assert len(gpu.copies) == 2 * batches
    assert gpu.host_never_waits


class Cutouts:
    def __init__(self) -> None:
        self.images = torch.from_numpy(
            np.random.default_rng(5).normal(0, 1, (11, 3, 101, 101)).astype(np.float32)
        )

    def __len__(self) -> int:
        return len(self.images)

    def read(self, rows: NDArray[np.int64]) -> tuple[Tensor, None]:
        return self.images[rows], None


@pytest.fixture(scope="module")
def model() -> LensFinder:
    return small()


def test_features_are_the_same_however_many_are_read_together(
    model: LensFinder, gpu: FakeGPU
) -> None:
    expected = features_of(model, Cutouts(), 2, CPU)
    assert not gpu.copies
    with HostReads() as reads:
        found = features_of(model, Cutouts(), 2, GPU)
    assert np.array_equal(found, expected)
    assert np.array_equal(logits_of(model, Cutouts(), 2, GPU), logits_of(model, Cutouts(), 2, CPU))
    assert reads.names.count("cpu") == 1


def test_results_that_are_held_do_not_accumulate() -> None:
    out = np.full((100, 2), np.nan, np.float32)
    gathered = Gathered(out, GPU)
    for k in range(40):
        gathered.add(2 * k, torch.full((2, 2), float(k), dtype=torch.float16))
        assert np.isnan(out).all(axis=1).sum() == 100 - 2 * 16 * ((k + 1) // 16)
    gathered.read()
    gathered.read()
    assert np.array_equal(out[:80], np.repeat(np.arange(40, dtype=np.float32), 4).reshape(80, 2))
    assert np.isnan(out[80:]).all()


@pytest.mark.gpu
def test_on_a_gpu_every_batch_is_there_in_time() -> None:
    model, data = small().to(GPU), Cutouts()
    with torch.inference_mode():
        expected = [model(data.images[k : k + 2].to(GPU)) for k in range(0, 10, 2)]
    found: list[Tensor] = []
    with no_waiting():
        run_batches(model, data, 2, GPU, lambda start, logits: found.append(logits))
    assert torch.equal(torch.cat(found)[:10], torch.cat(expected))
