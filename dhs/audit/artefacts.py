"""Artefacts in folders: checkpoints, scores, grids, and results derived from them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version
from pyarrow import parquet
from pydantic import BaseModel

import fastnorm
from dhs.audit.artefact_checks import (
    Comparison,
    Evaluation,
    PackManifest,
    Realism,
    reason_of,
    require_checkpoint,
)
from dhs.audit.methods import METHODS_MARK, TEXT_SUFFIXES
from dhs.checkpoint import Checkpoint, NoCheckpointError, read
from dhs.checkpoint.file import CHECKPOINT_SUFFIX
from dhs.checkpoint.published import PUBLISHED_SUFFIXES
from dhs.evaluate.run import REPORT
from dhs.manifest.format import MANIFEST
from dhs.manifest.table import check_footer, metadata_of
from dhs.preprocess.recorded import Scores, require
from dhs.score.table import joint_fingerprint, specs_of
from dhs.selection.compare import COMPARISON_STEM
from dhs.selection.folder import GRID, INJECTIONS, NEGATIVES, SELECTION, SETTINGS
from dhs.selection.grid_result import GridResult
from fastnorm.io import Rejected
from fastnorm.json_text import parse_json
from fastnorm.paths import local_path
from fastnorm.text import visible

REALISM = "realism.json"
MOST_JSON_BYTES = 2**26
"""Largest size of a JSON file; evaluations of many tables have about 100,000 bytes."""
_OF_A_GRID = {INJECTIONS, NEGATIVES, f"{SELECTION}.parquet"}


@dataclass(frozen=True)
class Document:
    """An artefact with its metadata.

    Attributes
    ----------
    path : Path
        The file, or the folder of a pack.
    metadata : dict
        The content of a JSON file, or the metadata of a table.
    """

    path: Path
    metadata: dict[str, Any]


@dataclass
class Artefacts:
    """Artefacts in folders, at any depth; every list is sorted by path.

    Attributes
    ----------
    folders : list of Path
        Folders that were searched.
    checkpoints : list of Checkpoint
        Checkpoints in .safetensors files.
    old : list of Path
        The .pt files, which record neither a spec nor a deprecation mark.
    scores : list of Document
        Tables from `dhs score`; for ``metadata`` see `dhs.score.table.ScoreTable`.
    grids : list of GridResult
        Finished grids.
    evaluations, comparisons, realism : list of Document
        Output of `dhs evaluate`, `dhs grid compare` and `dhs realism`.
    packs : list of Document
        Packs and simulated surveys.
    methods : list of Path
        Texts from `dhs methods`.
    rejected : list of Rejected
        Files that cannot be read, with the reason.
    """

    folders: list[Path]
    checkpoints: list[Checkpoint] = field(default_factory=list)
    old: list[Path] = field(default_factory=list)
    scores: list[Document] = field(default_factory=list)
    grids: list[GridResult] = field(default_factory=list)
    evaluations: list[Document] = field(default_factory=list)
    comparisons: list[Document] = field(default_factory=list)
    realism: list[Document] = field(default_factory=list)
    packs: list[Document] = field(default_factory=list)
    methods: list[Path] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """True if no file was found, not even one that cannot be read."""
        names = [item.name for item in fields(self) if item.name != "folders"]
        return not any(getattr(self, name) for name in names)


def find_artefacts(folders: Sequence[str | Path]) -> Artefacts:
    """Read the metadata of every artefact in folders.

    Parameters
    ----------
    folders : sequence of paths
        Folders to search at any depth; links are followed, and each folder is searched once.

    Returns
    -------
    Artefacts
        Files that cannot be listed or read, or that a newer version wrote, are in ``rejected``.

    Raises
    ------
    ValueError
        No folder is given.
    NotADirectoryError
        A path is not a folder.
    """
    paths = [local_path(folder) for folder in folders]
    if not paths:
        raise ValueError("folders is empty; name at least one folder of artefacts.")
    for folder in paths:
        if not folder.is_dir():
            raise NotADirectoryError(f"{folder} is not a folder; name a folder of artefacts.")
    found = Artefacts(paths)
    for path in _files(found):
        try:
            _take(found, path)
        except NoCheckpointError:
            continue
        except Exception as error:  # whatever is in one file, it hides no other
            found.rejected.append(Rejected(path, _named(path, reason_of(error))))
    return found


def _named(path: Path, reason: str) -> str:
    """Return a reason of one line that names the file or its folder."""
    parent = visible(path.parent)
    if parent in reason and parent != ".":
        return reason
    is_sentence = reason.startswith(("has ", "is "))
    return f"{visible(path)}{' ' if is_sentence else ': '}{reason}"


def _files(found: Artefacts) -> Iterator[Path]:
    """Return every file once, even if folders are nested or links form a loop."""

    def refuse(error: OSError) -> None:
        path = Path(error.filename)
        reason = f"{visible(path)} cannot be listed ({error.strerror})."
        found.rejected.append(Rejected(path, reason))

    seen: set[str] = set()
    for folder in found.folders:
        for parent, inner, names in os.walk(folder, onerror=refuse, followlinks=True):
            inner[:] = sorted(name for name in inner if _is_new(Path(parent, name), seen))
            for path in sorted(Path(parent, name) for name in names if not name.startswith(".")):
                if not _is_new(path, seen):
                    continue
                if path.is_file():
                    yield path
                elif path.suffix in _SUFFIXES:
                    reason = f"{visible(path)} is a broken link, or not a file."
                    found.rejected.append(Rejected(path, reason))


def _is_new(path: Path, seen: set[str]) -> bool:
    real = os.path.realpath(path)
    is_new = real not in seen
    seen.add(real)
    return is_new


def _take(found: Artefacts, path: Path) -> None:
    """Read a file and append it to its list if it is an artefact."""
    if path.suffix in PUBLISHED_SUFFIXES:
        found.old.append(path)
    elif path.suffix == CHECKPOINT_SUFFIX:
        loaded = read(path)
        require_checkpoint(loaded)
        found.checkpoints.append(loaded)
    elif path.suffix == ".parquet" and path.name not in _OF_A_GRID:
        _take_table(found, path)
    elif path.suffix in TEXT_SUFFIXES:
        with path.open(encoding="utf-8", errors="replace") as file:
            if f"{METHODS_MARK}{{" in file.readline(1 << 12):
                _require_size(path)
                found.methods.append(path)
    elif path.name == GRID:
        _require_known(path, _json(path).get("determining"))
        found.grids.append(GridResult(path.parent))
    elif path.name == SETTINGS and not (path.parent / GRID).exists():
        if "draws" in _json(path):
            raise ValueError(
                f"{path.parent} contains an unfinished grid; run the same dhs grid again to resume "
                "it."
            )
    elif path.name in _DOCUMENTS:
        name, kind = _DOCUMENTS[path.name]
        metadata = _json(path)
        _require_known(path, metadata)
        require(kind, metadata, path)
        getattr(found, name).append(Document(path, metadata))


def _take_table(found: Artefacts, path: Path) -> None:
    check_footer(path)
    metadata = metadata_of(parquet.read_schema(path), path)
    _require_known(path, metadata)
    if {"members", "combination"} & metadata.keys():
        require(Scores, metadata, path)
        if joint_fingerprint(specs_of(metadata)) != metadata.get("spec_fingerprint"):
            raise ValueError(f"{path}: the preprocessing does not match its fingerprint.")
        found.scores.append(Document(path, metadata))
    elif path.name == MANIFEST:
        require(PackManifest, metadata, path)
        found.packs.append(Document(path.parent, metadata))


_DOCUMENTS: Mapping[str, tuple[str, type[BaseModel]]] = {
    REPORT: ("evaluations", Evaluation),
    f"{COMPARISON_STEM}.json": ("comparisons", Comparison),
    REALISM: ("realism", Realism),
}
"""JSON files by name: the list of `Artefacts` they belong to, and the model of their metadata."""
_SUFFIXES = {*PUBLISHED_SUFFIXES, *TEXT_SUFFIXES, CHECKPOINT_SUFFIX, ".json", ".parquet"}


def _json(path: Path) -> dict[str, Any]:
    _require_size(path)
    try:
        metadata = parse_json(path.read_bytes())
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged or not valid JSON ({error}); create it again."
        ) from error
    if not isinstance(metadata, dict):
        raise ValueError(f"{path} does not contain a JSON object; create it again.")
    return metadata


def _require_size(path: Path) -> None:
    if path.stat().st_size > MOST_JSON_BYTES:
        raise ValueError(
            f"{path} has more than {MOST_JSON_BYTES:,} bytes, too many for a file written by dhs."
        )


def _require_known(path: Path, metadata: Any) -> None:
    """Refuse a file written by a newer version, whose format may differ."""
    versions = metadata.get("versions") if isinstance(metadata, dict) else None
    written = versions.get("dhs") if isinstance(versions, dict) else None
    if written is None:
        return
    try:
        is_newer = Version(written) > Version(fastnorm.__version__)
    except (InvalidVersion, TypeError) as error:
        raise ValueError(f"{path} records an invalid dhs version, {written!r:.60}.") from error
    if is_newer:
        raise ValueError(
            f"{path} was written by dhs {written}, newer than the installed "
            f"{fastnorm.__version__}; install that version or a newer one."
        )
