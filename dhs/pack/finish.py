"""The manifest of a pack, built from the results for every row of its source."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from numpy.typing import NDArray
from pyarrow import parquet

from dhs.manifest.duplicates import find_duplicates
from dhs.manifest.format import MANIFEST, METADATA_KEY, REJECTED
from dhs.manifest.splits import assign_splits
from dhs.pack.format import mask_name
from dhs.pack.shards import PART_SCHEMA, ShardJob
from dhs.pack.source import Source, refuse_leaks
from fastnorm.atomic import atomic_path
from fastnorm.io import Rejected


def gather(jobs: list[ShardJob]) -> pyarrow.Table:
    """Collect the results of all rows of the source, in order, with columns shard and row."""
    parts = []
    for job in jobs:
        part = parquet.read_table(job.part, schema=PART_SCHEMA)
        is_in = part["reason"].is_null().to_numpy()
        # A rejected row has no place, and its value is never used.
        places = pyarrow.array((np.cumsum(is_in) - 1).astype(np.int32))
        names = pyarrow.array([job.name] * len(part), pyarrow.string())
        parts.append(part.append_column("shard", names).append_column("row", places))
    return pyarrow.concat_tables(parts)


def record_rejected(out: Path, source: Source, reasons: list[str | None]) -> list[Rejected]:
    """Write ``rejected.parquet``, or remove it if no row was rejected.

    Parameters
    ----------
    out : Path
        Folder of the pack.
    source : Source
        Manifest of the cutouts.
    reasons : list of str or None
        Reason for the rejection of each row, or None.

    Returns
    -------
    list of Rejected
        The rejected files. The file itself lists their paths as the manifest does.
    """
    bad = [
        (path, why) for path, why in zip(source.cutouts, reasons, strict=True) if why is not None
    ]
    if not bad:
        (out / REJECTED).unlink(missing_ok=True)
        return []
    text = pyarrow.string()
    schema = pyarrow.schema({"path": text, "reason": text})
    rows = [{"path": path, "reason": reason} for path, reason in bad]
    with atomic_path(out / REJECTED) as temporary:
        parquet.write_table(pyarrow.Table.from_pylist(rows, schema), temporary)
    return [Rejected(source.folder / path, reason) for path, reason in bad]


def read_rejected(out: Path, source: Source) -> list[Rejected]:
    """Read the rejected files from ``rejected.parquet``."""
    if not (out / REJECTED).exists():
        return []
    rows = parquet.read_table(out / REJECTED).to_pylist()
    return [Rejected(source.folder / row["path"], row["reason"]) for row in rows]


def write_manifest(
    out: Path,
    source: Source,
    rows: pyarrow.Table,
    jobs: list[ShardJob],
    settings: Mapping[str, Any],
    draw: tuple[float, int],
    warn: Callable[[str], None],
) -> None:
    """Write the manifest, which completes a pack.

    Parameters
    ----------
    out : Path
        Folder of the pack.
    source : Source
        Manifest of the cutouts.
    rows : pyarrow.Table
        Result of `gather`.
    jobs : list of ShardJob
        The shards.
    settings : mapping
        Metadata in addition to the counts.
    draw : (float, int)
        Fraction of the sky for training and the random seed, for a source without splits.
    warn : function
        Called with a message about cutouts that occur several times in a split.

    Raises
    ------
    ValueError
        The splits of the source leak, according to the positions in its files; or the same pixels
        are in several splits, or have both labels.
    """
    is_in = rows["reason"].is_null()
    chosen = is_in.to_numpy()
    kept, table = rows.filter(is_in), source.table.filter(is_in)
    ids = source.ids[chosen]
    has_own_positions = source.ra is not None
    ra, dec = (
        values[chosen] if values is not None else kept[name].to_numpy()
        for name, values in (("ra", source.ra), ("dec", source.dec))
    )
    if source.split is None:
        fraction, seed = draw
        split = assign_splits(ids, ra, dec, train_fraction=fraction, seed=seed)
    else:
        split = source.split[chosen]
        if not has_own_positions:
            refuse_leaks(source.path, ids, ra, dec, split)
    label = None if source.label is None else source.label[chosen]
    _refuse_duplicates(source.path, ids, kept["sha256"].to_pylist(), label, split, warn)
    has_masks = jobs[0].layout.has_masks
    columns = {name: kept[name] for name in ("shard", "row", "sha256")}
    if has_masks:
        columns["mask_sha256"] = kept["mask_sha256"]
    columns["galaxy_id"] = _text(ids)
    if label is not None:
        columns["label"] = pyarrow.array(label)
    columns["split"] = _text(split)
    annulus = jobs[0].annulus
    if annulus is not None:
        columns["flat_bands"] = kept["flat_bands"]
    if not has_own_positions and np.isfinite(ra).any():
        columns |= {"ra": kept["ra"], "dec": kept["dec"]}
    columns |= {name: table[name] for name in table.column_names if name not in columns}
    metadata = dict(settings) | {
        "n": int(chosen.sum()),
        "n_rejected": int((~chosen).sum()),
        "masks": has_masks,
        "cutout_shape": [3, *jobs[0].layout.plane],
        "positions": _whence(source, ra),
        "flat_annulus": None if annulus is None else [annulus.r_in, annulus.r_out],
    }
    _remove_strangers(out, set(columns["shard"].to_pylist()), has_masks)
    text = json.dumps(metadata, sort_keys=True, allow_nan=False)
    packed = pyarrow.table(columns).replace_schema_metadata({METADATA_KEY: text})
    with atomic_path(out / MANIFEST) as temporary:
        parquet.write_table(packed.combine_chunks(), temporary)


def _refuse_duplicates(
    path: Path,
    ids: NDArray[np.str_],
    sha256: list[str],
    label: NDArray[np.int8] | None,
    split: NDArray[np.str_],
    warn: Callable[[str], None],
) -> None:
    labels = None if label is None else label.tolist()
    found = find_duplicates(ids.tolist(), sha256, labels, split.tolist())
    if found.faults():
        raise ValueError(
            f"{path}: {' '.join(found.faults())} Keep one row of each, or give all of them one "
            "split and one label."
        )
    for remark in found.remarks():
        warn(f"{path}: {remark}")


def _text(values: NDArray[np.str_]) -> pyarrow.Array:
    return pyarrow.array(values.tolist(), pyarrow.string())


def _whence(source: Source, ra: NDArray[np.float64]) -> str:
    if not np.isfinite(ra).any():
        return "none"
    return "files" if source.ra is None else "manifest"


def _remove_strangers(out: Path, shards: set[str], has_masks: bool) -> None:
    """Remove shards without a cutout, and files of a layout that no longer applies."""
    known = shards | (set(map(mask_name, shards)) if has_masks else set())
    for kind in ("shard-*.npy", "mask-*.npy"):
        for path in out.glob(kind):
            if path.name not in known:
                path.unlink()
