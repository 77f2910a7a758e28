"""A soak test of the grid: runs under random faults must end with identical output.

Run it with ``python -m tests.faults.soak --seconds 600 --seed 0``. A storm is a sequence of one to
four faults on one folder, drawn with its own seed. Then the grid is completed, and its files are
compared with those of an undisturbed run. ``--seed S --storms 1`` repeats a single storm.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch

import fastnorm
from dhs.jobs import lock as folder_lock
from dhs.jobs.executors import WorkersDiedError
from dhs.selection.config import GridConfig
from dhs.selection.engine import Engine
from dhs.selection.folder import SETTINGS
from dhs.selection.run import Workers, run_grid
from tests.dhs.selection.grid_runs import FILES, bytes_of, grid, write_hosts, write_model

DONE, REFUSED, UNEXPECTED = 0, 2, 3
INTERRUPTED = 128 + signal.SIGINT
MOST_ATTEMPTS = 30

Moment = Callable[[int, str], None]
"""Called in the process of a run before every moment, with its number and its kind: ``fsync``,
``replace`` or ``progress``."""


class SoakError(AssertionError):
    """A run or a storm did not end as expected."""


class Ended(NamedTuple):
    """The end of a run: its exit status, or minus the signal that killed it, and its message."""

    status: int
    said: str


class Soak:
    """Runs of one small grid, each in its own process.

    Parameters
    ----------
    home : Path
        An empty folder for inputs and output.

    Attributes
    ----------
    out : Path
        The folder of the grid.
    moments : int
        Number of moments of an undisturbed run.
    counts : Counter
        Numbers of runs, storms, and faults that occurred.
    """

    def __init__(self, home: Path) -> None:
        self.home, self.out = home, home / "grid"
        write_hosts(home / "pack")
        write_model(home / "model.safetensors")
        self._warm_up()
        self.counts: Counter[str] = Counter()
        seen = home / "moments"

        def note(number: int, kind: str) -> None:
            seen.write_text(str(number))

        ended = self.run(note)
        self._expected = bytes_of(self.out)
        if ended.status != DONE or self._expected.keys() != set(FILES):
            raise SoakError(f"the undisturbed run ended with {ended}.")
        self.moments = int(seen.read_text())

    def _warm_up(self) -> None:
        """Compile and load once, in the parent, what every run would otherwise load again."""
        engine = Engine(self._config())
        first = {shard.kind: shard for shard in engine.shards()}
        for shard in first.values():
            engine.make(shard, self.home / "warm.parquet", lambda rows: None)

    def _config(self) -> GridConfig:
        return grid(self.home / "pack", self.home / "model.safetensors", self.out)

    def storm(self, seed: int) -> None:
        """Apply one to four faults, then check that the grid completes as if undisturbed."""
        from tests.faults.soak_faults import draw

        dice = random.Random(seed)
        shutil.rmtree(self.out, ignore_errors=True)
        faults = draw(dice)
        try:
            for fault in faults:
                self.counts[fault.__name__.replace("_", " ")] += fault(self, dice)
            self._finish()
        except SoakError as error:
            names = ", ".join(fault.__name__ for fault in faults)
            raise SoakError(
                f"the storm of seed {seed} ({names}): {error} To repeat it: "
                f"python -m tests.faults.soak --seed {seed} --storms 1"
            ) from error
        self.counts["storms"] += 1

    def _finish(self) -> None:
        for _ in range(MOST_ATTEMPTS):
            ended = self.run()
            if ended.status == DONE:
                break
            self.delete_what_is_named(ended)
        else:
            raise SoakError(f"the grid is incomplete after {MOST_ATTEMPTS} runs: {ended.said}")
        result = bytes_of(self.out)
        differ = [name for name in FILES if result.get(name) != self._expected[name]]
        if differ:
            raise SoakError(f"{', '.join(differ)} differ from those of the undisturbed run.")
        strange = {path.name for path in self.out.iterdir()} - {*FILES, SETTINGS}
        if strange:
            raise SoakError(f"{', '.join(sorted(strange))} was left behind.")

    def delete_what_is_named(self, ended: Ended) -> None:
        """Delete the damaged file that the message of a run names."""
        found = re.match(r"(\S+) (is damaged|holds \d+ rows).* delete it", ended.said, re.DOTALL)
        if ended.status != REFUSED or found is None:
            raise SoakError(f"a run ended with {ended.status}: {ended.said}")
        Path(found[1]).unlink()
        self.counts["damaged files that were named"] += 1

    def run(self, moment: Moment | None = None, workers: int = 1) -> Ended:
        """Run the grid and return how it ended."""
        return wait(*self.start(moment, workers))

    def start(
        self, moment: Moment | None = None, workers: int = 1, patience: float = 20
    ) -> tuple[int, Path]:
        """Start a run that waits ``patience`` seconds for the folder.

        Returns
        -------
        process : int
            Process id.
        said : Path
            File for the message of the run.
        """
        self.counts["runs"] += 1
        said = self.home / f"said-{self.counts['runs']}"
        process = os.fork()
        if not process:
            _be_a_run(self._config(), moment, workers, patience, said)
        return process, said


def wait(process: int, said: Path) -> Ended:
    """Wait for a run and return how it ended."""
    return ending(os.waitpid(process, 0)[1], said)


def ending(waited: int, said: Path) -> Ended:
    """Return how a run ended, from the status that the system reports."""
    status = os.waitstatus_to_exitcode(waited)
    text = said.read_text() if said.exists() else ""
    said.unlink(missing_ok=True)
    if status == UNEXPECTED:
        raise SoakError(f"a run ended with an unexpected error: {text}")
    return Ended(status, text)


def _be_a_run(
    config: GridConfig, moment: Moment | None, workers: int, patience: float, said: Path
) -> None:
    """Run the grid in a forked process, and exit."""
    status, text = UNEXPECTED, ""
    numbers = count(1)

    def tell(kind: str) -> None:
        if moment is not None:
            moment(next(numbers), kind)

    def telling(function: Callable[..., None], kind: str) -> Callable[..., None]:
        def told(*given: Any) -> None:
            tell(kind)
            function(*given)

        return told

    # A shell that runs the soak in the background makes it ignore SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in ("fsync", "replace"):
        setattr(os, name, telling(getattr(os, name), name))
    folder_lock.SECONDS_TO_WAIT_FOR_THE_FOLDER = patience
    # Figures have their own tests.
    pictures = sys.modules["dhs.selection.figure"] = ModuleType("figure")
    vars(pictures)["draw_grid"] = lambda out, **_: []
    try:
        run_grid(
            config,
            Workers(workers),
            progress=lambda done, total: tell("progress"),
            warn=lambda warning: None,
        )
        status = DONE
    except (OSError, ValueError, WorkersDiedError) as error:
        status, text = REFUSED, str(error)
    except KeyboardInterrupt:
        status = INTERRUPTED
    except BaseException as error:
        text = repr(error)
    finally:
        # The disk is no longer full.
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        said.write_text(text)
        os._exit(status)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="time in which storms start")
    parser.add_argument("--storms", type=int, default=sys.maxsize, help="largest number of storms")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the first storm; each storm adds 1"
    )
    given = parser.parse_args()
    # Forked processes do not have the threads of their parent.
    torch.set_num_threads(1)
    fastnorm.set_num_threads(1)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dhs-soak-") as home:
        soak = Soak(Path(home))
        for seed in range(given.seed, given.seed + given.storms):
            if time.monotonic() - started > given.seconds:
                break
            soak.storm(seed)
    counts, storms = soak.counts, soak.counts.pop("storms")
    print(f"soak: {storms} storms from seed {given.seed}, {counts.pop('runs')} runs;", end=" ")
    print(", ".join(f"{name} {number}" for name, number in sorted(counts.items())), end="; ")
    print(f"{storms} of {storms} ended with the output of an undisturbed run")


if __name__ == "__main__":
    main()
