"""Tables of scores, one row per cutout, with their provenance in the metadata."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow
from numpy.typing import NDArray
from pyarrow import parquet

from dhs.manifest.format import METADATA_KEY
from dhs.manifest.table import is_number, metadata_of
from dhs.manifest.table import read_table as read_arrow
from dhs.preprocess.recorded import Scores, require
from dhs.preprocess.spec import PreprocessSpec
from dhs.score.known import KINDS, from_arrow, to_arrow
from dhs.statistics.thresholds import sigmoid
from fastnorm.atomic import atomic_path
from fastnorm.paths import local_path

FLAT, FILE = "flat_bands", "file"
COLUMNS = ("galaxy_id", "logit", "score", "path")


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """Scores of N cutouts.

    Attributes
    ----------
    path : Path
        The file.
    ids : (N,) array of str
        Unique ids.
    logits : (N,) float32
        A larger logit means more likely a lens.
    scores : (N,) float64
        Sigmoid of the logits.
    paths : (N,) array of str
        Paths of the cutouts.
    metadata : dict
        ``members`` (one or more of ``checkpoint``, ``checkpoint_fingerprint``, ``spec``,
        ``spec_fingerprint``, ``architecture``, ``data_origin``, ``deprecated``,
        ``training_fingerprint``), ``combination`` (``single``, ``mean`` or ``trained``),
        ``spec_fingerprint``, ``data_origin`` and ``mask_bits`` of the cutouts, ``input`` (what was
        scored, None for files), ``batch_size``, ``device``, ``versions``.
    member_logits : (N, M) float32, or None
        Logits of the members of an ensemble.
    fold : (N,) int8, or None
        For a trained combiner: fold of each object, which its combiner did not see; -1 for objects
        without a label.
    flat_bands : (N,) int8, or None
        Number of bands whose annulus has a MAD of 0, under any of the members: the score of such a
        cutout means nothing. None in older tables, which do not state it.
    known : dict of str to (N,) float64
        Columns ``number``, ``ra``, ``dec`` and ``label`` of the cutouts, see
        `dhs.score.known.Known`; NaN where not known. Older tables have none.
    files : (N,) array of str, or None
        File that each cutout of a pack was packed from, as its manifest names it. None for other
        input, whose files are ``paths``, and for packs that do not name them.
    """

    path: Path
    ids: NDArray[np.str_]
    logits: NDArray[np.float32]
    scores: NDArray[np.float64]
    paths: NDArray[np.str_]
    metadata: dict[str, Any]
    member_logits: NDArray[np.float32] | None = None
    fold: NDArray[np.int8] | None = None
    flat_bands: NDArray[np.int8] | None = None
    known: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    files: NDArray[np.str_] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def specs(self) -> list[PreprocessSpec]:
        """Distinct preprocessing specs of the members."""
        return specs_of(self.metadata)

    @property
    def name(self) -> str:
        """Architecture and annulus for legends, such as ``bottlenecked_resnet (32.5, 45)``."""
        return describe_members(self.metadata)


def specs_of(metadata: Mapping[str, Any]) -> list[PreprocessSpec]:
    """Return the distinct preprocessing specs of the members."""
    given = [PreprocessSpec.from_dict(member["spec"]) for member in metadata["members"]]
    return list(dict.fromkeys(given))


def describe_members(metadata: Mapping[str, Any]) -> str:
    """Name the architecture and annulus of every member."""
    names = []
    for member in metadata["members"]:
        spec = PreprocessSpec.from_dict(member["spec"])
        radii = str(spec.annulus)
        names.append(f"{member['architecture']['arch']} {radii}")
    if metadata["combination"] == "single":
        return names[0]
    counted = [
        name if names.count(name) == 1 else f"{names.count(name)} x {name}"
        for name in dict.fromkeys(names)
    ]
    return f"{metadata['combination']} of {', '.join(counted)}"


def joint_fingerprint(specs: Sequence[PreprocessSpec]) -> str:
    """Return the fingerprint of one spec, or the SHA-256 over the sorted ones of several."""
    distinct = sorted({spec.fingerprint for spec in specs})
    if len(distinct) == 1:
        return distinct[0]
    return hashlib.sha256("\n".join(distinct).encode()).hexdigest()


@contextmanager
def open_table(
    path: Path,
    metadata: Mapping[str, Any],
    members: int,
    *,
    has_folds: bool,
    has_flat: bool,
    has_known: bool,
    has_files: bool = False,
) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Open a table for writing in row groups.

    Parameters
    ----------
    path : Path
        File to write, ``.parquet``. Give a temporary path: the file is not written atomically.
    metadata : mapping
        Same as in `ScoreTable`.
    members : int
        Number of members of an ensemble, whose logits get columns ``logit_0``, ...; 0 writes none.
    has_folds : bool
        Write a column ``fold``.
    has_flat : bool
        Write a column ``flat_bands``.
    has_known : bool
        Write the columns of `dhs.score.known.KINDS`.
    has_files : bool
        Write a column ``file``.

    Yields
    ------
    function
        Takes all columns but ``score`` by name, and appends them as one row group.
    """
    schema = pyarrow.schema(
        {
            "galaxy_id": pyarrow.string(),
            "logit": pyarrow.float32(),
            "score": pyarrow.float64(),
            "path": pyarrow.string(),
        }
        | (KINDS if has_known else {})
        | {f"logit_{k}": pyarrow.float32() for k in range(members)}
        | ({"fold": pyarrow.int8()} if has_folds else {})
        | ({FLAT: pyarrow.int8()} if has_flat else {})
        | ({FILE: pyarrow.string()} if has_files else {}),
        metadata={METADATA_KEY: json.dumps(metadata, sort_keys=True, allow_nan=False)},
    )
    with parquet.ParquetWriter(path, schema) as writer:
        yield lambda columns: writer.write_table(
            pyarrow.table({"score": sigmoid(columns["logit"]), **columns}).select(schema.names),
        )


def write_table(out: Path, table: ScoreTable) -> None:
    """Write a table atomically to ``out``; ``table.path`` and ``table.scores`` are not used."""
    members = [] if table.member_logits is None else list(table.member_logits.T)
    columns: dict[str, Any] = {
        "galaxy_id": pyarrow.array(table.ids.tolist(), pyarrow.string()),
        "logit": table.logits,
        "path": pyarrow.array(table.paths.tolist(), pyarrow.string()),
    }
    columns |= {f"logit_{k}": logits for k, logits in enumerate(members)}
    if table.fold is not None:
        columns["fold"] = table.fold
    if table.flat_bands is not None:
        columns[FLAT] = table.flat_bands
    if table.known:
        columns |= to_arrow(np.stack([table.known[name] for name in KINDS], axis=1))
    if table.files is not None:
        columns[FILE] = pyarrow.array(table.files.tolist(), pyarrow.string())
    has = {
        "has_folds": table.fold is not None,
        "has_flat": table.flat_bands is not None,
        "has_known": bool(table.known),
        "has_files": table.files is not None,
    }
    with (
        atomic_path(out) as temporary,
        open_table(temporary, table.metadata, len(members), **has) as write,
    ):
        write(columns)


def read_table(path: str | Path) -> ScoreTable:
    """Read a table written by ``dhs score``.

    Parameters
    ----------
    path : path

    Returns
    -------
    ScoreTable

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        The file is not a valid table of scores: a column or its provenance is missing, a score is
        NaN, an id occurs twice, or the preprocessing does not match its fingerprint.
    """
    path = local_path(path)
    if path.suffix in (".fits", ".vot"):
        _refuse_copy(path)
    table = read_arrow(path)
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        raise ValueError(
            f"{path} has no column {', '.join(missing)}; give a table written by dhs score."
        )
    if path.suffix == ".csv":
        _refuse_copy(path)
    empty = [name for name in COLUMNS if table[name].null_count]
    if empty:
        raise ValueError(f"{path} has rows without {', '.join(empty)}; score the cutouts again.")
    metadata = _checked_metadata(metadata_of(table, path), path)
    ids = np.array(table["galaxy_id"].to_pylist(), str)
    logits = table["logit"].to_numpy().astype(np.float32)
    scores = table["score"].to_numpy().astype(np.float64)
    _require_sound(path, ids, logits, scores)
    members = [f"logit_{k}" for k in range(len(metadata["members"]))]
    own = [table[name].to_numpy() for name in members if name in table.column_names]
    return ScoreTable(
        path=path,
        ids=ids,
        logits=logits,
        scores=scores,
        paths=np.array(table["path"].to_pylist(), str),
        metadata=metadata,
        member_logits=np.stack(own, axis=1) if own else None,
        fold=table["fold"].to_numpy() if "fold" in table.column_names else None,
        flat_bands=table[FLAT].to_numpy() if FLAT in table.column_names else None,
        known={name: _numbers(table, name, path) for name in KINDS if name in table.column_names},
        files=_files(table),
    )


def _refuse_copy(path: Path) -> NoReturn:
    raise ValueError(
        f"{path} is a copy for other programs; give {path.with_suffix('.parquet')}, which "
        "dhs score writes beside it."
    )


def _files(table: pyarrow.Table) -> NDArray[np.str_] | None:
    if FILE not in table.column_names:
        return None
    return np.array(table[FILE].cast(pyarrow.string()).fill_null("").to_pylist(), str)


def _numbers(table: pyarrow.Table, name: str, path: Path) -> NDArray[np.float64]:
    if not is_number(table[name].type):
        raise ValueError(f"{path}: the column {name} is {table[name].type}, not a number.")
    return from_arrow(table[name])


def _checked_metadata(found: dict[str, Any], path: Path) -> dict[str, Any]:
    if not {"members", "combination", "spec_fingerprint"} <= set(found):
        raise ValueError(
            f"{path} has no provenance of its scores (members, combination and spec_fingerprint "
            "in its metadata 'dhs'); give the .parquet that dhs score writes, also beside a .csv."
        )
    require(Scores, found, path)
    specs, described = specs_of(found), describe_members(found)
    if joint_fingerprint(specs) != found["spec_fingerprint"]:
        raise ValueError(
            f"{path}: the preprocessing of {described} does not match its fingerprint: the "
            "metadata were changed. Score the cutouts again."
        )
    return found


def _require_sound(
    path: Path,
    ids: NDArray[np.str_],
    logits: NDArray[np.float32],
    scores: NDArray[np.float64],
) -> None:
    wrong = np.flatnonzero(np.isnan(logits) | np.isnan(scores))
    if wrong.size:
        raise ValueError(
            f"{path}: {wrong.size} of {len(ids)} scores are NaN, the first that of "
            f"{ids[wrong[0]]}; score the cutouts again."
        )
    found, first, count = np.unique(ids, return_index=True, return_counts=True)
    if len(found) < len(ids):
        twice = first[count > 1].min()
        raise ValueError(
            f"{path}: {len(ids) - len(found)} rows have the id of another row, the first "
            f"{ids[twice]}; ids must be unique."
        )


def require_same_preprocessing(tables: Sequence[ScoreTable], hint: str = "") -> None:
    """Refuse to compare tables with different preprocessing.

    Raises
    ------
    dhs.preprocess.spec.SpecMismatchError
        Two tables have different preprocessing; the message names both and their differences.
    """
    for table in tables[1:]:
        if joint_fingerprint(tables[0].specs) == joint_fingerprint(table.specs):
            continue
        for ours in tables[0].specs:
            for theirs in table.specs:
                ours.require_same(theirs, str(tables[0].path), str(table.path), hint)


def read_flat_bands(path: Path) -> dict[str, int]:
    """Return the number of flat bands of the cutouts that have any, by id."""
    table = parquet.read_table(path, columns=["galaxy_id", FLAT], filters=[(FLAT, ">", 0)])
    return dict(zip(table["galaxy_id"].to_pylist(), table[FLAT].to_pylist(), strict=True))


def highest(path: Path, count: int) -> list[dict[str, Any]]:
    """Return the ``count`` highest logits, the highest first; earlier rows win ties.

    Each has ``id``, ``score`` and ``logit``, and of ``ra``, ``dec``, ``label``, ``flat_bands`` and
    ``file`` those that are known.
    """
    best: list[tuple[float, dict[str, Any]]] = []
    with parquet.ParquetFile(path) as file:
        asked = ("galaxy_id", "logit", "ra", "dec", "label", FLAT, FILE)
        names = [name for name in asked if name in file.schema_arrow.names]
        for batch in file.iter_batches(columns=names):
            logits = batch["logit"].to_numpy()
            rows = np.argsort(-logits, kind="stable")[:count].tolist()
            found = batch.take(pyarrow.array(rows, pyarrow.int64())).to_pylist()
            best += [(float(logits[k]), row) for k, row in zip(rows, found, strict=True)]
            best = heapq.nlargest(count, best, key=lambda item: item[0])
    return [
        {"id": row.pop("galaxy_id"), "score": float(sigmoid(logit))}
        | {name: value for name, value in row.items() if value is not None}
        for logit, row in best
    ]
