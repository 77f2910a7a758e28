"""Brackets in texts that rich prints: file names and names of extras have them."""

from __future__ import annotations

import ast
import io
from typing import Any

import pytest
import typer
from rich.table import Table

import fastnorm
from dhs.cli import app as dhs_app
from fastnorm.cli import app as fastnorm_app
from fastnorm.extras import how_to_install
from fastnorm.terminal import console, counting
from tests import ROOT
from tests.command_line import invoke

INSTALL = how_to_install("cuda")
DOOR = ROOT / "fastnorm" / "terminal.py"


def test_all_that_a_console_prints_keeps_its_brackets() -> None:
    table = Table(INSTALL, title=INSTALL, caption=INSTALL)
    table.add_row(INSTALL)
    stream = io.StringIO()
    screen = console(stream)
    screen.width = 100
    screen.print(INSTALL)
    screen.print(table)
    assert stream.getvalue().count(INSTALL) == 5


def test_progress_keeps_its_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    with counting(INSTALL, "cutouts") as show:
        show(1, 1)
    assert INSTALL.split()[2] in " ".join(capsys.readouterr().err.split())


def test_backends_keeps_its_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = [fastnorm.Backend("numba-cuda", "cuda", False, INSTALL)]
    monkeypatch.setattr(fastnorm, "backends", lambda: listed)
    assert INSTALL in invoke(fastnorm_app, "backends").stdout


def test_consoles_are_made_at_one_door() -> None:
    """A console made elsewhere reads brackets as markup."""
    found = []
    for folder in ("fastnorm", "dhs", "examples"):
        for path in (ROOT / folder).rglob("*.py"):
            calls = (node for node in ast.walk(ast.parse(path.read_text("utf-8"))))
            made = [node for node in calls if isinstance(node, ast.Call)]
            if path != DOOR and any(ast.unparse(node.func).endswith("Console") for node in made):
                found.append(str(path.relative_to(ROOT)))
    assert found == []


def test_no_help_has_brackets() -> None:
    """Typer reads help as markup."""
    found: list[tuple[str, str]] = []

    def look(command: Any, path: str) -> None:
        options = [getattr(option, "help", None) for option in command.params]
        found.extend((path, text) for text in (command.help, *options) if text and "[" in text)
        for name, child in getattr(command, "commands", {}).items():
            look(child, f"{path} {name}")

    look(typer.main.get_command(dhs_app), "dhs")
    look(typer.main.get_command(fastnorm_app), "fastnorm")
    assert found == []
