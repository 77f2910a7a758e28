"""Tests of parsing JSON of files that strangers may have written."""

from __future__ import annotations

import json
import re

import pytest

from fastnorm.json_text import parse_json
from tests import ROOT


@pytest.mark.parametrize(
    "value", [None, True, 0, -(2**63) + 1, 2**63 - 1, 1.5, -1e308, "\u202e", [], {"a": [{"b": 1}]}]
)
def test_plain_values_are_as_written(value: object) -> None:
    assert parse_json(json.dumps(value)) == value
    assert parse_json(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("9223372036854775808", "more than 64 bits"),
        ("-9223372036854775808", "more than 64 bits"),
        ('{"a": [1' + 400 * "0" + "]}", "more than 64 bits"),
        (5000 * "9", "more than 64 bits"),
        ("1e400", "number that is too large, 1e400"),
        ('{"a": 1, "a": 2}', "a key occurs twice"),
        (100_000 * "[", "nested too deeply"),
        ("{", "Expecting"),
        (b"\xff", "can't decode"),
    ],
)
def test_others_are_refused(text: str | bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_json(text)


def test_every_file_is_read_here() -> None:
    """A round trip of own values, and this parser itself, are the only other uses."""
    users = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for layer in ("dhs", "fastnorm")
        for path in sorted((ROOT / layer).rglob("*.py"))
        for line in path.read_text("utf-8").splitlines()
        if re.search(r"\bjson\.loads?\(", line) and "json.loads(json.dumps(" not in line
    ]
    assert [user for user in users if "json_text.py" not in user] == []
