"""Messages about faults in a configuration and about differences between two."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

from fastnorm.text import one_line

CLOSE, ALIKE = 0.8, 0.5
"""Similarity of a wrong key to a likely one, and to a possible one of the same section."""
MOST_NAMED = 3
MOST_LETTERS = 3000
"""Largest number of letters for all faults; a longer text loses its middle."""
_CHECKSUM, _NAME_OF_CHECKSUM = re.compile("[0-9a-f]{32,}"), re.compile("[._](fingerprint|sha256)$")


def describe(error: ValidationError, name: str, model: type[BaseModel]) -> str:
    """Return one sentence with every fault, and the nearest known key for an unknown one.

    Parameters
    ----------
    error : ValidationError
        Error raised by the model.
    name : str
        Name of the file or object that was read.
    model : type of BaseModel
        Model that raised the error.
    """
    faults = "; ".join(_fault(dict(fault), model) for fault in error.errors())
    return f"{name} is not valid: {one_line(faults, MOST_LETTERS)}."


def differences(first: Any, second: Any, name: str = "") -> list[str]:
    """List the differences between two nested values, each with its dotted name.

    Of checksums, only the name is given, because their values mean nothing to a reader.

    Parameters
    ----------
    first, second : Any
        Values of JSON or YAML.
    name : str
        Dotted name of the values, empty at the top.
    """
    if isinstance(first, dict) and isinstance(second, dict):
        return [
            line
            for key in sorted({*first, *second})
            for line in differences(first.get(key), second.get(key), f"{name}.{key}".lstrip("."))
        ]
    if first == second:
        return []
    if _is_checksum(first) or _is_checksum(second):
        return [f"{_NAME_OF_CHECKSUM.sub('', name)} changed"]
    return [f"{name} {first} against {second}"]


def _is_checksum(value: Any) -> bool:
    return isinstance(value, str) and _CHECKSUM.fullmatch(value) is not None


def _fault(fault: dict[str, Any], model: type[BaseModel]) -> str:
    place = [str(part) for part in fault["loc"]]
    path = ".".join(place)
    if fault["type"] == "missing":
        hint = getattr(_section(model, place[:-1]), "IF_MISSING", {}).get(place[-1])
        return f"{path} is missing" + (f"; {hint}" if hint else "")
    if fault["type"] != "extra_forbidden":
        message = fault["msg"].removeprefix("Value error, ").rstrip(".")
        return f"{path}: {message}" if path else message
    known = list(_section(model, place[:-1]).model_fields)
    nearest = _nearest(place, known, model)
    if nearest:
        return f"{path} is not a known key (nearest: {' or '.join(nearest)})"
    return f"{path} is not a known key (allowed: {', '.join(known)})"


def _nearest(place: list[str], known: list[str], model: type[BaseModel]) -> list[str]:
    """Return the likeliest keys: of this name in other sections, or else the closest name."""
    here, key = ".".join(place[:-1]), place[-1]
    everywhere = list(_keys(model))
    same = [name for name in everywhere if name.rpartition(".")[2] == key]
    if same:
        return same[:MOST_NAMED]
    names = {name.rpartition(".")[2]: name for name in reversed(everywhere)}
    names_here = {name: f"{here}.{name}".lstrip(".") for name in known}
    for among, least in ((names_here, CLOSE), (names, CLOSE), (names_here, ALIKE)):
        found = difflib.get_close_matches(key, among, 1, least)
        if found:
            return [among[found[0]]]
    return []


def _keys(model: type[BaseModel], before: str = "") -> Iterator[str]:
    """List the dotted names of all keys and sections."""
    for name, field in model.model_fields.items():
        yield before + name
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _keys(inner, f"{before}{name}.")


def _section(model: type[BaseModel], place: list[str]) -> type[BaseModel]:
    for name in place:
        inner = model.model_fields[name].annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return model
        model = inner
    return model
