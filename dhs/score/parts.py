"""Parts of an unfinished table of scores, each written atomically and kept until all are done."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow
from numpy.typing import NDArray
from pyarrow import parquet

from dhs.manifest.format import METADATA_KEY
from dhs.manifest.table import content_sha256, made_again_if_damaged, metadata_of, read_table
from dhs.score.known import KINDS, from_arrow, to_arrow
from fastnorm.atomic import atomic_path
from fastnorm.io import Rejected
from fastnorm.text import printable

ROWS_PER_GROUP = 2**16


class Part(NamedTuple):
    """A part of the work, of N cutouts and M members.

    ``ids``, ``paths``: (N,) str. ``logits``: (N, M). ``flat_bands``: (N,), see
    `dhs.score.flat.count_flat_bands`. ``known``: (N, 4), see `dhs.score.known`. ``rejected``: the
    other cutouts.
    """

    ids: NDArray[np.object_]
    paths: NDArray[np.object_]
    logits: NDArray[np.float32]
    flat_bands: NDArray[np.int8]
    known: NDArray[np.float64]
    rejected: list[Rejected]

    def at(self, rows: NDArray[np.bool_]) -> Part:
        """Select rows of the part."""
        return Part(
            self.ids[rows],
            self.paths[rows],
            self.logits[rows],
            self.flat_bands[rows],
            self.known[rows],
            self.rejected,
        )


def parts_folder(out: Path) -> Path:
    """Return the folder for the parts of an unfinished table."""
    return out.with_name(f".{out.name}.parts")


def part_path(folder: Path, number: int, key: str) -> Path:
    """Return the path of a part.

    Parameters
    ----------
    folder : Path
        Result of `parts_folder`.
    number : int
        Position of the part.
    key : str
        Result of `part_key`.

    Returns
    -------
    Path
    """
    return folder / f"part-{number:06d}-{key[:32]}.parquet"


def part_key(configuration: Mapping[str, Any], identities: Iterable[str]) -> str:
    """Compute the SHA-256 of everything that determines a part."""
    digest = hashlib.sha256(json.dumps(configuration, sort_keys=True).encode())
    for identity in identities:
        digest.update(b"\n" + identity.encode())
    return digest.hexdigest()


def write_part(path: Path, part: Part) -> None:
    rejected = [[printable(item.path), printable(item.reason)] for item in part.rejected]
    columns = {
        "galaxy_id": pyarrow.array(part.ids, pyarrow.string()),
        "path": pyarrow.array(part.paths, pyarrow.string()),
        "flat_bands": pyarrow.array(part.flat_bands, pyarrow.int8()),
    } | to_arrow(part.known)
    columns |= {f"logit_{k}": logits for k, logits in enumerate(part.logits.T)}
    table = pyarrow.table(columns)
    metadata = {"part": path.name, "rejected": rejected, "sha256": content_sha256(table)}
    with atomic_path(path) as temporary:
        parquet.write_table(
            table.replace_schema_metadata({METADATA_KEY: json.dumps(metadata)}), temporary
        )


def read_part(path: Path) -> Part:
    """Read a part written by `write_part`.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        The file is damaged: its content does not match its name and checksum.
    """
    with made_again_if_damaged(path):
        table = read_table(path)
        metadata = metadata_of(table, path)
        if (metadata["part"], metadata["sha256"]) != (path.name, content_sha256(table)):
            raise ValueError("its content does not match its name and checksum")
        rejected = [Rejected(Path(name), why) for name, why in metadata["rejected"]]
        names = ("galaxy_id", "path", "flat_bands")
        ids, paths, flat = (table[name].to_numpy() for name in names)
        known = np.stack([from_arrow(table[name]) for name in KINDS], axis=1)
        others = table.column_names[len(names) + len(KINDS) :]
        logits = [table[name].to_numpy() for name in others]
        return Part(ids, paths, np.stack(logits, axis=1), flat, known, rejected)


def read_rows(paths: Sequence[Path], has_unique_ids: bool) -> Iterator[Part]:
    """Read parts in order; move cutouts with the id of an earlier cutout to the rejected ones."""
    known: set[str] = set()
    for path in paths:
        part = read_part(path)
        if has_unique_ids:
            yield part
            continue
        is_new = np.empty(len(part.ids), bool)
        for row, identity in enumerate(part.ids):
            is_new[row] = identity not in known
            known.add(identity)
        twice = [
            Rejected(
                Path(part.paths[row]),
                f"has the same id as an earlier cutout, {part.ids[row]}; give every cutout its own "
                "id, in a manifest or in its file.",
            )
            for row in np.flatnonzero(~is_new)
        ]
        yield part.at(is_new)._replace(rejected=part.rejected + twice)


def count_rows(paths: Sequence[Path]) -> int:
    rows = 0
    for path in paths:
        with made_again_if_damaged(path):
            rows += parquet.read_metadata(path).num_rows
    return rows


def in_groups(parts: Iterable[Part], rows: int = ROWS_PER_GROUP) -> Iterator[Part]:
    """Merge consecutive parts into groups of at least ``rows`` rows."""
    group: list[Part] = []
    for part in parts:
        group.append(part)
        if sum(len(one.ids) for one in group) >= rows:
            yield _joined(group)
            group = []
    if group:
        yield _joined(group)


def _joined(group: list[Part]) -> Part:
    ids, paths, logits, flat, known, rejected = zip(*group, strict=True)
    return Part(
        np.concatenate(ids),
        np.concatenate(paths),
        np.concatenate(logits),
        np.concatenate(flat),
        np.concatenate(known),
        list(chain.from_iterable(rejected)),
    )
