"""The folder of a grid: whose it is, what is done, and what is missing.

``settings.json`` says what determines the injections; it is written first. ``shards/`` holds one
Parquet file per piece of the work, until ``injections.parquet`` has them all.
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

if TYPE_CHECKING:
    from dhs.selection.engine import Engine, Kind, Shard

SETTINGS, SHARDS = "settings.json", "shards"
INJECTIONS, NEGATIVES = "injections.parquet", "negatives.parquet"
SELECTION, GRID = "selection_function", "grid.json"


def claim(out: Path, engine: Engine) -> None:
    """Write down in an empty folder what will fill it.

    Raises
    ------
    ValueError
        The folder holds something else, or a grid of other settings: what differs is named.
    """
    path = out / SETTINGS
    settings = engine.determining | {"injections_fingerprint": engine.injections_fingerprint}
    if path.exists():
        there = _settings(path)
        if there != settings:
            fingerprint = {"injections_fingerprint": there.get("injections_fingerprint")}
            differ = "; ".join(differences(there, settings | fingerprint))
            raise ValueError(
                f"{out} holds a grid of another configuration (there against here: {differ}). Its "
                "shards are not used for this one; name another out_dir, or delete the folder."
            )
    else:
        foreign = sorted(
            p.name for p in out.iterdir() if not p.name.startswith(f".{SETTINGS}.tmp-")
        )
        if foreign:
            raise ValueError(
                f"{out} is not empty and holds no grid ({', '.join(foreign[:3])}); name an empty "
                "folder, or one that does not exist."
            )
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(settings, sort_keys=True, indent=1), "utf-8")
    (out / SHARDS).mkdir(exist_ok=True)
    for pattern in (".*.tmp-*", f"{SHARDS}/.*.tmp-*"):
        for leftover in out.glob(pattern):
            leftover.unlink(missing_ok=True)


def missing(out: Path, engine: Engine) -> list[Shard]:
    """Shards that are still to be made.

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
    """Put the shards of one kind together, one row group each, in memory for one.

    Raises
    ------
    ValueError
        A shard is damaged, or another one's.
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
    """Read a shard, every value of which is as it was written.

    Raises
    ------
    ValueError
        It is damaged, or another one's.
    OSError
        The disk gives none.
    """
    file = _open(path)
    with made_again_if_damaged(path):
        table = file.read()
        metadata = json.loads((file.schema_arrow.metadata or {})[METADATA_KEY])
        if metadata != engine.metadata(shard) | {"sha256": content_sha256(table)}:
            raise ValueError("its content is not that of its name and checksum")
        return table.cast(schema)


def describe(engine: Engine) -> dict[str, Any]:
    """What made the injections, for JSON."""
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
    """Remove what complete work does not need."""
    shutil.rmtree(out / SHARDS, ignore_errors=True)


def _settings(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); delete the folder.") from error
    return found if isinstance(found, dict) else {}


def _is_of(path: Path, engine: Engine) -> bool:
    """Whether this is the whole table of these injections."""
    if not path.exists():
        return False
    with made_again_if_damaged(path):
        metadata = json.loads((_open(path).schema_arrow.metadata or {})[METADATA_KEY])
        return bool(metadata["injections_fingerprint"] == engine.injections_fingerprint)


def _is_made(path: Path, shard: Shard) -> bool:
    if not path.exists():
        return False
    rows = _open(path).metadata.num_rows
    if rows != shard.rows:
        raise ValueError(f"{path} holds {rows} rows of {shard.rows}; delete it, and run again.")
    return True


def _open(path: Path) -> parquet.ParquetFile:
    with made_again_if_damaged(path):
        return parquet.ParquetFile(path)
