"""Helpers that run commands in the test process."""

from __future__ import annotations

import webbrowser

import pytest
import typer
from typer.testing import CliRunner, Result


def invoke(app: typer.Typer, *arguments: object) -> Result:
    """Run a command; raise any error that it did not turn into a message."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert "Traceback" not in result.output
    return result


def message(result: Result) -> str:
    """Return the text on stderr as one line."""
    return " ".join(result.stderr.split())


def record_opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that receives the addresses of what is opened; nothing is opened."""
    opened: list[str] = []

    def remember(address: str) -> bool:
        opened.append(address)
        return True

    monkeypatch.setattr(webbrowser, "open", remember)
    return opened
