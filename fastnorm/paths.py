"""Paths and files on a disk; addresses, pipes, sockets and devices are refused."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import BinaryIO, cast

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


_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class NotAFileError(OSError):
    """A path leads to a pipe, a socket or a device, which can block or never end.

    Attributes
    ----------
    reason : str
        The message without the path.
    """

    def __init__(self, path: str | Path, kind: str) -> None:
        self.reason = f"is {kind}, not a regular file: save its content to a file, and give that."
        super().__init__(f"{path} {self.reason}")


def require_file(path: str | Path) -> None:
    """Refuse a pipe, a socket or a device before another library opens it.

    Folders, and paths that do not exist, are left to the error of whoever opens them.

    Raises
    ------
    NotAFileError
        The path is one of them.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return
    _refuse(path, mode)


def open_file(path: str | Path) -> BinaryIO:
    """Open a file on a disk for reading bytes.

    Raises
    ------
    NotAFileError
        The path is a pipe, a socket or a device.
    OSError
        The file cannot be opened.
    """
    # Opening a device can have effects, so it is looked at before as well as after.
    require_file(path)
    return cast(BinaryIO, open(path, "rb", opener=_opened))


def read_bytes(path: str | Path) -> bytes:
    """Read a file on a disk; see `open_file`."""
    with open_file(path) as stream:
        return stream.read()


def _opened(path: str, flags: int) -> int:
    # Without O_NONBLOCK, opening a pipe waits for a writer. Files on a disk ignore it.
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    try:
        _refuse(path, os.fstat(descriptor).st_mode)
    except NotAFileError:
        os.close(descriptor)
        raise
    return descriptor


def _refuse(path: str | Path, mode: int) -> None:
    kind = _KINDS.get(stat.S_IFMT(mode))
    if kind is not None:
        raise NotAFileError(path, kind)
