"""Scores on a fake GPU: what is copied to it, and how often the host reads from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dhs.score.ensemble import load_members
from dhs.score.input import open_input
from dhs.score.parts import parts_folder
from dhs.score.work import BATCHES_PER_PART, Work
from tests.dhs.data.data_cases import add_masks
from tests.dhs.model.fake_gpu import GPU, FakeGPU, HostReads
from tests.dhs.model.fake_gpu import gpu as gpu
from tests.dhs.model.model_cases import one_thread as one_thread
from tests.dhs.score.score_cases import write_model
from tests.dhs.train.training_runs import CUTOUTS, SIDE, write_pack

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_pack(tmp_path_factory.mktemp("data") / "pack")
    add_masks(folder)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    return [write_model(folder / f"{seed}.safetensors", seed) for seed in (1, 2)]


def work_of(
    models: list[Path], pack: Path, out: Path, device: torch.device, batch_size: int
) -> Work:
    members = load_members(models)
    metadata = {
        "batch_size": batch_size,
        "members": [member.describe() for member in members],
    }
    parts_folder(out).mkdir()
    return Work(members, open_input([pack], SIDE), device, out, metadata)


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_each_part_is_read_once(
    models: list[Path], pack: Path, tmp_path: Path, gpu: FakeGPU, batch_size: int
) -> None:
    usual = work_of(models, pack, tmp_path / "cpu.parquet", CPU, batch_size)
    usual.make_parts(lambda done, total: None)
    assert not gpu.copies
    work = work_of(models, pack, tmp_path / "gpu.parquet", GPU, batch_size)
    with HostReads() as reads:
        work.make_parts(lambda done, total: None)
    batches = -(-CUTOUTS // batch_size)
    assert len(work.paths) == -(-batches // BATCHES_PER_PART)
    assert reads.names == ["cpu"] * len(work.paths)
    # Of every batch the images and the mask, for both members.
    assert len(gpu.copies) == 2 * batches
    assert gpu.host_never_waits
    assert gpu.repinned == 0
    for part, wanted in zip(work.read(), usual.read(), strict=True):
        assert np.array_equal(part.logits, wanted.logits)
        assert part.ids.tolist() == wanted.ids.tolist()


class Later(nn.Module):
    """A model whose logits are NaN from one cutout on."""

    def __init__(self, first: int) -> None:
        super().__init__()
        self.first, self.seen = first, 0

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        numbers = self.seen + torch.arange(len(images))
        self.seen += len(images)
        return torch.where(numbers < self.first, 0.0, torch.nan)


def test_the_first_logit_that_is_no_number_is_named(
    models: list[Path], pack: Path, tmp_path: Path, gpu: FakeGPU
) -> None:
    work = work_of(models, pack, tmp_path / "out.parquet", GPU, 5)
    good, bad = work._members
    work._members = [good, bad._replace(finder=Later(13))]  # type: ignore[arg-type]
    message = r"2\.safetensors gives NaN or infinite logits for 2 of the 5 .* first galaxy-013:"
    with pytest.raises(ValueError, match=message):
        work.make_parts(lambda done, total: None)
    assert not any(path.exists() for path in work.paths)


def test_a_batch_that_is_too_large_names_the_model(
    models: list[Path], pack: Path, tmp_path: Path, gpu: FakeGPU
) -> None:
    class Large(nn.Module):
        def forward(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
            raise torch.OutOfMemoryError

    work = work_of(models, pack, tmp_path / "out.parquet", GPU, 5)
    good, bad = work._members
    work._members = [good, bad._replace(finder=Large())]  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"batch of 5 cutouts does not fit .*2\.safetensors;"):
        work.make_parts(lambda done, total: None)
