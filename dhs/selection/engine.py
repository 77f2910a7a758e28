"""A grid that is ready to run: checkpoint, hosts, fingerprints, and the work in shards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numba
import numpy as np
import pyarrow
import torch
from numpy.typing import NDArray
from pyarrow import parquet
from torch import Tensor

import fastnorm
from dhs import checkpoint
from dhs.config.file import located
from dhs.device.copies import stage
from dhs.injection.priors import injection_priors
from dhs.manifest.format import METADATA_KEY
from dhs.manifest.table import content_sha256
from dhs.model.batch_size import choose_device
from dhs.model.engines import Job, set_up
from dhs.model.inference import logits_of
from dhs.model.threads import threads_of
from dhs.model.transfer import Gathered
from dhs.score.input import require_same_mask_bits
from dhs.selection import draws
from dhs.selection.config import GridConfig
from dhs.selection.flat_hosts import flat_hosts
from dhs.selection.hosts import Hosts
from dhs.selection.injector import SCHEMA, Injector
from dhs.statistics.thresholds import sigmoid
from fastnorm.atomic import atomic_path

Kind = Literal["negatives", "injections"]
NEGATIVES_SCHEMA = pyarrow.schema(
    {"galaxy_id": pyarrow.string(), "host_row": pyarrow.int64(), "logit": pyarrow.float32()}
)
"""Columns of ``negatives.parquet``; ``host_row`` is that of ``injections.parquet``."""
HASH_LENGTH = 16
RENDERING = 2
"""Version of the arithmetic of injected images; increase it where the last bits of one change."""


class Shard(NamedTuple):
    """A part of the work: rows ``start`` to ``stop`` of the negatives or of the injections."""

    kind: Kind
    number: int
    start: int
    stop: int

    @property
    def rows(self) -> int:
        return self.stop - self.start


class Engine:
    """A grid that is ready to run.

    Parameters
    ----------
    config : GridConfig

    Attributes
    ----------
    config : GridConfig
    device : torch.device
    checkpoint : Checkpoint
    hosts : Hosts
    inference : Inference
        How the network is computed.
    determining : dict
        Everything that the injections and their scores depend on, for JSON.
    draws_fingerprint, injections_fingerprint : str
        SHA-256 of everything that determines the injections, without and with their scores.

    Raises
    ------
    ValueError, OSError
        The checkpoint or the hosts cannot be used; see `dhs.checkpoint.load` and `Hosts`.
    """

    def __init__(self, config: GridConfig) -> None:
        self.config = config
        self.device = choose_device(config.device)
        path = located(config.checkpoint)
        self.finder, self.checkpoint = checkpoint.load(
            path, allow_deprecated=config.allow_deprecated
        )
        self.finder.to(self.device).eval()
        self.hosts = Hosts(config, self.checkpoint.data)
        size, wanted = self.hosts.data.size, self.checkpoint.size
        if size != wanted:
            raise ValueError(
                f"{self.hosts.data.name} has cutouts of {size} x {size} pixels; the checkpoint "
                f"expects {wanted} x {wanted}."
            )
        require_same_mask_bits(
            self.checkpoint.mask_bits, str(self.hosts.data.mask_bits), self.hosts.data.name
        )
        self.injector = Injector(config, self.hosts, self.device)
        job = Job(self.injections + self.negatives, config.batch_size, size)
        # A compiled network depends on the number of threads.
        with threads_of(config.threads):
            self.inference = set_up([self.finder], config.engine, job, self.device)
        drawn = {
            "version": draws.VERSION,
            "draws": config.determining(),
            "priors": injection_priors().model_dump(mode="json", exclude={"preprocessing"}),
            "hosts": self.hosts.fingerprint,
            "fewest_per_cell": config.hosts.fewest_per_cell,
        }
        self.draws_fingerprint = _sha256(drawn)
        scored = {
            "checkpoint": self.checkpoint.fingerprint,
            "spec": self.checkpoint.spec.to_dict(),
            "batch_size": config.batch_size,
            "inference": self.inference.to_dict(),
            "rendering": RENDERING,
            "shard_size": config.shard_size,
            "threads": config.threads,
            "device": self.device.type,
            "backend": self.injector.backend,
            "versions": versions(),
        }
        self.determining: dict[str, Any] = drawn | scored
        self.injections_fingerprint = _sha256(self.determining)

    @cached_property
    def cells(self) -> list[int]:
        """Sorted indices of the cells that have hosts."""
        return sorted(self.hosts.pools)

    @cached_property
    def flat_hosts(self) -> dict[str, int]:
        """Number of flat bands of the hosts that have any, by id; reads all hosts."""
        return flat_hosts(self.hosts, self.checkpoint.spec)

    @property
    def injections(self) -> int:
        return len(self.cells) * self.config.injections_per_cell

    @property
    def negatives(self) -> int:
        """Number of non-lenses that are scored for the thresholds."""
        return len(self.hosts) if self.config.fpr_targets else 0

    def shards(self) -> list[Shard]:
        """Return all shards of the grid, negatives first."""
        size = self.config.shard_size
        kinds: list[tuple[Kind, int]] = [
            ("negatives", self.negatives),
            ("injections", self.injections),
        ]
        return [
            Shard(kind, number, start, min(start + size, total))
            for kind, total in kinds
            for number, start in enumerate(range(0, total, size))
        ]

    def path(self, folder: Path, shard: Shard) -> Path:
        """Return the path of a shard; the file name has a hash of everything that determines it."""
        piece = [self.injections_fingerprint, *shard]
        return folder / f"{shard.kind}-{shard.number:06d}-{_sha256(piece)[:HASH_LENGTH]}.parquet"

    def metadata(self, shard: Shard) -> dict[str, Any]:
        """Return the metadata of a shard's file, without its checksum, for JSON."""
        return {"injections_fingerprint": self.injections_fingerprint, "shard": list(shard)}

    def make(self, shard: Shard, path: Path, advance: Callable[[int], None]) -> None:
        """Compute a shard and write it; an interrupted call leaves no partial file.

        Parameters
        ----------
        shard : Shard
        path : Path
            File to write.
        advance : function
            Called with the number of rows done since the last call.

        Raises
        ------
        ValueError
            A logit is NaN or infinite.
        OSError
            The file cannot be written.
        """
        table = (
            self._score(shard, advance)
            if shard.kind == "negatives"
            else self._inject(shard, advance)
        )
        metadata = self.metadata(shard) | {"sha256": content_sha256(table)}
        table = table.replace_schema_metadata({METADATA_KEY: json.dumps(metadata)})
        with atomic_path(path) as temporary:
            parquet.write_table(table, temporary)

    def ids(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return injection ids by position among the injections of all cells with hosts."""
        places = np.arange(start, stop)
        per_cell = self.config.injections_per_cell
        return draws.injection_ids(np.asarray(self.cells)[places // per_cell], places % per_cell)

    def _inject(self, shard: Shard, advance: Callable[[int], None]) -> pyarrow.Table:
        size = self.config.batch_size
        ids = (
            self.ids(start, min(start + size, shard.stop))
            for start in range(shard.start, shard.stop, size)
        )
        logits = np.empty(shard.rows, np.float32)
        gathered, done = Gathered(logits, self.device), 0
        made: list[tuple[dict[str, Any], NDArray[np.bool_]]] = []
        for batch in self.injector.batches(ids):
            gathered.add(done, self._logits(batch.images, batch.mask))
            made.append((batch.columns, batch.is_good))
            done += len(batch.is_good)
            advance(len(batch.is_good))
        gathered.read()
        parts = [
            self._table(columns, is_good, logits[start : start + size])
            for start, (columns, is_good) in zip(range(0, done, size), made, strict=True)
        ]
        return pyarrow.concat_tables(parts).combine_chunks()

    def _logits(self, images: Tensor, mask: Tensor | None) -> Tensor:
        """Compute logits of at most one batch, which is padded with copies of its last image."""
        count = len(images)
        full = torch.arange(self.config.batch_size, device=images.device).clamp(max=count - 1)
        with torch.inference_mode():
            bad = None if mask is None else mask[full]
            logits = self.finder(images[full] if len(full) > count else images, mask=bad)
            return cast(Tensor, logits[:count])

    def _table(
        self, columns: dict[str, Any], is_good: NDArray[np.bool_], logits: NDArray[np.float32]
    ) -> pyarrow.Table:
        """Return the rows of one batch, after a check of its logits."""
        logits[~is_good] = np.nan
        wrong = is_good & ~np.isfinite(logits)
        if wrong.any():
            raise ValueError(
                f"{self.checkpoint.path} gives {int(wrong.sum())} NaN or infinite of "
                f"{len(logits)} logits, the first for injection "
                f"{columns['injection_id'][wrong][0]}; its weights cannot be used."
            )
        return pyarrow.table(columns | {"logit": logits, "score": sigmoid(logits)}, schema=SCHEMA)

    def _score(self, shard: Shard, advance: Callable[[int], None]) -> pyarrow.Table:
        rows = _Subset(self.hosts, np.arange(shard.start, shard.stop), self.device)
        done = 0

        def show(count: int, _: int) -> None:
            nonlocal done
            advance(count - done)
            done = count

        logits = logits_of(self.finder, rows, self.config.batch_size, self.device, progress=show)
        host_rows = self.hosts.rows[shard.start : shard.stop]
        ids = self.hosts.data.ids[host_rows]
        wrong = ~np.isfinite(logits)
        if wrong.any():
            raise ValueError(
                f"{self.checkpoint.path} gives {int(wrong.sum())} NaN or infinite of {len(rows)} "
                f"logits of non-lenses, the first for {ids[wrong][0]}; fix the cutout or the "
                "checkpoint."
            )
        columns = {"galaxy_id": ids.tolist(), "host_row": host_rows, "logit": logits}
        return pyarrow.table(columns, schema=NEGATIVES_SCHEMA)


class _Subset:
    """A subset of the hosts, for `dhs.model.inference.logits_of` on a device."""

    def __init__(self, hosts: Hosts, chosen: NDArray[np.int64], device: torch.device) -> None:
        self._data, self._rows, self._device = hosts.data, hosts.rows[chosen], device

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor | None]:
        memory = stage((len(rows), *self._data.shape), torch.float32, self._device)
        return self._data.read(self._rows[rows], out=memory)


def versions() -> dict[str, str]:
    """Return the versions of the packages that the last bits of a score depend on."""
    packages = {"torch": torch, "numpy": np, "numba": numba, "dhs": fastnorm}
    return {name: str(package.__version__) for name, package in packages.items()}


def _sha256(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
