"""Settings and completion of a folder with a manifest that several runs may fill."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow
from pyarrow import parquet

from dhs.manifest.format import MANIFEST, METADATA_KEY, PARTS, SETTINGS
from fastnorm.atomic import atomic_path
from fastnorm.json_text import parse_json
from fastnorm.paths import read_bytes, require_file

MOST_NAMED = 5
_CHECKSUM = "_sha256"


def claim_folder(
    out: Path,
    settings: dict[str, Any],
    what: str,
    advice: str = "use another folder, or delete this one to start again",
    words: Mapping[str, str] = MappingProxyType({}),
) -> bool:
    """Record the settings in an empty folder, or check them, and tell whether it is complete.

    Parameters
    ----------
    out : Path
        Folder to check.
    settings : dict
        All settings that determine the files, as JSON.
    what : str
        Contents of the folder, without an article, for the error messages.
    advice : str
        What to do about different settings, besides using those of the folder.
    words : mapping
        What to say if a setting differs whose values, checksums, mean nothing to a reader.

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
    there = read_settings(out)
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
    keys = [key for key, value in settings.items() if there.get(key) != value]
    changed = [words[key] for key in keys if key in words]
    differ = [line for key in keys for line in _differences(there.get(key), settings[key], key)]
    if changed and not differ:
        raise ValueError(f"{out}: {changed[0]}; {advice}.")
    if keys:
        listed = [*changed, *differ] or [f"another {key.removesuffix(_CHECKSUM)}" for key in keys]
        more = f"; and {len(listed) - MOST_NAMED} more" if len(listed) > MOST_NAMED else ""
        raise ValueError(
            f"{out} contains a {what} with different settings: "
            f"{'; '.join(listed[:MOST_NAMED])}{more}. Use those settings, {advice}."
        )
    return (out / MANIFEST).exists()


def _differences(found: Any, value: Any, name: str) -> Iterator[str]:
    """Name the values that differ, except for checksums: what they are of is named itself."""
    if isinstance(found, dict) and isinstance(value, dict):
        for key in dict.fromkeys([*value, *found]):
            yield from _differences(found.get(key), value.get(key), f"{name}.{key}")
    elif found != value and not name.endswith(_CHECKSUM):
        yield f"{name} is {_value(found)} in the folder and {_value(value)} in this run"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return f"({', '.join(f'{key} {inner}' for key, inner in value.items())})"
    return str(value)


def read_settings(out: Path) -> dict[str, Any] | None:
    """Read the settings that a folder records, or return None if there are none."""
    try:
        if (out / MANIFEST).exists():
            require_file(out / MANIFEST)
            text = (parquet.read_schema(out / MANIFEST).metadata or {})[METADATA_KEY]
        elif (out / PARTS / SETTINGS).exists():
            text = read_bytes(out / PARTS / SETTINGS)
        else:
            return None
        found = parse_json(text)
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
