"""Chains of source statements of the kernels.

A chain names a statement, the statement that called its function, and so on up
to the kernel. It contains only files of one directory.
"""

from __future__ import annotations

import ast
import functools
from pathlib import Path

Chain = tuple[tuple[str, int], ...]
"""Names of files and first lines of statements, innermost first."""


@functools.cache
def statement_lines(file: str) -> dict[int, int]:
    """Return the first line of the statement that contains each line of a file."""
    lines: dict[int, int] = {}

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.stmt):
            decorators = [d.lineno for d in getattr(node, "decorator_list", [])]
            first, last = min([node.lineno, *decorators]), node.end_lineno or node.lineno
            lines.update(dict.fromkeys(range(first, last + 1), node.lineno))
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(Path(file).read_text()))
    return lines


@functools.cache
def own_name(file: str, directory: Path) -> str | None:
    path = Path(file)
    return path.name if path.parent.resolve() == directory.resolve() else None


def own_line(file: str, line: int, directory: Path) -> Chain:
    """Return one link of a chain, or an empty one for a file in another directory."""
    name = own_name(file, directory)
    return () if name is None else ((name, statement_lines(file).get(line, line)),)


@functools.cache
def function_names(file: Path) -> dict[int, str]:
    """Return the name of the function that contains each line of a file."""
    return {
        line: node.name
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }


def function_of(chain: Chain, directory: Path) -> str:
    """Return the name of the innermost function of a chain, or "" for an empty chain."""
    return function_names(directory / chain[0][0]).get(chain[0][1], "") if chain else ""
