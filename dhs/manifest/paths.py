"""Paths that a table gives: relative ones stay in the folder that they start from."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

MOST_NAMED = 5


def path_faults(column: str, paths: Iterable[object]) -> Iterator[str]:
    """What is wrong with the paths of a column, one sentence for each kind of fault.

    An absolute path says plainly where it reads, and is allowed.

    Parameters
    ----------
    column : str
        Its name.
    paths : iterable
        One entry per row; what is no text is not looked at.

    Yields
    ------
    str
        How many rows have the fault, and the first five with what they say.
    """
    given = [(row, path) for row, path in enumerate(paths) if isinstance(path, str)]
    climbing = [(row, path) for row, path in given if _climbs(path)]
    if climbing:
        yield (
            f"{len(climbing):,} rows whose {column} leads out of the manifest's folder: "
            f"{_some(climbing)}. Give absolute paths, or move the manifest to where all files are."
        )
    broken = [(row, path) for row, path in given if "\0" in path]
    if broken:
        yield f"{len(broken):,} rows whose {column} holds a NUL, as no file's: {_some(broken)}."


def refuse_escapes(manifest: str | Path, column: str, paths: Iterable[object]) -> None:
    """Refuse a manifest whose relative paths lead out of its folder, before any is opened.

    Parameters
    ----------
    manifest : str or Path
        For the message.
    column, paths
        As of `path_faults`.

    Raises
    ------
    ValueError
        With all that `path_faults` finds.
    """
    faults = list(path_faults(column, paths))
    if faults:
        raise ValueError(f"{manifest}: {' '.join(faults)}")


def _climbs(path: str) -> bool:
    """By its own ``..``; links within the folder are their owner's affair."""
    return not path.startswith("/") and os.path.normpath(path).split("/")[0] == ".."


def _some(rows: list[tuple[int, str]]) -> str:
    shown = "; ".join(f"row {row} ({path!r})" for row, path in rows[:MOST_NAMED])
    return shown if len(rows) <= MOST_NAMED else f"{shown}; ..."
