"""The folder of a grid: its settings, finished shards, and missing shards.

``settings.json`` records everything that determines the injections; it is written first.
``shards/`` holds one Parquet file per shard until they are merged into ``injections.parquet``.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow
from pyarrow import parquet

from dhs.config.errors import differences
from dhs.manifest.format import METADATA_KEY
from dhs.manifest.table import content_sha256, made_again_if_damaged
from fastnorm.atomic import atomic_path
from fastnorm.json_text import parse_json
from fastnorm.paths import read_bytes, require_file

if TYPE_CHECKING:
    from dhs.selection.engine import Engine, Kind, Shard

SETTINGS, SHARDS = "settings.json", "shards"
INJECTIONS, NEGATIVES = "injections.parquet", "negatives.parquet"
SELECTION, GRID = "selection_function", "grid.json"
FALSE_POSITIVES = "false_positives.csv"


def claim(out: Path, engine: Engine) -> None:
    """Write the settings of a grid into an empty folder, or check those already there.

    Raises
    ------
    ValueError
        The folder holds something else, or a grid with different settings. The message names
        the differences.
    """
    path = out / SETTINGS
    settings = engine.determining | {"injections_fingerprint": engine.injections_fingerprint}
    if path.exists():
        there = _settings(path)
        if there != settings:
            fingerprint = {"injections_fingerprint": there.get("injections_fingerprint")}
            differ = "; ".join(differences(there, settings | fingerprint))
            raise ValueError(
                f"{out} holds a grid with a different configuration (stored against new: "
                f"{differ}). Its shards cannot be used for this grid; give another out_dir, or "
                "delete the folder."
            )
    else:
        foreign = sorted(
            p.name for p in out.iterdir() if not p.name.startswith(f".{SETTINGS}.tmp-")
        )
        if foreign:
            raise ValueError(
                f"{out} is not empty and does not contain a grid ({', '.join(foreign[:3])}); give "
                "an empty folder, or one that does not exist."
            )
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(settings, sort_keys=True, indent=1), "utf-8")
    (out / SHARDS).mkdir(exist_ok=True)
    for pattern in (".*.tmp-*", f"{SHARDS}/.*.tmp-*"):
        for leftover in out.glob(pattern):
            leftover.unlink(missing_ok=True)


def missing(out: Path, engine: Engine) -> list[Shard]:
    """Return the shards that are not yet computed.

    Raises
    ------
    ValueError
        A file is damaged.
    """
    is_done = {
        kind: _is_of(out / name, engine)
        for kind, name in (("negatives", NEGATIVES), ("injections", INJECTIONS))
    }
    shards = [shard for shard in engine.shards() if not is_done[shard.kind]]
    return [shard for shard in shards if not _is_made(engine.path(out / SHARDS, shard), shard)]


def merge(out: Path, engine: Engine, kind: Kind, schema: pyarrow.Schema) -> None:
    """Merge the shards of one kind into one file, one row group each, one at a time in memory.

    Parameters
    ----------
    out : Path
        Folder of the grid.
    engine : Engine
    kind : {"negatives", "injections"}
    schema : pyarrow.Schema
        Columns of the file.

    Raises
    ------
    ValueError
        A shard is damaged, or belongs to different work.
    OSError
        A file cannot be read or written.
    """
    path = out / (NEGATIVES if kind == "negatives" else INJECTIONS)
    if _is_of(path, engine):
        return
    metadata = {"injections_fingerprint": engine.injections_fingerprint}
    schema = schema.with_metadata({METADATA_KEY: json.dumps(metadata | describe(engine))})
    with atomic_path(path) as temporary, parquet.ParquetWriter(temporary, schema) as writer:
        for shard in engine.shards():
            if shard.kind == kind:
                table = read_shard(engine.path(out / SHARDS, shard), engine, shard, schema)
                writer.write_table(table.replace_schema_metadata(schema.metadata))


def read_shard(path: Path, engine: Engine, shard: Shard, schema: pyarrow.Schema) -> pyarrow.Table:
    """Read a shard and verify its checksum.

    Parameters
    ----------
    path : Path
    engine : Engine
        Grid that the shard must belong to.
    shard : Shard
        Part of the work that the file must contain.
    schema : pyarrow.Schema
        Columns of the returned table.

    Returns
    -------
    pyarrow.Table

    Raises
    ------
    ValueError
        The file is damaged, or belongs to different work.
    OSError
        The file cannot be read.
    """
    file = _open(path)
    with made_again_if_damaged(path):
        table = file.read()
        metadata = parse_json((file.schema_arrow.metadata or {})[METADATA_KEY])
        if metadata != engine.metadata(shard) | {"sha256": content_sha256(table)}:
            raise ValueError("its content does not match its name and checksum")
        return table.cast(schema)


def describe(engine: Engine) -> dict[str, Any]:
    """Describe the checkpoint, preprocessing and data of a grid, for JSON."""
    checkpoint = engine.checkpoint
    return {
        "checkpoint": {
            "name": checkpoint.path.name,
            "fingerprint": checkpoint.fingerprint,
            "architecture": checkpoint.arch,
            "data_origin": checkpoint.data_origin,
            "deprecated": checkpoint.deprecated,
        },
        "spec": checkpoint.spec.to_dict(),
        "spec_fingerprint": checkpoint.spec.fingerprint,
        "annulus": checkpoint.spec.annulus_status(checkpoint.size),
        "data_origin": engine.hosts.data.data_origin,
        "injections_fingerprint": engine.injections_fingerprint,
        "draws_fingerprint": engine.draws_fingerprint,
        "determining": engine.determining,
    }


def remove_shards(out: Path) -> None:
    """Remove the shards of a finished grid."""
    shutil.rmtree(out / SHARDS, ignore_errors=True)


def _settings(path: Path) -> dict[str, Any]:
    try:
        found = parse_json(read_bytes(path))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); delete the folder.") from error
    return found if isinstance(found, dict) else {}


def _is_of(path: Path, engine: Engine) -> bool:
    """Return whether the file exists and is the merged table of this grid."""
    if not path.exists():
        return False
    with made_again_if_damaged(path):
        metadata = parse_json((_open(path).schema_arrow.metadata or {})[METADATA_KEY])
        return bool(metadata["injections_fingerprint"] == engine.injections_fingerprint)


def _is_made(path: Path, shard: Shard) -> bool:
    if not path.exists():
        return False
    rows = _open(path).metadata.num_rows
    if rows != shard.rows:
        raise ValueError(
            f"{path} holds {rows} rows, expected {shard.rows}; delete it, and run again."
        )
    return True


def _open(path: Path) -> parquet.ParquetFile:
    require_file(path)
    with made_again_if_damaged(path):
        return parquet.ParquetFile(path)
