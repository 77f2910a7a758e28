"""The configurations that are installed as the package ``dhs.configs``."""

from __future__ import annotations

import difflib
from importlib import resources
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import yaml
from pydantic import BaseModel

from fastnorm.atomic import atomic_path

READERS = {"train": "dhs train", "checkpoint": "dhs grid", "lenses": "dhs simulate --config"}
"""Command that reads a configuration with this section."""
SIMILAR = 0.7
"""Least similarity of a file's name to the one that is missing."""


class Installed(NamedTuple):
    """An installed configuration.

    ``name``: name of the file. ``command``: command that reads it, empty if none takes it as an
    argument. ``purpose``: first sentence of the file. ``text``: the whole file.
    """

    name: str
    command: str
    purpose: str
    text: str


def installed() -> list[Installed]:
    """Return all installed configurations, sorted by name."""
    texts = {
        item.name: item.read_text("utf-8")
        for item in resources.files("dhs.configs").iterdir()
        if item.name.endswith(".yaml")
    }
    return [_read(name, texts[name]) for name in sorted(texts)]


def copy_installed(name: str, out: Path | None = None, overwrite: bool = False) -> Path:
    """Copy an installed configuration.

    Parameters
    ----------
    name : str
        Name of the file, with or without ``.yaml``.
    out : Path, optional
        File to write; by default the same name in the working directory.
    overwrite : bool
        Replace an existing file.

    Returns
    -------
    Path
        File that was written.

    Raises
    ------
    ValueError
        No configuration has this name.
    FileExistsError
        ``out`` exists, and ``overwrite`` is False.
    OSError
        ``out`` cannot be written.
    """
    everything = installed()
    found = [item for item in everything if name in (item.name, item.name.removesuffix(".yaml"))]
    if not found:
        near = nearest(name, everything).name
        raise ValueError(
            f"there is no installed configuration {name!r} (nearest: {near}); dhs config list "
            "prints all."
        )
    target = Path(found[0].name) if out is None else out
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} already exists; use --overwrite to replace it.")
    with atomic_path(target) as temporary:
        temporary.write_text(found[0].text, "utf-8")
    return target


def nearest(name: str, among: list[Installed]) -> Installed:
    """Return the configuration whose name is most similar to this one."""
    (best,) = difflib.get_close_matches(name, [item.name for item in among], n=1, cutoff=0.0)
    return next(item for item in among if item.name == best)


def hint(path: Path, model: type[BaseModel]) -> str:
    """Name what was meant by a path that does not exist.

    That is a .yaml file beside it with a similar name, or else the nearest installed configuration
    of this model with the command that copies it.

    Parameters
    ----------
    path : Path
        Path that does not exist.
    model : type of BaseModel
        Model of the configuration.
    """
    beside = [file.name for file in path.parent.glob("*.y*ml")]
    meant = difflib.get_close_matches(path.name, beside, 1, SIMILAR)
    if meant:
        return f" Did you mean {path.with_name(meant[0])}?"
    return _nearest_installed(path, model)


def _nearest_installed(path: Path, model: type[BaseModel]) -> str:
    command = next((READERS[key] for key in READERS if key in model.model_fields), None)
    fitting = [item for item in installed() if item.command == command]
    if not fitting:
        return ""
    name = nearest(path.name, fitting).name
    return (
        f" The nearest installed configuration is {name}; copy it with: dhs config copy "
        f"{name.removesuffix('.yaml')}"
    )


def _read(name: str, text: str) -> Installed:
    head = takewhile(lambda line: line.startswith("#"), text.splitlines())
    sections = yaml.safe_load(text)
    command = next((READERS[key] for key in READERS if key in sections), "")
    sentence, _, _ = " ".join(line.strip("# ") for line in head).partition(". ")
    return Installed(name, command, sentence.rstrip(".") + ".", text)
