"""``fastnorm check``: compare every available backend with the reference, and time it.

A case is one plane in one setting. Only backends that equal the reference in all cases are
timed.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Literal

import torch
import typer

import fastnorm
from fastnorm.check.cases import Place, settings
from fastnorm.check.compare import Outcome, compare_checksums, compare_with_reference, one_line
from fastnorm.check.machine import describe
from fastnorm.check.speed import Room, Speed, measure
from fastnorm.dispatch import registry
from fastnorm.terminal import console

Device = Literal["cpu", "cuda", "all"]
Advance = Callable[[str, int], None]

ROUNDS, QUICK_ROUNDS = 21, 7
NOT_EQUAL = 1  # exit status


@dataclass
class Report:
    """The results of the whole check; ``rooms`` and ``speeds`` cover the timed devices."""

    device: Device
    outcomes: list[Outcome]
    rooms: list[Room] = field(default_factory=list)
    speeds: list[Speed] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def problems(self) -> list[str]:
        """Return why the check failed, one sentence per problem; empty if it passed."""
        found = [
            f"{outcome.name} differs from the reference in {differ:,} of {outcome.cases:,} cases."
            for outcome in self.outcomes
            if (differ := outcome.failed - outcome.stopped)
        ]
        found += [
            f"{outcome.name} stopped with an error in {outcome.stopped:,} of {outcome.cases:,} "
            f"cases: {next(failure.error for failure in outcome.failures if failure.error)}."
            for outcome in self.outcomes
            if outcome.stopped
        ]
        if self.device == "cuda" and not self._ran_in("cuda"):
            found.append(f"--device cuda was asked for, but {self._why_no_gpu()}.")
        elif not any(outcome.cases for outcome in self.outcomes):
            found.append("Nothing was compared.")
        return found + self.errors

    def verdict(self) -> str:
        """Return one line: passed or failed, number of cases, whether a GPU was measured."""
        if problems := self.problems():
            return f"FAILED: {' '.join(problems)} {self._gpu()}"
        ran = [outcome for outcome in self.outcomes if outcome.place]
        cases = sum(outcome.cases for outcome in ran)
        backends = f"{len(ran)} backend{'' if len(ran) == 1 else 's'}"
        return f"PASSED: {cases:,} cases on {backends} equal the reference exactly. {self._gpu()}"

    def gpu_measured(self) -> bool:
        return any(room.device == "cuda" for room in self.rooms)

    def _ran_in(self, place: Place) -> bool:
        return any(outcome.place == place for outcome in self.outcomes)

    def _why_no_gpu(self) -> str:
        if not torch.cuda.is_available():
            return "torch sees no CUDA device"
        return "no backend can run on the CUDA device here"

    def _gpu(self) -> str:
        if self.gpu_measured():
            reached = [
                f"{speed.backend} at {speed.of_copy:.2f} of a copy"
                for speed in self.speeds
                if speed.device == "cuda" and speed.name == "normalise"
            ]
            return f"The GPU was measured: {', '.join(reached)}."
        if self.device == "cpu":
            return "No GPU was measured: --device cpu leaves it out."
        if self.device == "cuda" or self._ran_in("cuda"):
            return "No GPU was measured."
        return f"The GPU part was not run and no GPU was measured: {self._why_no_gpu()}."


def run_selfcheck(device: Device, *, is_quick: bool, as_json: bool) -> None:
    """Run the check and print the report on stdout.

    Parameters
    ----------
    device : {"cpu", "cuda", "all"}
        Which backends to check, by device.
    is_quick : bool
        Use fewer settings and fewer timing rounds.
    as_json : bool
        Print one JSON object instead of text.

    Raises
    ------
    typer.Exit
        With status 1, unless the check passes.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    started = time.perf_counter()
    columns = (BarColumn(20), MofNCompleteColumn(), TextColumn("{task.description}"))
    screen = console(sys.stderr)
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task("")

        def advance(what: str, total: int) -> None:
            bar.update(task, advance=1, total=total, description=what)

        report = check(device, is_quick=is_quick, advance=advance)
    if as_json:
        seconds = time.perf_counter() - started
        typer.echo(json.dumps(as_dict(report) | {"seconds": round(seconds, 3)}, allow_nan=False))
    else:
        show(report)
    if report.problems():
        raise typer.Exit(NOT_EQUAL)


def check(device: Device, *, is_quick: bool, advance: Advance = lambda what, total: None) -> Report:
    """Compare every available backend with the reference, then time those that equal it.

    Parameters
    ----------
    device : {"cpu", "cuda", "all"}
        Which backends to check, by device.
    is_quick : bool
        Use fewer settings and fewer timing rounds.
    advance : callable, optional
        Called before every step with its name and the number of steps.

    Returns
    -------
    Report
        An exception in a backend is recorded as a failure, and is not raised.
    """
    report = Report(device, [_open(backend, device) for backend in fastnorm.backends()])
    steps: list[tuple[str, Callable[[], None]]] = []
    places: tuple[Place, ...] = ("cpu", "cuda", "interpreter")
    for place in places:
        there = [outcome for outcome in report.outcomes if outcome.place == place]
        for setting in settings(place, is_quick):
            steps += [
                (f"{outcome.name}, {setting}", partial(compare_with_reference, outcome, setting))
                for outcome in there
            ]
        if not (is_quick and place == "interpreter"):
            steps += [
                (f"{outcome.name}, checksums", partial(compare_checksums, outcome))
                for outcome in there
            ]
    rounds = QUICK_ROUNDS if is_quick else ROUNDS
    for timed in ("cpu", "cuda"):
        if report._ran_in(timed):
            steps.append((f"{timed}, timing", partial(_time, report, timed, rounds)))
    for what, step in steps:
        advance(what, len(steps))
        step()
    return report


def _open(backend: registry.Backend, device: Device) -> Outcome:
    if device not in (backend.device, "all"):
        return Outcome(backend.name, backend.device, None, "not asked for")
    if not backend.available:
        return Outcome(backend.name, backend.device, None, backend.reason)
    place: Place = "cuda" if backend.device == "cuda" else "cpu"
    if registry.takes_cpu_tensors(backend.name):
        place = "interpreter"
    return Outcome(backend.name, backend.device, place, "")


def _time(report: Report, device: Place, rounds: int) -> None:
    equal = [
        outcome.name
        for outcome in report.outcomes
        if outcome.place == device and not outcome.failed and outcome.name != "reference"
    ]
    if not equal:
        return
    try:
        room, speeds = measure(device, equal, rounds=rounds)
    except Exception as error:
        report.errors.append(f"The {device} could not be timed: {one_line(error)}.")
        return
    report.rooms.append(room)
    report.speeds += speeds


def as_dict(report: Report) -> dict[str, Any]:
    """Convert a report to the object that ``--json`` prints, in bytes, seconds and GB/s."""
    return {
        "machine": describe(),
        "device": report.device,
        "backends": [
            asdict(outcome) | {"failures": [failure._asdict() for failure in outcome.failures]}
            for outcome in report.outcomes
        ],
        "buffers": [room._asdict() for room in report.rooms],
        "speed": [speed._asdict() for speed in report.speeds],
        "errors": report.errors,
        "gpu_measured": report.gpu_measured(),
        "passed": not report.problems(),
        "verdict": report.verdict(),
    }


def show(report: Report) -> None:
    """Print the report on stdout, with the verdict last."""
    from rich.table import Table
    from rich.text import Text

    screen = console(sys.stdout)
    machine = Table(show_header=False)
    for name, value in describe().items():
        machine.add_row(name, Text(value, overflow="fold"))
    screen.print(machine)

    equality = Table("backend", "runs on", "cases", "differ", "stopped", "first call", "")
    for outcome in report.outcomes:
        seconds = outcome.first_call_seconds
        result = _result(outcome) if outcome.cases else outcome.reason
        equality.add_row(
            outcome.name,
            outcome.place or "-",
            f"{outcome.cases:,}",
            f"{outcome.failed - outcome.stopped:,}",
            f"{outcome.stopped:,}",
            "-" if seconds is None else f"{seconds:.2f} s",
            Text(result),
        )
    screen.print(equality)
    for outcome in report.outcomes:
        for failure in outcome.failures:
            screen.print(Text(f"- {failure}"))

    if report.speeds:
        speed = Table("speed", "device", "GB/s", "25-75 %", "of the copy")
        for line in report.speeds:
            speed.add_row(
                f"{line.backend}: {line.name}",
                line.device,
                f"{line.median:.2f}",
                f"{line.low:.2f}-{line.high:.2f}",
                f"{line.of_copy:.2f}",
            )
        screen.print(speed)
    for note in [*map(_buffers, report.rooms), *_not_timed(report)]:
        screen.print(Text(note))
    style = "bold red" if report.problems() else "bold green"
    screen.print(Text(report.verdict(), style), soft_wrap=True)


def _buffers(room: Room) -> str:
    threads = "" if room.threads is None else f", threads: {room.threads}"
    return (
        f"{room.device}: 3 x 101 x 101 float32, counted bytes, median of the rounds, over "
        f"{room.total_bytes / 2**20:,.0f} MiB in {room.buffers} pairs of buffers "
        f"(last cache: {room.cache_bytes / 2**20:.0f} MiB){threads}."
    )


def _result(outcome: Outcome) -> str:
    if not outcome.failed:
        return "equal"
    return "stopped" if outcome.stopped == outcome.failed else "differs"


def _not_timed(report: Report) -> list[str]:
    return [
        f"{outcome.name}: "
        f"{'interpreted' if outcome.place == 'interpreter' else _result(outcome)}: not timed."
        for outcome in report.outcomes
        if outcome.place == "interpreter" or (outcome.place and outcome.failed)
    ]
