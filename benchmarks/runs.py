"""Files of ``make bench`` runs, in the format of pytest-benchmark.

The classes of pytest-benchmark write them, so that ``pytest-benchmark compare`` can read them.
Additional data are in the fields for users: ``extra_info`` of every contender, and
``machine_info``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    AwareDatetime,
    BaseModel,
    Field,
    FiniteFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)
from pytest_benchmark import plugin
from pytest_benchmark.stats import Metadata

from benchmarks.cases import COPY
from benchmarks.timing import Case, Timed, ratios
from fastnorm.atomic import atomic_path
from fastnorm.check import machine

FOLDER = Path(".benchmarks")
CUTOUT_BYTES = 3 * 101 * 101 * 4
pytest_benchmark: Any = plugin  # it is untyped


class Stats(BaseModel):
    """Times of a call in every round, in seconds."""

    data: Annotated[list[Annotated[FiniteFloat, Field(gt=0)]], Field(min_length=1)]


class Extra(BaseModel):
    """A contender, and the rounds in which it took part."""

    contender: str
    kind: str
    cutouts: PositiveInt
    threads: PositiveInt
    rounds: list[int]


class Entry(BaseModel):
    """One contender on one stack."""

    stats: Stats
    extra_info: Extra

    @model_validator(mode="after")
    def _every_round_is_timed(self) -> Self:
        if len(self.stats.data) != len(self.extra_info.rounds):
            raise ValueError("the numbers of rounds and times differ")
        return self

    def timed(self) -> Timed:
        return Timed(self.stats.data, self.extra_info.rounds)


class MachineInfo(BaseModel):
    """Result of `fastnorm.check.machine.describe`, and the fraction of processors others used."""

    fastnorm: dict[str, str]
    others: float | None

    @model_validator(mode="after")
    def _has_a_processor(self) -> Self:
        if "CPU" not in self.fastnorm:
            raise ValueError("fastnorm names no CPU")
        return self

    def __str__(self) -> str:
        return self.fastnorm["CPU"]


class CommitInfo(BaseModel):
    id: str
    dirty: bool

    def __str__(self) -> str:
        return self.id[:7] + " with changes" * self.dirty


class Run(BaseModel):
    """The part of a file that is read; the rest is for pytest-benchmark."""

    datetime: AwareDatetime
    machine_info: MachineInfo
    commit_info: CommitInfo
    benchmarks: Annotated[list[Entry], Field(min_length=1)]

    @model_validator(mode="after")
    def _every_round_has_a_copy(self) -> Self:
        if sum(map(len, self.stacks().values())) != len(self.benchmarks):
            raise ValueError("a contender is listed twice")
        for cutouts, found in self.stacks().items():
            if COPY not in found:
                raise ValueError(f"{cutouts} cutouts have no {COPY}")
            copied = set(found[COPY].extra_info.rounds)
            for name, entry in found.items():
                if not copied.issuperset(entry.extra_info.rounds):
                    raise ValueError(f"{name} was timed in rounds without {COPY}")
        return self

    def __str__(self) -> str:
        return f"{self.commit_info}, {self.datetime.astimezone(UTC):%Y-%m-%d %H:%M} UTC"

    def stacks(self) -> dict[int, dict[str, Entry]]:
        """Return the contenders by number of cutouts and name."""
        found: dict[int, dict[str, Entry]] = {}
        for entry in self.benchmarks:
            of_stack = found.setdefault(entry.extra_info.cutouts, {})
            of_stack[entry.extra_info.contender] = entry
        return found

    def groups(self) -> list[str]:
        """Return labels of the stacks, the largest first."""
        found = {(e.extra_info.cutouts, e.extra_info.threads) for e in self.benchmarks}
        return [group(*each) for each in sorted(found, reverse=True)]

    def ratios(self, cutouts: int) -> dict[str, NDArray[np.float64]]:
        """Return ratios to the copy of the same round, by contender."""
        of_stack = self.stacks()[cutouts]
        copy = of_stack[COPY].timed()
        return {name: ratios(entry.timed(), copy) for name, entry in of_stack.items()}


def as_json(
    timed: Mapping[int, Mapping[str, Timed]],
    stacks: Mapping[int, Sequence[Case]],
    threads: Mapping[int, int],
    others: float | None,
) -> dict[str, Any]:
    """Convert timings to the JSON of pytest-benchmark.

    Parameters
    ----------
    timed, stacks, threads : mapping
        Result and input of `time_in_turns`, and the number of threads, by number of cutouts.
    others : float or None
        Fraction of the processors that others used meanwhile.
    """
    entries = [
        _entry(case, cutouts, threads[cutouts], timed[cutouts])
        for cutouts, contenders in stacks.items()
        for case in contenders
    ]
    written: dict[str, Any] = pytest_benchmark.pytest_benchmark_generate_json(
        config=None,
        benchmarks=entries,
        include_data=True,
        machine_info=pytest_benchmark.pytest_benchmark_generate_machine_info()
        | {"fastnorm": machine.describe(), "others": others},
        commit_info=pytest_benchmark.get_commit_info(),
    )
    return written


def group(cutouts: int, threads: int) -> str:
    return f"{cutouts} cutouts, {threads} thread{'s' * (threads > 1)}"


def _entry(case: Case, cutouts: int, threads: int, found: Mapping[str, Timed]) -> Any:
    timed, to_copy = found[case.name], ratios(found[case.name], found[COPY])
    moved, seconds = 2 * cutouts * CUTOUT_BYTES, float(np.median(timed.seconds))
    fixture = SimpleNamespace(
        name=f"{case.name}[{cutouts}]",
        fullname=f"benchmarks::{case.name}[{cutouts}]",
        group=group(cutouts, threads),
        param=str(cutouts),
        params={"cutouts": cutouts},
        cprofile_stats=None,
        has_error=False,
        extra_info={
            "contender": case.name,
            "kind": case.kind,
            "cutouts": cutouts,
            "threads": threads,
            "bytes_moved": moved,
            "seconds_per_cutout": seconds / cutouts,
            "gigabytes_per_second": moved / seconds / 1e9,
            "ratio_to_copy": float(np.median(to_copy)),
            "rounds": timed.rounds,
        },
    )
    entry: Any = Metadata(fixture, 1, {})  # type: ignore[no-untyped-call]
    entry.stats.data = timed.seconds
    return entry


def write(content: dict[str, Any], file: Path | None = None) -> Path:
    """Write a run to a file, by default to `FOLDER`, named by time and commit."""
    if file is None:
        FOLDER.mkdir(exist_ok=True)
        time = datetime.fromisoformat(content["datetime"])
        file = FOLDER / f"{time:%Y%m%dT%H%M%SZ}_{content['commit_info']['id'][:7]}.json"
    with atomic_path(file) as temporary:
        temporary.write_text(json.dumps(content, indent=1, allow_nan=False))
    return file


def read(file: Path) -> Run:
    """Read a run.

    Raises
    ------
    ValueError
        The file is damaged, or not a run of ``make bench``.
    OSError
        It cannot be read.
    """
    try:
        return Run.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(
            f"{file} is not a run of `make bench`, or is damaged: {place + ': ' if place else ''}"
            f"{first['msg']}. Remove it, or choose another."
        ) from error


def files(folder: Path = FOLDER) -> list[Path]:
    """Return all runs of a folder, the oldest first."""
    return sorted(folder.glob("*.json"))
