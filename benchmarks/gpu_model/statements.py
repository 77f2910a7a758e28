"""Chains of source statements of the kernels, and their counts.

A chain names a statement, the statement that called its function, and so on up
to the kernel. It contains only files of one directory.
"""

from __future__ import annotations

import ast
import functools
import sys
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

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


class StatementCounter:
    """Counter of the chains that run in Triton's interpreter, separately for each program.

    Create it once per process, before the first launch.

    Parameters
    ----------
    directory : Path
        Only statements in files of this directory are counted.
    """

    def __init__(self, directory: Path) -> None:
        # Imported here because it is slow, and not needed to compile kernels.
        from triton.runtime import interpreter

        self._directory = directory
        self._launch: CodeType = interpreter.GridExecutor.__call__.__code__
        self._kernel: FrameType | None = None
        self._is_own: dict[str, bool] = {}
        self._programs: list[Counter[tuple[tuple[str, int, int], ...]]] = []

        class CountingTransformer(interpreter.ASTTransformer):  # type: ignore[misc]
            def visit(self, node: ast.AST) -> ast.AST | list[ast.stmt]:
                node = super().visit(node)
                if isinstance(node, ast.For) and "static_range" in ast.unparse(node.iter):
                    # The compiler copies the body, and each copy runs once.
                    return [*map(note, node.body), node]
                if isinstance(node, ast.FunctionDef | ast.For):
                    node.body = [note(node), *with_notes(node.body)]
                elif isinstance(node, ast.While):
                    # The note returns None, so the condition decides.
                    node.test = ast.BoolOp(ast.Or(), [note(node).value, node.test])
                    node.body = with_notes(node.body)
                elif isinstance(node, ast.If):
                    node.body, node.orelse = with_notes(node.body), with_notes(node.orelse)
                return node

        def note(node: ast.stmt) -> ast.Expr:
            call = ast.Call(ast.Name("note_statement", ast.Load()), [], [])
            return ast.fix_missing_locations(ast.copy_location(ast.Expr(call), node))

        def with_notes(statements: list[ast.stmt]) -> list[ast.stmt]:
            return [s for statement in statements for s in (note(statement), statement)]

        interpreter.FunctionRewriter.ast_transformer = CountingTransformer()
        # The rewriter passes the names of its own module to every kernel.
        interpreter.note_statement = self._note

    def _owns(self, file: str) -> bool:
        if file not in self._is_own:
            self._is_own[file] = own_name(file, self._directory) is not None
        return self._is_own[file]

    def _note(self) -> None:
        frame: Any = sys._getframe(1)
        # Triton's own functions are rewritten as well, and have notes.
        if not self._owns(frame.f_code.co_filename):
            return
        place = []
        while frame.f_code is not self._launch:
            file = frame.f_code.co_filename
            if self._owns(file):
                place.append((file, frame.f_lineno, frame.f_lasti))
                kernel = frame
            frame = frame.f_back
        if kernel is not self._kernel:
            self._kernel = kernel
            self._programs.append(Counter())
        self._programs[-1][tuple(place)] += 1

    def take(self) -> list[dict[Chain, int]]:
        """Return how often each chain ran in every program since the last call."""
        taken = []
        for program in self._programs:
            counts: dict[Chain, int] = {}
            for place, count in program.items():
                chain = tuple(
                    link
                    for file, line, _ in place
                    for link in own_line(file, line, self._directory)
                )
                # Several calls of one function in one statement have the same chain.
                counts[chain] = max(counts.get(chain, 0), count)
            taken.append(counts)
        self._programs = []
        return taken
