"""Configurations from YAML files, with values changed by hand for one run."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from dhs.config_errors import describe
from dhs.section import Section

DATA_VARIABLE = "DHS_DATA"
"""Environment variable: the folder that relative paths of data start from."""

Config = TypeVar("Config", bound=Section)


def read_config_file(path: str | Path, model: type[Config], settings: Iterable[str] = ()) -> Config:
    """Read a configuration.

    Parameters
    ----------
    path : str or Path
    model : type
        What the file has to be.
    settings : iterable of str
        ``section.key=value`` in place of what the file says, the value in YAML.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        It is no YAML; has an unknown key, and the nearest known one is named; misses a key; or a
        value is not allowed.
    """
    text = Path(path).read_text("utf-8")
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        needed = ", ".join(
            name for name, field in model.model_fields.items() if field.is_required()
        )
        raise ValueError(f"{path} is no configuration; it needs the sections {needed}.")
    for setting in settings:
        _apply(content, setting)
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise ValueError(describe(error, str(path), model)) from error


def located(path: str) -> str:
    """A path of data; a relative one starts from the folder of the data."""
    return str(Path(os.environ.get(DATA_VARIABLE, "")) / path) if path else ""


def _apply(content: dict[str, Any], setting: str) -> None:
    name, equals, value = setting.partition("=")
    *sections, key = name.split(".")
    if not equals or not all([*sections, key]):
        raise ValueError(f"--set {setting} is not of the form section.key=value, as train.lr=1e-4.")
    chosen = content
    for section in sections:
        chosen = chosen.setdefault(section, {})
        if not isinstance(chosen, dict):
            raise ValueError(f"--set {setting}: {section} is no section.")
    try:
        chosen[key] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ValueError(f"--set {setting}: the value is no YAML.") from error
