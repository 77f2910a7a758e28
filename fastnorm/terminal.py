"""What the commands say on the terminal, and how they end."""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import typer

import fastnorm
from fastnorm.text import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

    from fastnorm.io import Rejected

# Exit status: some paths rejected, or nothing done.
SOME_REJECTED, FAILED = 1, 2


def check_out(out: Path, suffix: str) -> None:
    """Fail, before any work, where ``out`` cannot be written."""
    folder = out.parent
    if out.suffix != suffix:
        fail(f"--out {out} must end in {suffix}.")
    if not folder.is_dir():
        fail(f"--out {out}: the folder {folder} does not exist; make it first.")
    if not os.access(folder, os.W_OK | os.X_OK):
        fail(f"--out {out}: the folder {folder} is not writable; choose another.")
    if out.is_dir():
        fail(f"--out {out} is a folder; name a file.")


def check_folder(out: Path) -> None:
    """Fail, before any work, where the folder ``out`` cannot be made or written."""
    if out.exists() and not out.is_dir():
        fail(f"--out {out} is a file; name a folder.")
    there = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        fail(f"--out {out}: the folder {there} is not writable; choose another.")


def finish(
    report: dict[str, Any], rejected: list[Rejected], started: float, done: str, as_json: bool
) -> None:
    """Report what was done and what was not, and set the exit status."""
    if as_json:
        report["rejected"] = [
            {"path": printable(item.path), "reason": printable(item.reason)} for item in rejected
        ]
        report["seconds"] = round(time.perf_counter() - started, 3)
        typer.echo(json.dumps(report))
    else:
        if report["written"]:
            typer.echo(printable(done))
        if rejected:
            _print_rejected(rejected)
    if rejected or not report["written"]:
        raise typer.Exit(SOME_REJECTED)


def _print_rejected(rejected: list[Rejected]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"{len(rejected)} rejected", title_justify="left")
    table.add_column("path", overflow="fold")
    table.add_column("reason", overflow="fold")
    for item in rejected:
        # Text, not markup: names of files may hold brackets.
        table.add_row(Text(printable(item.path)), Text(printable(item.reason)))
    console(sys.stderr).print(table)


@contextmanager
def progress(files: list[Path]) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr, and yield the function that moves it."""
    from fastnorm.io import count_cutouts

    total, done = sum(map(count_cutouts, files)), 0
    with counting("normalising", "cutouts") as show:
        show(0, total)

        def advance(count: int) -> None:
            nonlocal done
            done += count
            show(done, total)

        yield advance


@contextmanager
def counting(doing: str, things: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on stderr, and yield the function that is told how many of how many are done."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn(doing),
        BarColumn(),
        TextColumn("{task.completed:.0f} of {task.total:.0f}"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=console(sys.stderr),
    )
    task: TaskID | None = None
    before, started = 0, 0.0

    def show(done: int, total: int) -> None:
        nonlocal task, before, started
        if task is None:
            # What an earlier run did is not of this one's rate.
            before, started = done, time.perf_counter()
            task = bar.add_task("", total=total, completed=done, rate="")
        seconds = max(time.perf_counter() - started, 1e-9)
        bar.update(task, completed=done, rate=f"{(done - before) / seconds:.0f} {things}/s")

    with bar:
        yield show


@contextmanager
def messages(*kinds: type[Exception]) -> Iterator[None]:
    """Show errors of these kinds, by default those of wrong values, without a traceback."""
    shown = kinds or (TypeError, ValueError, fastnorm.BackendUnavailableError)
    try:
        yield
    except typer.Exit:  # a RuntimeError of its own, after a message of its own
        raise
    except shown as error:
        fail(str(error))


@contextmanager
def annulus_warnings() -> Iterator[None]:
    """Show each warning of an annulus once, as a line."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", fastnorm.AnnulusWarning)
        yield
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        say("warning", "yellow", message)


def fail(message: str) -> NoReturn:
    """Show an error and end."""
    say("error", "red", message)
    raise typer.Exit(FAILED)


def say(kind: str, colour: str, message: str) -> None:
    """Write one line to stderr."""
    from rich.text import Text

    line = Text.assemble((f"{kind}: ", f"bold {colour}"), printable(message))
    console(sys.stderr).print(line, soft_wrap=True)


def console(stream: TextIO) -> Console:
    """Make a rich console of a stream."""
    from rich.console import Console

    return Console(file=stream)
