"""Output folders: created, locked, claimed and cleaned before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from dhs.jobs.files import refuse_links
from dhs.jobs.lock import WRITER, only_writer
from fastnorm.paths import local_path


@contextmanager
def output_folder(
    out: Path,
    what: str,
    *leftovers: str,
    claim: Callable[[], bool | None] | None = None,
) -> Iterator[bool]:
    """Create a folder if needed, lock it, claim it, and remove what killed writers leave in it.

    A folder that is created here is removed again if the work fails before it writes a file.

    Parameters
    ----------
    out : Path
        Folder; its parents are created, too.
    what : str
        Kind of output with its article, for messages.
    *leftovers : str
        Patterns of the names of the files that the work writes. Their temporary files are removed,
        see `remove_leftovers`; links with such names are refused, see `refuse_links`.
    claim : function, optional
        Called under the lock. It raises if the folder contains something else, and returns
        whether the work in it is complete.

    Yields
    ------
    bool
        Whether the work is complete. A folder with complete work may be read-only.

    Raises
    ------
    NotADirectoryError
        ``out`` is a file.
    ValueError
        The folder holds a link, a pipe or a device where files are to be written.
    PermissionError
        The folder is not writable, and its work is not complete.
    BlockingIOError
        Another process is writing the folder.
    """
    out = local_path(out)
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"{out} is a file; name a folder for {what}.")
    was_there = out.exists()
    out.mkdir(parents=True, exist_ok=True)
    with only_writer(out, what) as record_owner, nullcontext() if was_there else _kept_if_used(out):
        refuse_links(out, *leftovers)
        is_complete = claim is not None and bool(claim())
        if not is_complete:
            record_owner()
        remove_leftovers(out, *leftovers)
        try:
            yield is_complete
        finally:
            # Workers that died since have left theirs; none is running any more. A disk that
            # fails here has a better error under way, and the next run removes them as well.
            if not is_complete:
                with suppress(OSError):
                    remove_leftovers(out, *leftovers)


@contextmanager
def _kept_if_used(out: Path) -> Iterator[None]:
    """Remove a folder again if the work fails before it leaves a file; call it under the lock."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            if {path.name for path in out.iterdir()} <= {WRITER}:
                (out / WRITER).unlink(missing_ok=True)
                out.rmdir()
        raise


def remove_leftovers(folder: Path, *patterns: str) -> None:
    """Remove temporary files that killed writers left; only the owner of the files may call it.

    Parameters
    ----------
    folder : Path
        Folder of the files.
    *patterns : str
        Patterns of the names of the finished files, optionally in a subfolder: ``parts/*``.
    """
    for pattern in patterns:
        inner, _, name = pattern.rpartition("/")
        for path in (folder / inner).glob(f".{name}.tmp-*"):
            path.unlink(missing_ok=True)
