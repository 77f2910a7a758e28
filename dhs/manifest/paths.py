"""Checks of the paths in a table, whose relative paths must stay inside their base folder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from fastnorm.paths import is_address

MOST_NAMED = 5


def path_faults(column: str, paths: Iterable[object]) -> Iterator[str]:
    """Describe the faults of the paths in a column, one sentence per kind of fault.

    Absolute paths are allowed, because they state openly where they lead.

    Parameters
    ----------
    column : str
        Name of the column.
    paths : iterable
        One entry per row. Entries that are not text are skipped.

    Yields
    ------
    str
        Number of rows with the fault, and the values of the first five.
    """
    given = [(row, path) for row, path in enumerate(paths) if isinstance(path, str)]
    climbing = [(row, path) for row, path in given if _climbs(path)]
    if climbing:
        yield (
            f"{len(climbing):,} rows whose {column} leads out of the manifest's folder: "
            f"{_some(climbing)}. Use absolute paths, or move the manifest to the folder of the "
            "files."
        )
    remote = [(row, path) for row, path in given if is_address(path)]
    if remote:
        yield (
            f"{len(remote):,} rows whose {column} is an address of an object store; copy the files "
            f"to a disk first: {_some(remote)}."
        )
    broken = [(row, path) for row, path in given if "\0" in path]
    if broken:
        yield (
            f"{len(broken):,} rows whose {column} contains a NUL character, which is invalid in "
            f"file names: {_some(broken)}."
        )


def refuse_escapes(manifest: str | Path, column: str, paths: Iterable[object]) -> None:
    """Reject a manifest whose relative paths lead out of its folder, before opening any file.

    Parameters
    ----------
    manifest : str or Path
        File of the manifest, for the error message.
    column : str
        Name of the column.
    paths : iterable
        One entry per row. Entries that are not text are skipped.

    Raises
    ------
    ValueError
        The paths have faults. The message lists all that `path_faults` finds.
    """
    faults = list(path_faults(column, paths))
    if faults:
        raise ValueError(f"{manifest}: {' '.join(faults)}")


def _climbs(path: str) -> bool:
    """Tell whether a path leaves its folder by ``..``; links inside the folder are not checked."""
    return not path.startswith("/") and os.path.normpath(path).split("/")[0] == ".."


def _some(rows: list[tuple[int, str]]) -> str:
    shown = "; ".join(f"row {row} ({path!r})" for row, path in rows[:MOST_NAMED])
    return shown if len(rows) <= MOST_NAMED else f"{shown}; ..."
