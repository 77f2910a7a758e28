"""What is wrong with a configuration, or differs between two, in words that help."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import BaseModel, ValidationError

from fastnorm.text import one_line

MOST_LETTERS = 3000
"""Of all faults together; the middle of more is left out."""


def describe(error: ValidationError, name: str, model: type[BaseModel]) -> str:
    """One sentence that names every fault, and for an unknown key the nearest known one.

    Parameters
    ----------
    error : ValidationError
    name : str
        Of what was read.
    model : type of BaseModel
        What it was read as.
    """
    faults = "; ".join(_fault(dict(fault), model) for fault in error.errors())
    return f"{name} is not allowed: {one_line(faults, MOST_LETTERS)}."


def differences(first: Any, second: Any, name: str = "") -> list[str]:
    """Where two nested values differ, by their innermost names."""
    if isinstance(first, dict) and isinstance(second, dict):
        return [
            line
            for key in sorted({*first, *second})
            for line in differences(first.get(key), second.get(key), f"{name}.{key}".lstrip("."))
        ]
    return [] if first == second else [f"{name} {first} against {second}"]


def _fault(fault: dict[str, Any], model: type[BaseModel]) -> str:
    place = [str(part) for part in fault["loc"]]
    path = ".".join(place) or "the whole"
    if fault["type"] == "missing":
        return f"{path} is missing"
    if fault["type"] != "extra_forbidden":
        message = fault["msg"].removeprefix("Value error, ").rstrip(".")
        return f"{path}: {message}"
    known = list(_section(model, place[:-1]).model_fields)
    nearest = difflib.get_close_matches(place[-1], known, 1, 0.5)
    if nearest:
        return f"{path} is not known, the nearest key is {'.'.join([*place[:-1], nearest[0]])}"
    return f"{path} is not known, allowed are {', '.join(known)}"


def _section(model: type[BaseModel], place: list[str]) -> type[BaseModel]:
    for name in place:
        inner = model.model_fields[name].annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return model
        model = inner
    return model
