"""Terminal output and exit status of the commands."""

from __future__ import annotations

import errno
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import typer
import typer.core

import fastnorm
from fastnorm.extras import missing_package
from fastnorm.paths import local_path
from fastnorm.text import printable, visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID
    from rich.table import Table

    from fastnorm.io import Rejected

# Exit status: some paths were rejected, or the command failed.
SOME_REJECTED, FAILED = 1, 2
MAY_BE_ADDRESSES = ("--data-origin", "--url", "--dask", "--reason", "--set")
"""Options whose values are not paths."""
WIDE = 240
"""Width of tables in files and pipes, where a reason on one line can be searched for."""
MOST_REASONS, MOST_NAMED = 50, 3
"""Largest numbers of reasons, and of files for each, in a list of what was rejected."""
SILENT_SECONDS = 2.0
"""Time that a picture may take before its progress is shown."""
LOG_SECONDS = 30.0
"""Time between two lines of progress in files and pipes."""
HELP_SETTINGS = {"help_option_names": ["-h", "--help"]}
"""Context settings of a program; its commands inherit them."""


def check_out(out: Path, *suffixes: str) -> None:
    """Fail before any work if the file ``out`` cannot be written."""
    folder = out.parent
    if out.suffix not in suffixes:
        allowed = " or ".join(filter(None, (", ".join(suffixes[:-1]), suffixes[-1])))
        fail(f"--out {out} must end in {allowed}.")
    if not folder.is_dir():
        fail(f"--out {out}: the folder {folder} does not exist; create it first.")
    if not os.access(folder, os.W_OK | os.X_OK):
        fail(f"--out {out}: the folder {folder} is not writable; choose another.")
    if out.is_dir():
        fail(f"--out {out} is a folder; name a file.")


def check_folder(out: Path) -> None:
    """Fail before any work if the folder ``out`` cannot be created or written."""
    if out.exists() and not out.is_dir():
        fail(f"--out {out} is a file; name a folder.")
    there = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        fail(f"--out {out}: the folder {there} is not writable; choose another.")


def finish(
    report: dict[str, Any],
    rejected: list[Rejected],
    started: float,
    done: str,
    as_json: bool,
    listed: Path | None = None,
) -> None:
    """Report what was written and what was rejected, and set the exit status.

    Parameters
    ----------
    report : dict
        The JSON report; ``report["written"]`` is the number of results.
    rejected : list of Rejected
        Paths that could not be used, with the reasons.
    started : float
        Start time in seconds, from `time.perf_counter`.
    done : str
        Line to print if anything was written.
    as_json : bool
        Print ``report`` as one JSON object instead of text.
    listed : Path, optional
        File that lists everything rejected; without it, the message names ``--json``.

    Raises
    ------
    typer.Exit
        With status 1, if a path was rejected or nothing was written.
    """
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
            print_rejected(rejected, listed)
    if rejected or not report["written"]:
        raise typer.Exit(SOME_REJECTED)


def print_rejected(rejected: list[Rejected], listed: Path | None = None) -> None:
    """Print rejected paths on stderr, by reason, the most frequent first.

    Parameters
    ----------
    rejected : list of Rejected
        At least one path, with the reasons.
    listed : Path, optional
        Same as in `finish`.
    """
    from rich.text import Text

    paths = [Path(os.path.abspath(item.path)) for item in rejected]
    folder = Path(os.path.commonpath([path.parent for path in paths]))
    files: dict[str, list[str]] = {}
    for item, path in zip(rejected, paths, strict=True):
        files.setdefault(item.reason, []).append(str(path.relative_to(folder)))
    reasons = sorted(files, key=lambda reason: -len(files[reason]))
    rows: list[tuple[str, str, list[str]]] = []
    for reason in reasons[:MOST_REASONS]:
        names, count = files[reason][:MOST_NAMED], len(files[reason])
        cut = [f"and {count - MOST_NAMED:,} more"] if count > MOST_NAMED else []
        rows.append((f"{count:,}", printable(reason), [*map(visible, names), *cut]))
    screen = console(sys.stderr)
    title = visible(f"{len(rejected):,} rejected in {folder}")
    screen.print(Text(title), soft_wrap=True)
    if screen.is_terminal:
        screen.print(_framed(rows))
    else:
        # A reason on one line can be searched for.
        lines = [line for row in rows for line in (" ".join(row[:2]), *(f"  {n}" for n in row[2]))]
        screen.print(Text("\n".join(lines)), soft_wrap=True)
    left = len(reasons) - MOST_REASONS
    if left > 0 or any(len(names) > MOST_NAMED for names in files.values()):
        more = f"{left:,} more reasons; " if left > 0 else ""
        say("note", "yellow", f"{more}{listed or '--json'} lists all.")


def _framed(rows: list[tuple[str, str, list[str]]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column("count", justify="right")
    for name in ("reason", "files"):
        table.add_column(name, overflow="fold")
    for count, reason, names in rows:
        # Text, not markup: file names may contain brackets.
        table.add_row(*map(Text, (count, reason, "\n".join(names))))
    return table


@contextmanager
def progress(files: list[Path]) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on stderr and yield the function that advances it."""
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
def counting(doing: str, things: str, after: float = 0.0) -> Iterator[Callable[[int, int], None]]:
    """Show progress on stderr and yield its update function, called as ``(done, total)``.

    A terminal shows a bar; files and pipes get a line every `LOG_SECONDS`, and the bar at the end.

    Parameters
    ----------
    doing : str
        Title of the bar.
    things : str
        What is counted.
    after : float
        Show nothing for so many seconds.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn(doing, markup=False),
        BarColumn(),
        TextColumn("{task.completed:.0f} of {task.total:.0f}"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=console(sys.stderr),
    )
    task: TaskID | None = None
    before, started = 0, 0.0
    began = logged = time.perf_counter()

    def show(done: int, total: int) -> None:
        nonlocal task, before, started, logged
        now = time.perf_counter()
        if task is None:
            # Work of an earlier run does not count in the rate of this one.
            before, started = done, now
            task = bar.add_task("", total=total, completed=done, rate="")
        rate = f"{(done - before) / max(now - started, 1e-9):.0f} {things}/s"
        bar.update(task, completed=done, rate=rate)
        if not bar.live.is_started and now - began >= after:
            bar.start()
        if now - logged >= LOG_SECONDS and not bar.console.is_terminal:
            logged = now
            bar.console.print(f"{doing}: {done:,} of {total:,} {things}, {rate}", highlight=False)

    if not after:
        bar.start()
    try:
        yield show
    finally:
        # A bar that was not started would print an empty line.
        if bar.live.is_started:
            bar.stop()


def say_not_drawn(left: int, shown: int) -> None:
    """Say how many cutouts ``--limit`` left out of a picture.

    Parameters
    ----------
    left : int
        Number of cutouts that were not read; with 0, nothing is said.
    shown : int
        Number of cutouts in the picture.
    """
    if left:
        what = "1 more cutout was" if left == 1 else f"{left:,} more cutouts were"
        say("note", "yellow", f"{what} not drawn; --limit {shown + left} draws all.")


@contextmanager
def messages(*kinds: type[Exception]) -> Iterator[None]:
    """Show errors of these kinds, by default errors of bad arguments, without a traceback."""
    shown = kinds or (TypeError, ValueError, fastnorm.BackendUnavailableError)
    try:
        yield
    except typer.Exit:  # a RuntimeError that has already shown its message
        raise
    except shown as error:
        missing = missing_package(error) if isinstance(error, ImportError) else None
        fail(missing or str(error))


@contextmanager
def annulus_warnings() -> Iterator[None]:
    """Show each annulus warning once, on one line."""
    with _recorded(fastnorm.AnnulusWarning) as caught:
        yield
    for message in dict.fromkeys(map(str, caught)):
        say("warning", "yellow", message)


@contextmanager
def notices() -> Iterator[None]:
    """Show what is unusual in files, once per reason, with the first file and their number."""
    from fastnorm.io import CutoutWarning

    with _recorded(CutoutWarning) as caught:
        yield
    files: dict[str, list[Path]] = {}
    for warning in caught:
        files.setdefault(warning.reason, []).append(warning.path)
    for reason, paths in files.items():
        count = len(paths) - 1
        more = f" and {count:,} more file{'s' * (count > 1)}" if count else ""
        say("note", "yellow", f"{paths[0]}{more}: {reason}")


@contextmanager
def _recorded(kind: type[Warning]) -> Iterator[list[Any]]:
    """Yield a list that the warnings of one kind are in afterwards; pass on all others."""
    found: list[Any] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", kind)
        yield found
    for item in caught:
        if issubclass(item.category, kind):
            found.append(item.message)
        elif isinstance(item.message, Warning):
            warnings.warn_explicit(item.message, None, item.filename, item.lineno)


_NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class Commands(typer.core.TyperGroup):
    """Commands that refuse addresses of data, and name the extra of a missing package."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for before, word in pairwise(["", *args]):
            name, _, value = word.partition("=") if word.startswith("--") else (before, "", word)
            if name not in MAY_BE_ADDRESSES:
                with messages(ValueError):
                    local_path(value)
        return super().parse_args(ctx, args)

    def main(self, *args: Any, **options: Any) -> Any:
        try:
            return super().main(*args, **options)
        except OSError as error:
            # Errors of files have a name, and a closed pipe ends a command without a word.
            if error.errno not in _NOT_WRITTEN or error.filename is not None:
                raise
            say("error", "red", f"the output cannot be written: {error.strerror}.")
            sys.exit(FAILED)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            message = missing_package(error)
            if message is None:
                raise
            fail(message)


def fail(message: str) -> NoReturn:
    """Show an error and exit with status 2."""
    say("error", "red", message)
    raise typer.Exit(FAILED)


def say(kind: str, colour: str, message: str) -> None:
    """Write one line to stderr.

    Parameters
    ----------
    kind : str
        Prefix of the line, such as ``"error"``.
    colour : str
        Rich colour of the prefix.
    message : str
        Text after the prefix.
    """
    from rich.text import Text

    line = Text.assemble((f"{kind}: ", f"bold {colour}"), printable(message))
    console(sys.stderr).print(line, soft_wrap=True)


def wide_console(stream: TextIO) -> Console:
    """Return a console that is `WIDE` in files and pipes, so that reasons are not broken."""
    screen = console(stream)
    if not screen.is_terminal:
        screen.width = WIDE
    return screen


def console(stream: TextIO) -> Console:
    """Return a rich console that writes to a stream, with brackets as they are, not as markup."""
    from rich.console import Console

    return Console(file=stream, markup=False)
