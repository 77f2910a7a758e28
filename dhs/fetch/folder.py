"""Records in a folder of cutouts: a journal during the download, and a manifest at the end."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from pyarrow import parquet

from dhs.fetch.catalogue import Catalogue
from dhs.jobs.files import open_own
from dhs.manifest.format import MANIFEST, METADATA_KEY, REJECTED
from fastnorm.atomic import atomic_path
from fastnorm.json_text import parse_json

JOURNAL = "journal.jsonl"


@dataclass(frozen=True)
class Entry:
    """The final record of one cutout.

    Attributes
    ----------
    galaxy_id : str
        Id of the cutout.
    ra, dec : float
        Requested position, degrees.
    url : str
        Requested address.
    file_sha256 : str or None
        SHA-256 of the verified file.
    reason : str or None
        Reason why the service has no such file.
    """

    galaxy_id: str
    ra: float
    dec: float
    url: str
    file_sha256: str | None = None
    reason: str | None = None


class Journal:
    """An append-only file of JSON lines, each synced to disk before the next.

    An unfinished line of a killed run is ignored, and the run checks the file of that cutout
    again.

    Parameters
    ----------
    path : Path
        File of the journal, which need not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries: dict[str, Entry] = {}
        content = _read_bytes(path)
        self._is_torn = not content.endswith(b"\n") and bool(content)
        for line in content.splitlines():
            if (entry := _read_entry(line)) is not None:
                self._entries[entry.galaxy_id] = entry

    def get(self, galaxy_id: str) -> Entry | None:
        """Return the last entry of an id, or None."""
        return self._entries.get(galaxy_id)

    def add(self, entry: Entry) -> None:
        """Append an entry, which replaces an earlier entry of the same id."""
        line = json.dumps(asdict(entry)) + "\n"
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        with os.fdopen(open_own(self._path, flags), "a", encoding="utf-8") as stream:
            stream.write("\n" + line if self._is_torn else line)
            stream.flush()
            os.fsync(stream.fileno())
        self._is_torn = False
        self._entries[entry.galaxy_id] = entry


def _read_bytes(path: Path) -> bytes:
    try:
        with os.fdopen(open_own(path, os.O_RDONLY), "rb") as stream:
            content, is_shared = stream.read(), os.fstat(stream.fileno()).st_nlink > 1
    except FileNotFoundError:
        return b""
    if is_shared:
        # What is appended must not appear under the other names of a hard link.
        with atomic_path(path, follow=False) as temporary:
            temporary.write_bytes(content)
    return content


def _read_entry(line: bytes) -> Entry | None:
    try:
        entry = Entry(**parse_json(line))
    except (ValueError, TypeError):
        return None
    texts = (entry.galaxy_id, entry.url, entry.file_sha256 or entry.reason)
    is_right = all(isinstance(text, str) for text in texts)
    is_right &= all(type(number) is float for number in (entry.ra, entry.dec))
    return entry if is_right else None


def write_manifest(
    out: Path, catalogue: Catalogue, entries: dict[int, Entry], settings: dict[str, Any]
) -> None:
    """Write ``manifest.parquet`` with a row per verified file, in the order of the catalogue.

    Parameters
    ----------
    out : Path
        Folder of the cutouts.
    catalogue : Catalogue
        Catalogue of the cutouts.
    entries : dict
        Entries of the verified files, by row of the catalogue.
    settings : dict
        Settings for the metadata.
    """
    rows = sorted(entries)
    kept = [entries[row] for row in rows]
    text = pyarrow.string()
    columns = {
        "cutout_path": pyarrow.array([f"{entry.galaxy_id}.fits" for entry in kept], text),
        "galaxy_id": pyarrow.array([entry.galaxy_id for entry in kept], text),
        "ra": pyarrow.array(catalogue.ra[rows]),
        "dec": pyarrow.array(catalogue.dec[rows]),
        "file_sha256": pyarrow.array([entry.file_sha256 for entry in kept], text),
        "url": pyarrow.array([entry.url for entry in kept], text),
    }
    others = catalogue.others.take(np.array(rows, np.int64))
    columns |= {name: others[name] for name in others.column_names}
    record = settings | {"n": len(rows), "n_rejected": len(catalogue) - len(rows)}
    metadata = {METADATA_KEY: json.dumps(record, sort_keys=True, allow_nan=False)}
    table = pyarrow.table(columns).replace_schema_metadata(metadata)
    with atomic_path(out / MANIFEST, follow=False) as temporary:
        parquet.write_table(table, temporary)


def write_rejected(out: Path, catalogue: Catalogue, reasons: dict[int, str]) -> None:
    """Write ``rejected.parquet`` in the order of the catalogue, or remove it if it is empty.

    Parameters
    ----------
    out : Path
        Folder of the cutouts.
    catalogue : Catalogue
        Catalogue of the cutouts.
    reasons : dict
        Reasons for the rejection, by row of the catalogue.
    """
    if not reasons:
        (out / REJECTED).unlink(missing_ok=True)
        return
    rows = sorted(reasons)
    columns = {
        "galaxy_id": [catalogue.ids[row] for row in rows],
        "ra": catalogue.ra[rows],
        "dec": catalogue.dec[rows],
        "reason": [reasons[row] for row in rows],
    }
    with atomic_path(out / REJECTED, follow=False) as temporary:
        parquet.write_table(pyarrow.table(columns), temporary)
