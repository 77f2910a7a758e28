"""Check docstrings: summaries are sentences, and functions describe several parameters."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from numpydoc.docscrape import NumpyDocString

from tests import ROOT
from tests.project.sources import INSTALLED, sources

# Device code has no caller outside of its launcher; the options of a command carry their own help.
WITHOUT_PARAMETERS = ("kernels/triton_", "kernels/numba_", "dhs/commands/", "dhs/train/__main__")
NOT_A_SENTENCE = re.compile(r"(What|Of|As of|As `|Whose|Who|That which)\b")
PHRASES = re.compile(
    r"to the same bytes|goes on (with|to|from|where)|[^a-z]is none\b|if need be|belongs into"
    r"|help=\"Of |speaks? (neither )?for nor against|is no (YAML|number|image|file|folder)\b"
)
FEWEST = 3

Function = ast.FunctionDef | ast.AsyncFunctionDef


SOURCES = [path for path in sources() if path != Path(__file__)]


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and text of the docstring of every module, class and function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | Function):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "lineno", 1), text


def public_functions(tree: ast.Module) -> Iterator[Function]:
    """Functions and methods that no leading underscore hides."""
    for node in tree.body:
        if isinstance(node, Function) and not node.name.startswith("_"):
            yield node
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from (
                inner
                for inner in node.body
                if isinstance(inner, Function) and not inner.name.startswith("_")
            )


def undocumented(function: Function) -> set[str]:
    """Names of parameters that the docstring does not describe."""
    arguments = function.args
    names = [item.arg for item in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]]
    names = [name for name in names if name not in ("self", "cls")]
    if len(names) < FEWEST:
        return set()
    text = ast.get_docstring(function)
    sections = NumpyDocString(text) if text else {"Parameters": []}
    listed = {name.strip(" *") for item in sections["Parameters"] for name in item.name.split(",")}
    return set(names) - listed


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    odd = [(line, text[:60]) for line, text in docstrings(tree) if NOT_A_SENTENCE.match(text)]
    assert not odd
    name = str(path.relative_to(ROOT))
    if name.startswith(INSTALLED) and not name.startswith((*WITHOUT_PARAMETERS, "fastnorm/cli/")):
        missing = {f.name: undocumented(f) for f in public_functions(tree)}
        assert {name: found for name, found in missing.items() if found} == {}


PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "configs").iterdir()]


@pytest.mark.parametrize("path", [*SOURCES, *PAGES], ids=lambda path: str(path.relative_to(ROOT)))
def test_english(path: Path) -> None:
    lines = enumerate(path.read_text("utf-8").splitlines(), 1)
    assert [(k, line) for k, line in lines if PHRASES.search(line)] == []


def test_what_is_missing_is_seen() -> None:
    text = '"""What it is."""\ndef f(a, b, c):\n    """Of it.\n\n    Parameters\n    ----------\n'
    tree = ast.parse(text + '    a, b : int\n    """\ndef _g(a, b, c): pass\ndef h(a, b): pass\n')
    assert [bool(NOT_A_SENTENCE.match(text)) for _, text in docstrings(tree)] == [True, True]
    assert [undocumented(f) for f in public_functions(tree)] == [{"c"}, set()]
