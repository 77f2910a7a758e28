"""Time reading normalised batches from a pack, against one file per cutout.

Run as ``python -m benchmarks.loader``. All contenders return the same cutouts in the same shuffled
batches, interleaved in one run: the existing way (a compressed .npz per cutout, normalised one by
one, PyTorch's ``DataLoader`` with 2 workers), ours, and the copy, which is the limit. Files and
shards are in the page cache.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, NamedTuple

import numpy as np
import pyarrow
import torch
import typer
from pyarrow import parquet
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader, Dataset

import fastnorm
from benchmarks.cases import ANNULUS, CLIP, Stack, make_stack, pipeline_loop
from benchmarks.timing import Case, time_interleaved
from dhs.data import DatasetConfig, LensDataset
from dhs.model import LensFinder
from dhs.preprocess import preprocess_stack
from dhs.preprocess.layer import Preprocess
from dhs.train.batches import Batches
from dhs.train.sampler import BatchSampler
from dhs.transforms import AugmentConfig

BATCH = 64
WORKERS = 2
FEW_BATCHES = 8  # batches per round for a slow contender
CPU = torch.device("cpu")
EXISTING, OURS = "npz per cutout, preprocess_stack", "pack to normalised batches"
RAW, COPY = "pack to raw batches", "memory-mapped copy of the same rows"
NORMALISER, TURNED, STEP = "normaliser", "normaliser, flips and turns", "training step"


class Contender(NamedTuple):
    """A loader: ``run`` reads ``cutouts`` cutouts."""

    name: str
    cutouts: int
    run: Callable[[], object]


def write_pack(folder: Path, stack: Stack) -> None:
    """Write cutouts as a pack of one shard, with every fourth labelled as a lens."""
    folder.mkdir()
    np.save(folder / "shard-00000.npy", stack)
    count = len(stack)
    table = pyarrow.table(
        {
            "shard": ["shard-00000.npy"] * count,
            "row": np.arange(count, dtype=np.int32),
            "sha256": [hashlib.sha256(image.data).hexdigest() for image in stack],
            "galaxy_id": [f"galaxy-{k:06d}" for k in range(count)],
            "label": (np.arange(count) % 4 == 0).astype(np.int8),
        },
        metadata={"dhs": json.dumps({"data_origin": "simulated"})},
    )
    parquet.write_table(table, folder / "manifest.parquet")


class NpzCutouts(Dataset[Tensor]):
    """The existing way: one file per cutout, read and normalised by a worker on request."""

    def __init__(self, folder: Path, normalize: Callable[[Stack], Stack]) -> None:
        self.folder, self.normalize = folder, normalize

    @staticmethod
    def write(folder: Path, stack: Stack) -> None:
        folder.mkdir()
        for k, image in enumerate(stack):
            np.savez_compressed(
                folder / f"{k:06d}.npz",
                cutout=image.transpose(1, 2, 0),
                meta_galaxy_id=f"galaxy-{k:06d}",
                meta_ra=0.0,
                meta_dec=0.0,
            )

    def __getitem__(self, position: int) -> Tensor:
        with np.load(self.folder / f"{position:06d}.npz", allow_pickle=False) as file:
            image = file["cutout"].transpose(2, 0, 1)
        return torch.from_numpy(self.normalize(image))


def _by_numpy(image: Stack) -> Stack:
    out = np.empty(image.shape, np.float32)
    pipeline_loop(image[None], out[None])
    return out


def _by_preprocess_stack(image: Stack) -> Stack:
    radii = (ANNULUS.r_in, ANNULUS.r_out)
    return preprocess_stack(image, "raw_robust", False, None, CLIP, *radii)


def contenders(data: LensDataset, npz: Path, mapped: Stack) -> Iterator[Contender]:
    """Yield the copy, ours without and with the normalisation, and the existing way."""
    sampler = BatchSampler(len(data), BATCH, seed=0)
    batches = list(sampler.batches())
    layer = Preprocess(data.config.spec(), data.size)
    buffer = np.zeros((BATCH, *mapped.shape[1:]), np.float32)

    def copy() -> None:
        for positions in batches:
            np.take(mapped, positions, axis=0, out=buffer, mode="clip")

    def read(normalize: bool, augment: AugmentConfig | None = None) -> None:
        sampler.set_epoch(0)
        for batch in Batches(data, sampler, device=CPU, augment=augment):
            if normalize:
                layer(batch.images, dihedral=batch.dihedral)

    cutouts = len(batches) * BATCH
    yield Contender(COPY, cutouts, copy)
    yield Contender(RAW, cutouts, lambda: read(normalize=False))
    yield Contender(OURS, cutouts, lambda: read(normalize=True))
    augmented = f"{OURS}, flipped and turned"
    yield Contender(augmented, cutouts, lambda: read(normalize=True, augment=AugmentConfig()))
    for name, normalize in (
        (EXISTING, _by_preprocess_stack),
        ("npz per cutout, normalised by NumPy", _by_numpy),
    ):
        few = [positions.tolist() for positions in batches[:FEW_BATCHES]]
        loader = DataLoader(
            NpzCutouts(npz, normalize),
            batch_sampler=few,
            num_workers=WORKERS,
            persistent_workers=True,
            worker_init_fn=lambda _: fastnorm.set_num_threads(1),
        )
        _require_same(loader, layer, mapped[batches[0]])
        yield Contender(name, len(few) * BATCH, partial(_exhaust, loader))


def _exhaust(loader: Iterable[object]) -> None:
    for _ in loader:
        pass


def _require_same(loader: DataLoader[Tensor], layer: Preprocess, images: Stack) -> None:
    first = next(iter(loader))
    if not torch.equal(first, layer(torch.from_numpy(images))):
        raise RuntimeError("the contenders return different batches.")


def report(found: list[Contender], seconds: dict[str, list[float]]) -> Table:
    """Return a table with one line per contender: time per cutout, spread, cutouts per second."""
    rounds = len(seconds[found[0].name])
    table = Table(title=f"batches of {BATCH} cutouts, float32; median of {rounds} rounds")
    for heading in ("", "us / cutout", "25-75 %", "cutouts / s"):
        table.add_column(heading, justify="left" if not heading else "right")
    for c in found:
        low, middle, high = np.percentile(seconds[c.name], [25, 50, 75]) / c.cutouts * 1e6
        table.add_row(c.name, f"{middle:.2f}", f"{low:.2f}-{high:.2f}", f"{1e6 / middle:,.0f}")
    return table


def goals(
    found: list[Contender],
    seconds: dict[str, list[float]],
    steps: dict[str, list[float]],
    growth: list[float],
    pack_mib: float,
) -> Table:
    """Return a table of targets and results."""
    each = {c.name: float(np.median(seconds[c.name])) / c.cutouts for c in found}
    middle = {name: float(np.median(times)) for name, times in steps.items()}
    share = {name: f"{100 * value / middle[STEP]:.2f} %" for name, value in middle.items()}
    step = f"fraction of a {STEP} of {1e3 * middle[STEP]:.0f} ms"
    table = Table("", "target", "reached")
    memory = f"memory to read a tenth of {pack_mib:.0f} MiB, and all of it"
    for row in (
        (f"{OURS}, speed relative to {EXISTING}", "20", f"{each[EXISTING] / each[OURS]:.1f}"),
        (f"{RAW}, fraction of the speed of a {COPY}", "0.5", f"{each[COPY] / each[RAW]:.2f}"),
        (f"{NORMALISER}, {step}", "1 %", share[NORMALISER]),
        (f"{TURNED}, {step}", "", share[TURNED]),
        (memory, "the same", f"{growth[0]:.0f} and {growth[1]:.0f} MiB"),
    ):
        table.add_row(*row)
    return table


def training_cases(data: LensDataset) -> list[Case]:
    """Return the normaliser alone, and a training step of the bottlenecked ResNet, on one batch."""
    images, _ = data.read(np.arange(BATCH))
    labels = torch.from_numpy(data.labels[:BATCH])
    dihedral = torch.arange(BATCH) % 8
    model = LensFinder(data.config.spec(), "bottlenecked_resnet", size=data.size, base_ch=27)
    model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters())

    def step() -> None:
        optimizer.zero_grad()
        logits = model(images, dihedral=dihedral)
        torch.autograd.backward(binary_cross_entropy_with_logits(logits, labels))
        optimizer.step()

    return [
        Case(NORMALISER, "", lambda: model.preprocess(images)),
        Case(TURNED, "", lambda: model.preprocess(images, dihedral=dihedral)),
        Case(STEP, "", step),
    ]


def anonymous_mib() -> float:
    """Return the anonymous memory of this process, MiB (Linux)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1024


def memory_growth(data: LensDataset, share: float) -> float:
    """Return by how many MiB the process grows while it reads a fraction of a pack."""
    sampler = BatchSampler(len(data), BATCH, seed=1)
    before = most = anonymous_mib()
    for k, _ in enumerate(Batches(data, sampler, device=CPU)):
        most = max(most, anonymous_mib())
        if k >= share * len(sampler):
            break
    return most - before


def _take(pack: Path, count: int) -> Stack:
    data = LensDataset(DatasetConfig(parquet_path=str(pack)), None)
    images, _ = data.read(np.arange(min(count, len(data))))
    return np.asarray(images)


def main(
    pack: Annotated[Path | None, typer.Option(help="Take the cutouts from this pack.")] = None,
    cutouts: Annotated[int, typer.Option(min=FEW_BATCHES * BATCH)] = 4096,
    rounds: Annotated[int, typer.Option(min=3)] = 9,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all numbers.")] = None,
) -> None:
    """Time reading and normalising, against the existing way and against a training step."""
    console = Console(width=100)
    torch.set_num_threads(threads)
    fastnorm.set_num_threads(threads)
    stack = make_stack(cutouts) if pack is None else _take(pack, cutouts)
    with TemporaryDirectory() as name:
        folder, npz = Path(name) / "pack", Path(name) / "npz"
        with console.status("writing both"):
            write_pack(folder, stack)
            NpzCutouts.write(npz, stack)
        pack_mib = stack.nbytes / 2**20
        del stack
        config = DatasetConfig(
            parquet_path=str(folder),
            crop=False,
            annulus_r_in=ANNULUS.r_in,
            annulus_r_out=ANNULUS.r_out,
        )
        data = LensDataset(config, None)
        mapped = np.load(folder / "shard-00000.npy", mmap_mode="r", allow_pickle=False)
        found = list(contenders(data, npz, np.asarray(mapped)))
        growth = [memory_growth(data, share) for share in (0.1, 0.1, 1.0)][1:]
        cases = [Case(c.name, "", c.run) for c in found]
        seconds = time_interleaved(cases, rounds, console)
        steps = time_interleaved(training_cases(data), rounds, console)
    console.print(report(found, seconds))
    console.print(goals(found, seconds, steps, growth, pack_mib))
    console.print(f"{threads} threads for torch and fastnorm; {WORKERS} workers of one thread.")
    if json_file is not None:
        results: dict[str, Any] = {
            "threads": threads,
            "cutouts": {c.name: c.cutouts for c in found},
            "seconds": seconds,
            "training_step_seconds": steps,
            "pack_mib": pack_mib,
            "memory_growth_mib": {"a tenth": growth[0], "all": growth[1]},
        }
        json_file.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    typer.run(main)
