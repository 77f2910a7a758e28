"""Verification of a pack against its manifest: every byte, every row, every leak."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dhs.arguments import integer
from dhs.manifest.duplicates import Duplicates, find_duplicates
from dhs.manifest.format import MANIFEST
from dhs.manifest.splits import SPLITS, find_leaks
from dhs.pack.format import mask_name, mask_sha256, pixel_sha256
from dhs.pack.view import Pack, open_pack
from fastnorm.io import Rejected

CUTOUTS_PER_STEP = 256
_PROMISED = ("data_origin", "bands", "flux_unit", "pixel_scale", "package_version", "n")


class VerifyReport(NamedTuple):
    """Result of `verify_pack`.

    ``folder``: the pack. ``cutouts``: number of cutouts in the manifest. ``intact``: number of
    cutouts that match the manifest. ``shards``: number of shards. ``has_masks``: whether there are
    masks. ``data_origin``, ``fingerprint``: same as in `dhs.pack.view.Pack`. ``faults``: the
    faulty files with their faults, empty for a good pack. ``remarks``: what is suspicious, but no
    fault. ``flat_bands``: same as `dhs.pack.view.Pack.flat_bands`.
    """

    folder: Path
    cutouts: int
    intact: int
    shards: int
    has_masks: bool
    data_origin: str
    fingerprint: str
    faults: list[Rejected]
    remarks: list[str]
    flat_bands: dict[str, int]


def verify_pack(
    folder: str | Path,
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> VerifyReport:
    """Verify every checksum of a pack, the list of its rows, its splits and its metadata.

    Parameters
    ----------
    folder : str or Path
        Folder of the pack.
    workers : int
        Number of threads.
    progress : function, optional
        Called with the number of finished cutouts and the number of all cutouts.

    Returns
    -------
    VerifyReport

    Raises
    ------
    FileNotFoundError, ValueError
        The pack cannot be opened; see `dhs.pack.view.open_pack`.
    """
    integer("workers", workers, 1, 1024)
    pack = open_pack(folder)
    faults = [
        *(Rejected(pack.folder / MANIFEST, fault) for fault in _manifest_faults(pack)),
        *_coverage_faults(pack),
    ]
    report = progress or (lambda done, total: None)
    report(0, len(pack))
    starts = range(0, len(pack), CUTOUTS_PER_STEP)
    damaged = 0
    # Threads suffice, because hashing releases the GIL.
    with ThreadPoolExecutor(workers) as pool:
        for start, found in zip(
            starts, pool.map(lambda at: _damage(pack, at), starts), strict=True
        ):
            damaged += len({place for place, _ in found})
            faults.extend(fault for _, fault in found)
            report(min(start + CUTOUTS_PER_STEP, len(pack)), len(pack))
    return VerifyReport(
        pack.folder,
        len(pack),
        len(pack) - damaged,
        len(pack.shards),
        pack.masks is not None,
        pack.data_origin,
        pack.fingerprint,
        faults,
        _duplicates(pack).remarks(),
        pack.flat_bands(),
    )


def _duplicates(pack: Pack) -> Duplicates:
    table = pack.table
    label, split = (table[name].tolist() if name in table else None for name in ("label", "split"))
    return find_duplicates(table["galaxy_id"].tolist(), table["sha256"].tolist(), label, split)


def _manifest_faults(pack: Pack) -> Iterator[str]:
    missing = [key for key in _PROMISED if key not in pack.metadata]
    if missing:
        yield f"its metadata have no {', '.join(missing)}."
    if pack.metadata.get("n", len(pack)) != len(pack):
        yield f"it has {len(pack)} rows; its metadata state {pack.metadata['n']}."
    ids = pack.table["galaxy_id"]
    twice = ids[ids.duplicated()]
    if len(twice):
        yield f"{len(twice)} rows have the galaxy_id of another row, the first {twice.iloc[0]!r}."
    has_labels = "label" in pack.table
    wrong = np.flatnonzero(~pack.table["label"].isin([0, 1])) if has_labels else np.empty(0)
    if wrong.size:
        yield f"{wrong.size} labels are neither 0 nor 1, the first of {ids.iloc[wrong[0]]!r}."
    yield from _duplicates(pack).faults()
    if "split" not in pack.table:
        return
    split = pack.table["split"]
    unknown = np.flatnonzero(~split.isin(SPLITS))
    if unknown.size:
        yield (
            f"{unknown.size} splits are not one of {', '.join(SPLITS)}, the first "
            f"{split.iloc[unknown[0]]!r} of {ids.iloc[unknown[0]]!r}."
        )
    ra, dec = (
        pack.table[name].to_numpy(float) if name in pack.table else None for name in ("ra", "dec")
    )
    yield from (f"leak: {leak}." for leak in find_leaks(list(ids), ra, dec, list(split)))


def _coverage_faults(pack: Pack) -> Iterator[Rejected]:
    for number, (name, shard) in enumerate(zip(pack.shard_names, pack.shards, strict=True)):
        is_listed = np.zeros(len(shard), bool)
        is_listed[pack.row[pack.shard_index == number]] = True
        left = np.flatnonzero(~is_listed)
        if left.size:
            reason = f"{left.size} rows are not in the manifest, the first {left[0]}."
            yield Rejected(pack.folder / name, reason)
    known = {*pack.shard_names, *map(mask_name, pack.shard_names)}
    for kind in ("shard-*.npy", "mask-*.npy"):
        for path in sorted(pack.folder.glob(kind)):
            if path.name not in known:
                yield Rejected(path, "the manifest does not list this file.")


def _damage(pack: Pack, start: int) -> list[tuple[int, Rejected]]:
    """Find the cutouts and masks of one step that do not match their checksums."""
    names = pack.shard_names
    kinds: list[tuple[str, list[Any], list[str], Callable[[Any], str]]] = [
        ("sha256", pack.shards, names, pixel_sha256)
    ]
    if pack.masks is not None:
        kinds.append(("mask_sha256", pack.masks, list(map(mask_name, names)), mask_sha256))
    part = pack.table.iloc[start : start + CUTOUTS_PER_STEP]
    found = []
    for column, stacks, files, checksum in kinds:
        for place, said in enumerate(part[column], start):
            shard, row = pack.shard_index[place], pack.row[place]
            if checksum(stacks[shard][row]) != said:
                identity = pack.table["galaxy_id"].iloc[place]
                reason = f"row {row}, galaxy_id {identity!r}, does not match its {column}."
                found.append((place, Rejected(pack.folder / files[shard], reason)))
    return found
