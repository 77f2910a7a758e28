"""Paths on a disk; addresses of object stores look like paths, and are refused."""

from __future__ import annotations

import re
from pathlib import Path

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_IN_A_PATH = re.compile(r"([a-z][a-z0-9+.-]+:)/", re.IGNORECASE)


def is_address(path: str) -> bool:
    """Tell whether a text is an address, such as ``s3://bucket/file``."""
    return _ADDRESS.match(path) is not None


def local_path(path: str | Path) -> Path:
    """Return a path on a disk.

    Raises
    ------
    ValueError
        The path is an address.
    """
    # A Path has joined the two slashes of an address into one.
    text = _IN_A_PATH.sub(r"\1//", str(path), count=1) if isinstance(path, Path) else path
    if isinstance(text, str) and is_address(text):
        raise ValueError(f"{text} is an address of an object store; copy the files to a disk first")
    return Path(path)
