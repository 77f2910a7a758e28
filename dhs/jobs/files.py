"""Files in output folders, in which a stranger may have left links, pipes or devices."""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

MOST_NAMED = 3


def refuse_links(folder: Path, *patterns: str) -> None:
    """Refuse a folder in which something that is to be written leads elsewhere.

    Parameters
    ----------
    folder : Path
        Folder, which may itself be a link: its user has named it.
    *patterns : str
        Patterns of the names of the files, optionally in a subfolder: ``parts/*``.

    Raises
    ------
    ValueError
        An entry of such a name, or such a subfolder, is a link, a pipe, a socket or a device.
    """
    places = defaultdict(list)
    for pattern in patterns:
        inner, _, name = pattern.rpartition("/")
        places[inner].append(fnmatch.translate(name))
    found = [
        name
        for inner, names in sorted(places.items())
        for name in _odd_entries(folder, inner, re.compile("|".join(names)))
    ]
    if found:
        more = f"; and {len(found) - MOST_NAMED:,} more" if len(found) > MOST_NAMED else ""
        raise ValueError(
            f"{folder} holds what is neither a file nor a folder, where files are to be written: "
            f"{'; '.join(found[:MOST_NAMED])}{more}. Somebody may have prepared it. Delete what "
            "you do not know, or use another folder; only the folder itself may be a link."
        )


def write_new(path: Path, content: bytes) -> None:
    """Replace whatever has this name by a file of its own, which no link leads elsewhere.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)


def open_own(path: Path, flags: int) -> int:
    """Open a regular file, and nothing to which a link of its name could lead.

    Parameters
    ----------
    path : Path
        File to open.
    flags : int
        Flags of `os.open`.

    Returns
    -------
    int
        Descriptor.

    Raises
    ------
    OSError
        The file cannot be opened, or is a link, a pipe or a device.
    """
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is not a regular file; delete it, or use another folder.")
    return descriptor


def _odd_entries(folder: Path, inner: str, names: re.Pattern[str]) -> Iterator[str]:
    place = folder / inner
    if inner and place.is_symlink():
        yield f"{inner} -> {os.readlink(place)}"
        return
    if not place.is_dir():
        return
    with os.scandir(place) as entries:
        for entry in entries:
            if not names.match(entry.name):
                continue
            if entry.is_symlink():
                yield f"{Path(inner, entry.name)} -> {os.readlink(entry)}"
            # The kinds come with the names, at no further cost.
            elif not (entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)):
                yield f"{Path(inner, entry.name)} (a pipe, a socket or a device)"
