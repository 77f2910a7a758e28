"""Atomic writes: a file appears complete or not at all."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastnorm.paths import local_path

_OF_A_WRITE = {errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC, errno.EROFS}


@contextmanager
def atomic_path(path: Path, *, follow: bool = True) -> Iterator[Path]:
    """Yield a temporary path next to ``path`` and rename it to ``path`` on success.

    The file is complete or absent, even after a power loss. Concurrent writers have separate
    temporary files, and the last one to finish wins.

    Parameters
    ----------
    path : Path
        File to write.
    follow : bool
        Whether a symbolic link stays, and the file that it leads to is written; otherwise the
        file replaces the link.

    Yields
    ------
    Path
        ``.NAME.tmp-...``; only a killed process leaves it behind.

    Raises
    ------
    OSError
        The file cannot be written. The error names ``path``, even if the system names no file.
    ValueError
        The path is an address.
    """
    given = path = local_path(path)
    if follow and path.is_symlink():
        path = Path(os.path.realpath(path))
    if follow and path.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(given))
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        is_of_a_write = error.filename is None and error.errno in _OF_A_WRITE
        if error.errno is None or not (is_of_a_write or error.filename == str(temporary)):
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(given)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Flush a new file name to disk, if the file system supports it and the folder is readable."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EBADF, errno.EINVAL):
            raise
    finally:
        os.close(descriptor)
