"""Grids on a fake GPU: what is copied to it, and how often the host reads from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyarrow import parquet
from torch import Tensor, nn

from dhs.model.transfer import BATCHES_PER_READ
from dhs.selection.engine import Engine, Kind, Shard
from dhs.selection.injector import Injector
from tests.dhs.data.data_cases import change
from tests.dhs.model.fake_gpu import GPU, FakeGPU, HostReads
from tests.dhs.model.fake_gpu import gpu as gpu
from tests.dhs.model.model_cases import one_thread as one_thread
from tests.dhs.selection.grid_runs import HOSTS, grid, write_hosts, write_model
from tests.dhs.train.training_runs import SIDE

PER_BATCH = 3
PIXELS = 3 * SIDE**2
NOISE = {"poisson": True, "gain_e_per_nmgy": 150.0, "texture": 0.3}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a model and hosts with masks, in some of which a pixel is not finite."""
    folder = tmp_path_factory.mktemp("grid")
    pack = write_hosts(folder / "pack")
    for shard in pack.glob("shard-*.npy"):
        pixels = np.load(shard)
        pixels[::5, 1, 2, 3] = np.nan
        np.save(shard, pixels)
        bad = np.random.default_rng(len(pixels)).random(pixels.shape) < 0.1
        np.save(shard.with_name(shard.name.replace("shard", "mask")), bad)
    change(pack, mask_sha256=["not looked at"] * 2 * HOSTS)
    write_model(folder / "model.safetensors")
    return folder


def engine(home: Path, device: torch.device | None = None, **changes: Any) -> Engine:
    """Open a grid, and use a device that is not there."""
    options = {"batch_size": PER_BATCH, "shard_size": 20 * PER_BATCH, "backend": "numba"}
    config = grid(home / "pack", home / "model.safetensors", home / "out", **options | changes)
    opened = Engine(config)
    if device is not None:
        opened.device, opened.injector = device, Injector(config, opened.hosts, device)
        opened.injector.make(opened.ids(0, 1))  # fills the caches of constants
    return opened


def is_of_the_host(tensor: Tensor) -> bool:
    """Return whether a tensor says which hosts are usable."""
    return tensor.dtype == torch.bool and tensor.ndim < 2


def shard_of(kind: Kind, batches: int) -> Shard:
    """Return a shard whose last batch is not full."""
    return Shard(kind, 0, 0, batches * PER_BATCH - 1)


def made_twice(usual: Engine, other: Engine, shard: Shard, folder: Path) -> list[str]:
    """Make a shard on both devices, compare the files, and return the reads of the second."""
    advanced: list[int] = []
    usual.make(shard, folder / "cpu.parquet", lambda rows: None)
    with HostReads(is_of_the_host) as reads:
        other.make(shard, folder / "gpu.parquet", advanced.append)
    assert (folder / "gpu.parquet").read_bytes() == (folder / "cpu.parquet").read_bytes()
    assert sum(advanced) == shard.rows
    names: list[str] = reads.names
    return names


@pytest.mark.parametrize(("changes", "reads_of_a_batch"), [({}, 1), ({"noise": NOISE}, 2)])
@pytest.mark.parametrize("batches", [1, 16, 17])
def test_logits_of_injections_are_read_many_batches_at_a_time(
    home: Path,
    tmp_path: Path,
    gpu: FakeGPU,
    batches: int,
    changes: dict[str, Any],
    reads_of_a_batch: int,
) -> None:
    usual, other = engine(home, **changes), engine(home, GPU, **changes)
    shard = shard_of("injections", batches)
    reads = made_twice(usual, other, shard, tmp_path)
    # An injection itself reads what it measures, and its arcs if noise is drawn for them.
    of_logits = -(-batches // BATCHES_PER_READ["cuda"])
    assert reads == ["cpu"] * (reads_of_a_batch * batches + of_logits)
    failures = parquet.read_table(tmp_path / "gpu.parquet")["failure"].to_pylist()
    assert len(set(failures)) == 2 or batches == 1


@pytest.mark.parametrize("kind", ["injections", "negatives"])
def test_hosts_are_copied_while_the_network_works(
    home: Path, tmp_path: Path, gpu: FakeGPU, kind: Kind
) -> None:
    usual, other = engine(home), engine(home, GPU)
    shard, batches = shard_of(kind, 4), 4
    gpu.copies.clear()
    gpu.log.clear()
    gpu.repinned = 0
    made_twice(usual, other, shard, tmp_path)
    assert gpu.host_never_waits
    # The last batch of injections is filled on the device, that of negatives before.
    last = PER_BATCH - 1 if kind == "injections" else PER_BATCH
    sizes = [PER_BATCH] * (batches - 1) + [last]
    sent = [one.bytes for one in gpu.copies if one.stream == "copies"]
    assert sent == [size for count in sizes for size in (4 * count * PIXELS, count * PIXELS)]
    # Only the masks: the hosts are read into pinned memory.
    assert gpu.repinned == batches
    # Two batches may be queued: before the third copy, the host waits for the first batch.
    waits = [line for line in gpu.log if line.startswith("host waits")]
    assert waits == [f"host waits for {k}" for k in range(batches - 2)]


class Later(nn.Module):
    """A model whose logits are NaN from one image on."""

    def __init__(self, first: int) -> None:
        super().__init__()
        self.first, self.seen = first, 0

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        numbers = self.seen + torch.arange(len(images))
        self.seen += len(images)
        return torch.where(numbers < self.first, 0.0, torch.nan)


@pytest.mark.parametrize("device", [None, GPU])
def test_the_first_injection_without_a_logit_is_named(
    home: Path, tmp_path: Path, gpu: FakeGPU, device: torch.device | None
) -> None:
    opened = engine(home, device)
    columns = opened.injector.make(opened.ids(0, 5 * PER_BATCH)).columns
    usable = np.flatnonzero(np.array(columns["failure"]) == "")
    first = int(usable[usable >= 2 * PER_BATCH][0])
    opened.finder = Later(first)  # type: ignore[assignment]
    end = (first // PER_BATCH + 1) * PER_BATCH
    wrong = int(((usable >= first) & (usable < end)).sum())
    message = rf"gives {wrong} NaN or infinite of {PER_BATCH} logits, .* injection {first};"
    path = tmp_path / "shard.parquet"
    with pytest.raises(ValueError, match=message):
        opened.make(shard_of("injections", 5), path, lambda rows: None)
    assert not path.exists()


@pytest.mark.gpu
def test_on_a_gpu_every_host_is_there_in_time(home: Path) -> None:
    usual, other = engine(home).injector, engine(home, GPU)
    ids = [other.ids(start, start + PER_BATCH) for start in range(0, 10 * PER_BATCH, PER_BATCH)]
    found = [batch.hosts for batch in other.injector.batches(ids)]
    for some, hosts in zip(ids, found, strict=True):
        assert torch.equal(hosts.cpu(), usual.make(some).hosts)
