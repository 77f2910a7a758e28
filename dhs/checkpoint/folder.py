"""Find the checkpoints of a folder, and deprecate those that must no longer be used."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dhs.checkpoint.file import (
    CHECKPOINT_SUFFIX,
    NoCheckpointError,
    deprecate,
    read,
)
from dhs.checkpoint.header import Checkpoint
from dhs.checkpoint.published import PUBLISHED_SUFFIXES, read_old_spec
from dhs.jobs.lock import only_writer
from dhs.preprocess.spec import PreprocessSpec
from fastnorm import LEGACY_ANNULUS
from fastnorm.atomic import atomic_path
from fastnorm.io import Rejected
from fastnorm.paths import local_path, open_file
from fastnorm.text import one_line, visible

NOTICE = "DEPRECATED.md"
TITLE = "# Deprecated checkpoints"


@dataclass
class Found:
    """The contents of a folder and its subfolders.

    Attributes
    ----------
    checkpoints : list of Checkpoint
        Checkpoints, sorted by path.
    old : list of Path
        Files in the old .pt format, which have neither a spec nor a deprecation mark.
    others : list of Path
        Intact .safetensors files that are not checkpoints.
    rejected : list of Rejected
        Files that cannot be read.
    """

    checkpoints: list[Checkpoint] = field(default_factory=list)
    old: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)


@dataclass
class Marked:
    """The result of `deprecate_folder`.

    Attributes
    ----------
    now : list of Checkpoint
        Checkpoints marked by this call.
    before : list of Checkpoint
        Checkpoints that already had a deprecation mark.
    left : list of Checkpoint
        Checkpoints left unmarked: their annulus is not the legacy one inside the galaxy.
    old : dict of Path to str
        Annulus of every .pt file according to its own configuration.
    others : list of Path
        Same as in `Found`.
    notices : list of Path
        The files ``DEPRECATED.md`` that were written.
    rejected : list of Rejected
        Files that cannot be read or written.
    """

    now: list[Checkpoint]
    before: list[Checkpoint]
    left: list[Checkpoint]
    old: dict[Path, str]
    others: list[Path]
    notices: list[Path]
    rejected: list[Rejected]


def find(folder: str | Path) -> Found:
    """Read every checkpoint in a folder and its subfolders, sorted by path.

    Raises
    ------
    NotADirectoryError
        The folder does not exist.
    OSError
        A subfolder cannot be listed.
    """
    folder = local_path(folder)
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder; give the folder of the checkpoints.")
    found = Found()
    for path in sorted(_files(folder)):
        if path.suffix in PUBLISHED_SUFFIXES:
            found.old.append(path)
        elif path.suffix == CHECKPOINT_SUFFIX:
            try:
                found.checkpoints.append(read(path))
            except NoCheckpointError:
                found.others.append(path)
            except Exception as error:  # whatever is in one file, it hides no other
                found.rejected.append(Rejected(path, _reason(path, error)))
    return found


def deprecate_folder(folder: str | Path, reason: str) -> Marked:
    """Deprecate every checkpoint whose annulus is the legacy one inside the galaxy.

    Every folder with deprecated checkpoints or old .pt files of that annulus gets a
    ``DEPRECATED.md``.

    Raises
    ------
    ValueError
        The reason is empty.
    OSError
        Same as in `find`.
    """
    if not reason.strip():
        raise ValueError("reason is empty; say why the checkpoints must no longer be used.")
    found = find(folder)
    done = Marked([], [], [], {}, found.others, [], found.rejected)
    notices: dict[Path, list[str]] = {}
    for item in found.checkpoints:
        if item.deprecated is not None:
            done.before.append(item)
        elif _is_wrong(item.spec, item.size):
            try:
                # Without the lock, this could overwrite the new weights of a running training.
                with only_writer(item.path.parent, "a mark") as record_owner:
                    record_owner()
                    done.now.append(deprecate(item.path, reason))
            except Exception as error:  # whatever is in one file, the others get their mark
                done.rejected.append(Rejected(item.path, _reason(item.path, error)))
        else:
            done.left.append(item)
    for item in done.before + done.now:
        line = [item.path.name, _radii(item.spec), item.deprecated, item.deprecated_at]
        notices.setdefault(item.path.parent, []).append(_row(line))
    for path in found.old:
        try:
            spec = read_old_spec(path)
        except Exception as error:  # whatever is in one file, it hides no other
            done.old[path] = _reason(path, error)
            continue
        done.old[path] = f"{spec.annulus_status()}, by its own configuration"
        if _is_wrong(spec):
            line = [path.name, _radii(spec), f"{reason} (not imported: carries no mark)", ""]
            notices.setdefault(path.parent, []).append(_row(line))
    for parent, rows in notices.items():
        try:
            done.notices.append(_write_notice(parent / NOTICE, rows))
        except (OSError, ValueError) as error:
            done.rejected.append(Rejected(parent / NOTICE, _reason(parent / NOTICE, error)))
    return done


def _reason(path: Path, error: Exception) -> str:
    said = one_line(str(error) or type(error).__name__)
    return said if visible(path) in said else f"{visible(path)}: {said}"


def _is_wrong(spec: PreprocessSpec, *size: int) -> bool:
    return spec.annulus == LEGACY_ANNULUS and spec.is_inside_galaxy(*size)


def _files(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise error

    # pathlib's glob silently skips folders that cannot be listed.
    for parent, _, names in os.walk(folder, onerror=refuse):
        yield from (Path(parent, name) for name in names)


def _radii(spec: PreprocessSpec) -> str:
    return str(spec.annulus)


def _row(cells: list[str | None]) -> str:
    escaped = (visible(" ".join((cell or "").split())).replace("|", r"\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"


def _is_ours(path: Path) -> bool:
    with open_file(path) as stream:
        return stream.read(len(TITLE)) == TITLE.encode()


def _write_notice(path: Path, rows: list[str]) -> Path:
    if path.exists() and not _is_ours(path):
        raise ValueError(f"{path} was not written by dhs and is kept; rename it.")
    lines = [
        TITLE,
        "",
        "Not for new work. Results of these must never be mixed with those of other checkpoints.",
        "",
        "| file | annulus (pixels) | reason | since (UTC) |",
        "|---|---|---|---|",
        *sorted(rows),
        "",
    ]
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines), encoding="utf-8")
    return path
