"""JSON of files, which strangers may have written."""

from __future__ import annotations

import json
import math
from typing import Any

LARGEST = 2**63 - 1
MOST_DEEP = 64
"""Largest depth of lists and objects; deeper ones could not be written as JSON or YAML again."""


def parse_json(text: str | bytes) -> Any:
    """Parse JSON whose numbers fit 64 bits and whose keys occur once.

    Parameters
    ----------
    text : str or bytes

    Returns
    -------
    object

    Raises
    ------
    ValueError
        The text is not JSON, is nested too deeply, has a key twice or a number too large for 64
        bits, which neither floats nor tables could hold.
    """
    try:
        found = json.loads(text, object_pairs_hook=_once, parse_int=_integer, parse_float=_number)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    _require_flat(found)
    return found


def _require_flat(value: Any) -> None:
    level = [value]
    for _ in range(MOST_DEEP + 1):
        inner = [item for item in level if isinstance(item, dict | list)]
        if not inner:
            return
        level = [
            entry for item in inner for entry in (item.values() if isinstance(item, dict) else item)
        ]
    raise ValueError(f"it is nested too deeply (more than {MOST_DEEP} levels)")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("a key occurs twice")
    return result


def _integer(digits: str) -> int:
    # Python itself refuses 4,300 digits, with a hint that no user can follow.
    value = int(digits) if len(digits) <= 20 else LARGEST + 1
    if abs(value) > LARGEST:
        raise ValueError(f"it has an integer of more than 64 bits, {digits[:20]}...")
    return value


def _number(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"it has a number that is too large, {digits[:20]}")
    return value
