"""Commands, run in this process."""

from __future__ import annotations

import typer
from typer.testing import CliRunner, Result


def invoke(app: typer.Typer, *arguments: object) -> Result:
    """Run a command; an error that it did not turn into a message is raised."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert "Traceback" not in result.output
    return result


def message(result: Result) -> str:
    """What was said on stderr, in one line."""
    return " ".join(result.stderr.split())
