"""Settings and completion of a folder with a manifest that several runs may fill."""

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
    """Record the settings in an empty folder, or check them, and tell whether it is complete.

    Parameters
    ----------
    out : Path
        Folder to check.
    settings : dict
        All settings that determine the files, as JSON.
    what : str
        Contents of the folder, without an article, for the error messages.

    Returns
    -------
    bool
        Whether the folder has a manifest, which is written last.

    Raises
    ------
    ValueError
        The folder contains something else, or was written with different settings. It is not
        changed.
    """
    there = _settings_there(out)
    if there is None:
        foreign = sorted(path.name for path in out.iterdir() if not _is_fresh(path))
        if foreign:
            raise ValueError(
                f"{out} is not empty and does not contain a {what} ({', '.join(foreign[:3])}); "
                "give a folder that is empty or does not exist."
            )
        (out / PARTS).mkdir(exist_ok=True)
        with atomic_path(out / PARTS / SETTINGS) as temporary:
            temporary.write_text(json.dumps(settings, sort_keys=True, indent=1), "utf-8")
        return False
    differ = [key for key in settings if there.get(key) != settings[key]]
    if differ:
        listed = "; ".join(
            f"{key} is {there.get(key)} in the folder and {settings[key]} in this run"
            for key in differ
            # This is too long to show, and its checksum differs too.
            if key != "config"
        )
        raise ValueError(
            f"{out} contains a {what} with different settings: {listed}. Use those settings, use "
            "another folder, or delete this one to start again."
        )
    return (out / MANIFEST).exists()


def _settings_there(out: Path) -> dict[str, Any] | None:
    """Read the settings that a folder records, or return None if there are none."""
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
    """Tell whether a run was killed before it recorded its settings, so before its first shard."""
    if parts.name != PARTS or not parts.is_dir():
        return False
    return all(path.name.startswith(f".{SETTINGS}.tmp-") for path in parts.iterdir())


def remove_parts(out: Path) -> None:
    """Remove the intermediate files, which a complete folder does not need."""
    if (out / PARTS).is_dir():
        shutil.rmtree(out / PARTS)
