"""The reliability page: every test that it names exists and runs on Linux without a GPU."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests import ROOT

TESTS = ROOT / "tests"
PAGE = ROOT / "docs" / "reliability.md"
NAME = re.compile(r"`([\w/]+\.py)::(\w+)`")
SKIPPING = {"skip", "skipif", "xfail", "gpu", "importorskip"}


def promises(text: str) -> dict[str, list[tuple[str, str]]]:
    """Return the tests of every promise, from the second cell of its table row."""
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| **")]
    found = {row[0].split("**")[1]: NAME.findall(row[1]) for row in rows}
    assert len(found) == len(rows)
    return found


PROMISES = promises(PAGE.read_text("utf-8"))


@cache
def functions(file: str) -> dict[str, ast.FunctionDef]:
    tree = ast.parse((TESTS / file).read_text("utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


def skips(function: ast.FunctionDef) -> set[str]:
    """Return the names in a test that would skip it."""
    return SKIPPING & {n.attr for n in ast.walk(function) if isinstance(n, ast.Attribute)}


@pytest.mark.parametrize("promise", PROMISES)
def test_a_promise_is_held_by_tests_that_run(promise: str) -> None:
    assert PROMISES[promise], "a promise without a test"
    for file, name in PROMISES[promise]:
        assert (TESTS / file).exists(), file
        assert name in functions(file), f"{file} has no {name}"
        assert not skips(functions(file)[name]), f"{file}::{name} is skipped somewhere"
        module = ast.parse((TESTS / file).read_text("utf-8")).body
        marks = [ast.unparse(n) for n in module if ast.unparse(n).startswith("pytestmark")]
        assert not any(re.search(r"skip|gpu", mark) for mark in marks)


def test_the_page_is_read_as_it_is_written() -> None:
    text = PAGE.read_text("utf-8")
    named = [pair for pairs in PROMISES.values() for pair in pairs]
    assert len(named) == len(NAME.findall(text)) == text.count(".py::")
    assert len(PROMISES) == text.count("\n| **") >= 10
    sample = "| **a**, b | `test_a.py::test_b`, `fuzz/test_c.py::test_d` | e |"
    assert promises(sample) == {"a": [("test_a.py", "test_b"), ("fuzz/test_c.py", "test_d")]}


def test_what_would_be_skipped_is_seen() -> None:
    code = "@pytest.mark.skipif(True)\ndef test_a(): pass\ndef test_b(): pytest.importorskip('x')\n"
    first, second = ast.parse(code).body
    assert isinstance(first, ast.FunctionDef)
    assert isinstance(second, ast.FunctionDef)
    assert (skips(first), skips(second)) == ({"skipif"}, {"importorskip"})
