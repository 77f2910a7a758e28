"""A folder that is filled in several runs: whose it is, and what is left over in it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from dhs.manifest.format import MANIFEST, METADATA_KEY, PARTS, SETTINGS
from fastnorm.atomic import atomic_path


def claim_folder(out: Path, settings: dict[str, Any], what: str) -> bool:
    """Is the work complete? Write down the settings in an empty folder.

    Parameters
    ----------
    out : Path
    settings : dict
        JSON of all that the bytes depend on.
    what : str
        What the folder holds.

    Raises
    ------
    ValueError
        The folder holds something else, or the same of other settings; it is not touched.
    """
    there = _settings_there(out)
    if there is None:
        foreign = sorted(path.name for path in out.iterdir() if not _is_fresh(path))
        if foreign:
            raise ValueError(
                f"{out} is not empty and holds no {what} ({', '.join(foreign[:3])}); "
                "name an empty folder, or one that does not exist."
            )
        (out / PARTS).mkdir(exist_ok=True)
        with atomic_path(out / PARTS / SETTINGS) as temporary:
            temporary.write_text(json.dumps(settings, sort_keys=True, indent=1), "utf-8")
        return False
    differ = [key for key in settings if there.get(key) != settings[key]]
    if differ:
        listed = "; ".join(
            f"{key} is {there.get(key)} there, {settings[key]} here"
            for key in differ
            # Too long to be shown; its checksum differs, too.
            if key != "config"
        )
        raise ValueError(
            f"{out} holds a {what} of other settings: {listed}. Use those settings, name "
            "another folder, or delete this one to make it anew."
        )
    return (out / MANIFEST).exists()


def _settings_there(out: Path) -> dict[str, Any] | None:
    """What a folder says that it holds, or None."""
    try:
        if (out / MANIFEST).exists():
            text = (parquet.read_schema(out / MANIFEST).metadata or {})[METADATA_KEY]
        elif (out / PARTS / SETTINGS).exists():
            text = (out / PARTS / SETTINGS).read_bytes()
        else:
            return None
        found = json.loads(text)
    except (pyarrow.ArrowInvalid, KeyError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_fresh(parts: Path) -> bool:
    """A run was killed before it had written down its settings, hence before its first shard."""
    if parts.name != PARTS or not parts.is_dir():
        return False
    return all(path.name.startswith(f".{SETTINGS}.tmp-") for path in parts.iterdir())


def remove_parts(out: Path) -> None:
    """Remove what complete work does not need."""
    if (out / PARTS).is_dir():
        shutil.rmtree(out / PARTS)
