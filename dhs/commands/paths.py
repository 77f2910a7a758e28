"""Paths that are arguments, checked before a command imports torch, pandas and others."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dhs.arguments import existing, existing_checkpoint
from fastnorm.terminal import fail, messages

TABLES = (".parquet", ".csv")


def require_paths(*paths: Path | None) -> None:
    """Fail if a path that was given does not exist."""
    with messages(ValueError, OSError):
        for path in paths:
            if path is not None:
                existing(path)


def require_folders(things: str, paths: Iterable[Path]) -> None:
    """Fail if a path is not a folder; ``things`` says what the folders hold."""
    for path in paths:
        if not path.is_dir():
            fail(f"{path} is not a folder; name a folder of {things}.")


def require_checkpoints(*paths: Path) -> None:
    """Fail if a path is not a file."""
    with messages(ValueError, OSError):
        for path in paths:
            existing_checkpoint(path)


def require_tables(paths: Iterable[Path]) -> None:
    """Fail if a table does not exist; files of cutouts, folders and patterns are checked later."""
    require_paths(*(path for path in paths if path.suffix in TABLES))
