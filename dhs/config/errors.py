"""Messages about faults in a configuration and about differences between two."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import BaseModel, ValidationError

from fastnorm.text import one_line

MOST_LETTERS = 3000
"""Largest number of letters for all faults; a longer text loses its middle."""


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
    return [] if first == second else [f"{name} {first} against {second}"]


def _fault(fault: dict[str, Any], model: type[BaseModel]) -> str:
    place = [str(part) for part in fault["loc"]]
    path = ".".join(place) or "the file"
    if fault["type"] == "missing":
        return f"{path} is missing"
    if fault["type"] != "extra_forbidden":
        message = fault["msg"].removeprefix("Value error, ").rstrip(".")
        return f"{path}: {message}"
    known = list(_section(model, place[:-1]).model_fields)
    nearest = difflib.get_close_matches(place[-1], known, 1, 0.5)
    if nearest:
        return f"{path} is not a known key (nearest: {'.'.join([*place[:-1], nearest[0]])})"
    return f"{path} is not a known key (allowed: {', '.join(known)})"


def _section(model: type[BaseModel], place: list[str]) -> type[BaseModel]:
    for name in place:
        inner = model.model_fields[name].annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return model
        model = inner
    return model
