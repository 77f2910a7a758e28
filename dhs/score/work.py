"""The work for a table of scores, divided into parts of a fixed number of batches."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pyarrow import parquet
from torch import Tensor

from dhs.device.copies import stage
from dhs.manifest.format import METADATA_KEY
from dhs.model.transfer import Gathered, Stack, sent_ahead
from dhs.score.ensemble import Member
from dhs.score.flat import count_flat_bands
from dhs.score.input import Input, InputCutout
from dhs.score.known import KINDS, Known
from dhs.score.parts import (
    Part,
    count_rows,
    in_groups,
    part_key,
    part_path,
    parts_folder,
    read_rows,
    write_part,
)
from fastnorm.atomic import atomic_path
from fastnorm.io import Rejected
from fastnorm.json_text import parse_json
from fastnorm.paths import read_bytes, require_file

BATCHES_PER_PART = 16
PARTS_VERSION = 3
"""Version of the columns of a part, so that no run resumes from parts with other columns."""
METADATA_FILE = "about.json"
"""File in the folder of the parts, with the metadata of the table that they become."""


class Work:
    """The parts of a table of scores.

    Parameters
    ----------
    members : sequence of Member
        Lens finders; their models are on ``device``.
    cutouts : Input
    device : torch.device
    out : Path
        Path of the table.
    metadata : dict
        Metadata of the table; see `dhs.score.table.ScoreTable`.

    Attributes
    ----------
    keys : list of str
        Hash of everything that determines each part.
    paths : list of Path
        Path of each part; existing parts are complete.
    """

    def __init__(
        self,
        members: Sequence[Member],
        cutouts: Input,
        device: torch.device,
        out: Path,
        metadata: Mapping[str, Any],
    ) -> None:
        self._members, self._cutouts, self._device = members, cutouts, device
        self._out, self._batch_size = out, int(metadata["batch_size"])
        per_part, count = BATCHES_PER_PART * self._batch_size, len(cutouts)
        self._limits = [
            (start, min(start + per_part, count)) for start in range(0, count, per_part)
        ]
        self._specs = [member.checkpoint.spec for member in members]
        settings = configuration(metadata) | {
            "batch_size": self._batch_size,
            "parts": PARTS_VERSION,
        }
        self.keys = [part_key(settings, cutouts.identities(*limits)) for limits in self._limits]
        folder = parts_folder(out)
        self.paths = [part_path(folder, number, key) for number, key in enumerate(self.keys)]

    def make_parts(self, progress: Callable[[int, int], None]) -> None:
        """Score the missing parts; see `dhs.score.score` for ``progress``.

        Raises
        ------
        ValueError
            A network gives NaN or infinite logits, or a batch does not fit into memory.
        OSError
            A file cannot be read or written.
        """
        missing = [k for k, path in enumerate(self.paths) if not path.exists()]
        total = len(self._cutouts)
        done = total - sum(stop - start for start, stop in (self._limits[k] for k in missing))
        progress(done, total)
        for k in missing:
            start, stop = self._limits[k]
            part = self._score(start, stop, partial(_report, progress, done, total))
            with self.keeping_parts():
                write_part(self.paths[k], part)
            done += stop - start
            progress(done, total)

    def _score(self, start: int, stop: int, report: Callable[[int], None]) -> Part:
        rejected: list[Rejected] = []
        ids: list[str] = []
        paths: list[str] = []
        known: list[Known] = []
        flat: list[NDArray[np.int8]] = [np.empty(0, np.int8)]
        cutouts = self._accepted(start, stop, rejected)

        def stacks() -> Iterator[Stack]:
            while batch := list(islice(cutouts, self._batch_size)):
                ids.extend(seen.id for seen in batch)
                paths.extend(seen.path for seen in batch)
                known.extend(seen.known for seen in batch)
                images, mask = stack_of(batch, self._batch_size, self._device)
                seen = images.numpy()[: len(batch)]
                bad = None if mask is None else mask.numpy()[: len(batch)]
                flat.append(count_flat_bands(self._specs, seen, bad))
                yield images, mask

        logits = np.empty((stop - start, len(self._members)), np.float32)
        gathered, done = Gathered(logits, self._device), 0
        with torch.inference_mode():
            for images, mask in sent_ahead(stacks(), self._device):
                gathered.add(done, self._logits(images, mask)[: len(ids) - done])
                done = len(ids)
                report(min(done + len(rejected), stop - start))
        gathered.read()
        self._require_finite(logits[:done], ids)
        names = np.array(ids, object), np.array(paths, object)
        place = np.array(known, float).reshape(-1, len(KINDS))
        return Part(*names, logits[:done], np.concatenate(flat), place, rejected)

    def _accepted(self, start: int, stop: int, rejected: list[Rejected]) -> Iterator[InputCutout]:
        for found in self._cutouts.read(start, stop):
            if isinstance(found, Rejected):
                rejected.append(found)
            else:
                yield found

    def _logits(self, images: Tensor, mask: Tensor | None) -> Tensor:
        """Compute the logits (B, M) of all members, on the device."""
        columns = []
        for finder, loaded in self._members:
            try:
                columns.append(finder.eval()(images, mask=mask))
            except torch.OutOfMemoryError as error:
                raise ValueError(
                    f"a batch of {self._batch_size} cutouts does not fit into the memory of "
                    f"{self._device} with {loaded.path}; give a smaller batch size."
                ) from error
        return torch.stack(columns, 1)

    def _require_finite(self, logits: NDArray[np.float32], ids: Sequence[str]) -> None:
        for start in range(0, len(ids), self._batch_size):
            batch = logits[start : start + self._batch_size]
            for (_, loaded), column in zip(self._members, batch.T, strict=True):
                wrong = np.flatnonzero(~np.isfinite(column))
                if wrong.size:
                    raise ValueError(
                        f"{loaded.path} gives NaN or infinite logits for {wrong.size} of the "
                        f"{len(batch)} cutouts of a batch, the first {ids[start + wrong[0]]}: its "
                        "weights are damaged, or its training diverged. Give a different "
                        "checkpoint."
                    )

    def rows(self) -> int:
        """Count the cutouts with a score."""
        return count_rows(self.paths)

    def read(self) -> Iterator[Part]:
        """Read the parts in order; a cutout with the id of an earlier one is rejected."""
        return read_rows(self.paths, self._cutouts.has_unique_ids)

    def read_groups(self) -> Iterator[Part]:
        """Read the parts merged into groups of rows that are large enough to write."""
        return in_groups(self.read())

    def record(self, metadata: Mapping[str, Any]) -> None:
        """Record the metadata of the table, so that a later run can resume it."""
        with atomic_path(parts_folder(self._out) / METADATA_FILE) as temporary:
            temporary.write_text(json.dumps(metadata, sort_keys=True, indent=1), "utf-8")

    @contextmanager
    def keeping_parts(self) -> Iterator[None]:
        """Add the complete parts, and how to resume, to an error of writing."""
        try:
            yield
        except OSError as error:
            complete = sum(path.exists() for path in self.paths)
            raise OSError(
                f"{self._out} cannot be written: {error.strerror or error}. {complete} of its "
                f"{len(self.paths)} parts are complete and stay in {parts_folder(self._out)}. Fix "
                "the problem and run the same command again to resume."
            ) from error


def _report(progress: Callable[[int, int], None], before: int, total: int, count: int) -> None:
    progress(before + count, total)


def stack_of(batch: Sequence[InputCutout], count: int, device: torch.device) -> Stack:
    """Stack cutouts in host memory, to be copied to a device.

    The last bits of a logit depend on the batch size, so copies of the last cutout fill the stack.

    Parameters
    ----------
    batch : sequence of InputCutout
        At most ``count`` cutouts.
    count : int
        Number of images in the stack.
    device : torch.device
        Device that the stack is for.

    Returns
    -------
    images : (count, 3, H, W) float32 tensor
    mask : bool tensor like ``images``, or None
    """
    full = [*batch, *[batch[-1]] * (count - len(batch))]
    shape = (count, *batch[0].pixels.shape)
    images = stage(shape, torch.float32, device)
    np.stack([seen.pixels for seen in full], out=images.numpy())
    if all(seen.mask is None for seen in batch):
        return images, None
    mask = stage(shape, torch.bool, device)
    for row, seen in zip(mask.numpy(), full, strict=True):
        row[...] = False if seen.mask is None else seen.mask
    return images, mask


def configuration(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings, apart from the batch size, that the logits depend on."""
    members = [member["checkpoint_fingerprint"] for member in metadata["members"]]
    names = ("device", "versions", "mask_bits", "inference")
    return {"members": members} | {name: metadata.get(name) for name in names}


def recorded_run(out: Path, metadata: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the metadata of an earlier run of this configuration, with any inference, or None."""
    for there in (_read_metadata(parts_folder(out) / METADATA_FILE), read_metadata(out)):
        if there is not None and configuration(there) | {"inference": None} == configuration(
            metadata
        ):
            return there
    return None


def _read_metadata(path: Path) -> dict[str, Any] | None:
    return parse_json(read_bytes(path)) if path.exists() else None


def read_metadata(out: Path) -> dict[str, Any] | None:
    """Read the metadata of a table; None if the file is missing or not a table of scores."""
    try:
        require_file(out)
        text = (parquet.read_schema(out).metadata or {}).get(METADATA_KEY, b"{}")
        found = parse_json(text)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and "members" in found else None
