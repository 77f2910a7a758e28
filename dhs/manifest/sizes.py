"""Limits of tables, because a small file can say that it has millions of rows."""

from __future__ import annotations

import os
from pathlib import Path

SHARE_OF_FREE_MEMORY = 0.75
"""Largest share of the free memory that a table may take."""
MOST_COLUMNS = 10_000
MOST_ROWS_PER_BYTE = 50
"""Largest number of rows per byte of a Parquet file.

Sorted paths, each different, take a byte per 10 rows in the most compact encoding.
"""
FEWEST_ROWS = 1_000_000
"""Numbers of rows up to this are allowed in a file of any size."""
NUMBER_BYTES, TEXT_BYTES = 16, 64
"""Bytes of one value in Arrow and pandas together; text takes twice its length besides."""
CSV_COPIES = 3


def free_memory() -> int:
    """Return the free memory in bytes, or the total where the system does not report it."""
    file = Path("/proc/meminfo")
    if file.is_file():
        for line in file.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


class Allowance:
    """The memory that one table may take, fixed when its reading starts.

    Parameters
    ----------
    path : Path
        File of the table, for error messages.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._most = int(SHARE_OF_FREE_MEMORY * free_memory())

    def require(self, what: str, size: int) -> None:
        """Refuse a table that would take too much memory.

        Parameters
        ----------
        what : str
            Subject of the sentence, such as ``"its 3 rows"``.
        size : int
            Bytes that the table takes in memory.

        Raises
        ------
        ValueError
            The size is above `SHARE_OF_FREE_MEMORY` of the free memory.
        """
        if size > self._most:
            raise ValueError(
                f"{self._path}: {what} would take {_gigabytes(size)} of memory; at most "
                f"{_gigabytes(self._most)} are allowed, {SHARE_OF_FREE_MEMORY:.0%} of what is "
                "free. Split the table into smaller ones, or use a machine with more memory."
            )


def require_columns(path: Path, count: int) -> None:
    """Refuse a table with more than `MOST_COLUMNS` columns.

    Raises
    ------
    ValueError
        It has more.
    """
    if count > MOST_COLUMNS:
        raise ValueError(
            f"{path} has {count:,} columns; at most {MOST_COLUMNS:,} are allowed. Keep those that "
            "are needed."
        )


def require_plausible(path: Path, rows: int, size: int) -> None:
    """Refuse a Parquet file that says it has more rows than different cutouts can fit into it.

    Parameters
    ----------
    path : Path
        The file, for error messages.
    rows : int
        Number of rows that it says it has.
    size : int
        Its size in bytes.

    Raises
    ------
    ValueError
        There are more than `FEWEST_ROWS` rows, and more than `MOST_ROWS_PER_BYTE` per byte.
    """
    if rows > max(FEWEST_ROWS, MOST_ROWS_PER_BYTE * size):
        raise ValueError(
            f"{path} says that it has {rows:,} rows in {size:,} bytes; at most "
            f"{MOST_ROWS_PER_BYTE} rows per byte are allowed above {FEWEST_ROWS:,} rows, because "
            "every row needs its own path or id. Check how it was written, or split it."
        )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.1f} GB"
