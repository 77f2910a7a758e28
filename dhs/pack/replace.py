"""Replacement of a pack by a new one, which is complete before the old one is removed."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from os import rename
from pathlib import Path
from typing import Any, TypeVar

from dhs.jobs.lock import WRITER, only_writer
from dhs.manifest.claim import read_settings
from dhs.manifest.format import MANIFEST, PARTS, REJECTED, SETTINGS

SOURCE = "source_manifest_sha256"
"""Setting that only packs have: the checksum of the table, or of the names of a folder's files."""

Made = TypeVar("Made")

_OWN = re.compile(r"(shard|mask)-\d{5}\.npy|" + "|".join(map(re.escape, (MANIFEST, REJECTED))))
_OWN_PARTS = re.compile(r"shard-\d{5}\.parquet|" + re.escape(SETTINGS))
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.tmp-[^/]+")
MOST_NAMED = 3


def replace_pack(
    out: Path,
    settings: Mapping[str, Any],
    make: Callable[[Path], Made],
    is_finished: Callable[[Made], bool],
) -> Made:
    """Make a pack in a hidden folder beside ``out``, and move it there once it is complete.

    An interrupted call resumes. Where there is no pack yet, the new one is made in its place.

    Parameters
    ----------
    out : Path
        Folder of the pack.
    settings : mapping
        Settings of the new pack; an unfinished one with others is made again.
    make : function
        Makes the pack in a folder, and returns its result.
    is_finished : function
        Tells from a result whether the pack is complete. Otherwise ``out`` stays as it is.

    Returns
    -------
    object
        Result of ``make``.

    Raises
    ------
    ValueError
        The folder is not a pack, or contains other files.
    NotADirectoryError
        ``out`` is a file.
    OSError
        A folder cannot be written or moved, or another process is writing the pack.
    """
    # The target of a link is replaced, so that the link stays.
    out = Path(os.path.realpath(out))
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"{out} is a file; name a folder for a pack.")
    new, old = (out.with_name(f".{out.name}.{kind}") for kind in ("new", "old"))
    if old.exists() and not out.exists():
        rename(old, out)
    if not out.exists() or not any(out.iterdir()):
        return make(out)
    require_pack(out)
    there = read_settings(new) if new.exists() else None
    if there is not None and any(there.get(key) != value for key, value in settings.items()):
        _remove(new)
    with only_writer(out, "a pack") as record_owner:
        record_owner()
        _remove(old)
        made = make(new)
        if not is_finished(made):
            return made
        rename(out, old)
        rename(new, out)
    _remove(old)
    return made


def require_pack(folder: Path) -> None:
    """Refuse a folder that is not a pack, or that contains anything else.

    Raises
    ------
    ValueError
        The message names the other files.
    """
    if SOURCE not in (read_settings(folder) or {}):
        raise ValueError(
            f"{folder} is not a pack that dhs pack wrote, and --overwrite replaces nothing else; "
            "give another folder."
        )
    _refuse_strangers(folder)


def _refuse_strangers(folder: Path) -> None:
    strangers = sorted(_strangers(folder))
    if strangers:
        more = ", ..." if len(strangers) > MOST_NAMED else ""
        raise ValueError(
            f"{folder} is a pack, but also contains {', '.join(strangers[:MOST_NAMED])}{more}, "
            "which --overwrite does not remove; move it elsewhere, or give another folder."
        )


def _strangers(folder: Path) -> Iterator[str]:
    for path in folder.iterdir():
        if path.name == PARTS and path.is_dir() and not path.is_symlink():
            inner = [part for part in path.iterdir() if not _is_own(part, _OWN_PARTS)]
            yield from (f"{PARTS}/{part.name}" for part in inner)
        elif path.name != WRITER and not _is_own(path, _OWN):
            yield path.name


def _is_own(path: Path, names: re.Pattern[str]) -> bool:
    temporary = _TEMPORARY.fullmatch(path.name)
    name = temporary["name"] if temporary else path.name
    return path.is_file() and names.fullmatch(name) is not None


def _remove(folder: Path) -> None:
    """Remove an earlier pack of ours, or what a killed run left of it, if it is there."""
    if folder.exists():
        _refuse_strangers(folder)
        shutil.rmtree(folder)
