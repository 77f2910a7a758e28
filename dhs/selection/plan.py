"""``dhs grid plan``: estimate the time and disk space of a grid from a short trial."""

from __future__ import annotations

import heapq
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from concurrent.futures import Executor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dhs.checkpoint import DeprecatedCheckpointWarning
from dhs.jobs.malloc import keep_freed_memory
from dhs.jobs.processes import local_pool
from dhs.model.threads import threads_of
from dhs.selection.config import GridConfig
from dhs.selection.engine import Engine, Kind, Shard
from dhs.selection.flat_hosts import HOSTS_PER_READ, flat_hosts
from dhs.selection.run import default_workers, with_absolute_paths
from dhs.statistics.thresholds import require_enough

TRIAL_SECONDS = 2.0
"""Length of the trial of each kind of work; a shorter one depends on what else the cores do."""
BATCHES_PER_PART, FEWEST_PARTS = 2, 8
WITHIN = 1.5
"""The real time is expected within this factor of the estimate, on a machine with equal load."""
RESULTS, RESULTS_PER_INJECTION = 0.75, 1.2e-5
"""Time of the tables and pictures in units of the time to start a process, which depends on speed
and load in the same way; measured for grids of 2,500 and 192,500 injections."""
GOLDEN = (5**0.5 - 1) / 2


class Plan(NamedTuple):
    """Result of `make_plan`.

    ``cells``: number of cells; ``cells_with_hosts`` of them have enough hosts. ``injections``,
    ``negatives``, ``shards``: numbers to compute. ``hosts``: number of hosts for every seeing and
    depth; see `dhs.selection.hosts.Hosts` for ``hosts_outside`` and ``hosts_without_seeing``.
    ``workers``: number of processes; ``cores``: number that this machine runs without sharing
    cores. ``seconds_per_injection``, ``seconds_per_negative``: for one worker while all others
    work. ``seconds``: time of the whole command, the sum of ``seconds_start`` (programs and data
    are read, workers start), ``seconds_work`` (until the last worker is done) and
    ``seconds_results`` (tables and pictures); with more workers than cores, that of a machine
    with enough cores. ``seconds_range``: the real time is expected between these.
    ``bytes_on_disk``: final size; merging the shards needs twice as much for a while.
    ``bytes_free``: free space in the output folder.
    """

    cells: int
    cells_with_hosts: int
    injections: int
    negatives: int
    shards: int
    hosts: list[dict[str, float]]
    hosts_outside: int
    hosts_without_seeing: int
    workers: int
    cores: int
    threads: int
    batch_size: int
    seconds_per_injection: float
    seconds_per_negative: float
    seconds: float
    seconds_start: float
    seconds_work: float
    seconds_results: float
    seconds_range: tuple[float, float]
    bytes_on_disk: float
    bytes_free: int
    spec: str
    device: str


class _Trial(NamedTuple):
    """Seconds to start and per row, and bytes per injection, in one worker."""

    start: float
    per_injection: float
    per_negative: float
    row_bytes: float


def make_plan(config: GridConfig, workers: int | None = None) -> Plan:
    """Run parts of a grid for a few seconds, in as many workers, and extrapolate to the whole run.

    Parameters
    ----------
    config : GridConfig
    workers : int, optional
        Workers of the planned run; `dhs.selection.run.default_workers` by default. Several
        workers are spawned, so a script needs ``if __name__ == "__main__":``.

    Returns
    -------
    Plan

    Raises
    ------
    ValueError, OSError
        The checkpoint, hosts or thresholds cannot be used; see `dhs.selection.run.run_grid`.
    """
    config = with_absolute_paths(config)
    begun = time.perf_counter()
    engine = Engine(config)
    opening = time.perf_counter() - begun
    require_enough(config.fpr_targets, len(engine.hosts), engine.hosts.name)
    shards, cores = engine.shards(), default_workers(config)
    count = workers or cores
    busy = min(count, len(shards))
    with tempfile.TemporaryDirectory() as folder:
        trials = _trials(engine, min(busy, cores), Path(folder))
    start, per_injection, per_negative, row_bytes = np.mean(trials, axis=0).tolist()
    # A single worker is the command itself. Several start after it, and read the same again.
    in_workers = start + opening if busy > 1 else 0.0
    seconds_start = start + opening + _seconds_of_flat(engine) + in_workers
    work = _makespan(shards, busy, {"injections": per_injection, "negatives": per_negative})
    results = start * (RESULTS + RESULTS_PER_INJECTION * engine.injections)
    seconds = seconds_start + work + results
    place = Path(config.out_dir)
    while not place.exists():
        place = place.parent
    return Plan(
        cells=len(config.cells()),
        cells_with_hosts=len(engine.cells),
        injections=engine.injections,
        negatives=engine.negatives,
        shards=len(shards),
        hosts=engine.hosts.counts,
        hosts_outside=engine.hosts.outside,
        hosts_without_seeing=engine.hosts.without_seeing,
        workers=count,
        cores=cores,
        threads=config.threads,
        batch_size=config.batch_size,
        seconds_per_injection=per_injection,
        seconds_per_negative=per_negative,
        seconds=seconds,
        seconds_start=seconds_start,
        seconds_work=work,
        seconds_results=results,
        seconds_range=(seconds / WITHIN, seconds * WITHIN),
        bytes_on_disk=engine.injections * row_bytes,
        bytes_free=shutil.disk_usage(place).free,
        spec=str(engine.checkpoint.spec),
        device=engine.device.type,
    )


def _trials(engine: Engine, workers: int, folder: Path) -> list[_Trial]:
    """Run the trial in every worker at the same time, because they slow each other down."""
    config = engine.config
    if workers == 1:
        return [_Trial(_seconds_to_import(), *_measure(engine, folder))]
    with local_pool(workers, config.threads, folder) as pool:
        return _trials_in(pool, config, workers, folder)


def _trials_in(pool: Executor, config: GridConfig, workers: int, folder: Path) -> list[_Trial]:
    asked = time.time()
    futures = [pool.submit(_trial_of_worker, config, folder, k, asked) for k in range(workers)]
    return [future.result() for future in futures]


def _trial_of_worker(config: GridConfig, folder: Path, number: int, asked: float) -> _Trial:
    start = time.time() - asked
    keep_freed_memory()
    with warnings.catch_warnings():
        # The main process has already issued this warning.
        warnings.simplefilter("ignore", DeprecatedCheckpointWarning)
        engine = Engine(config)
    own = folder / str(number)
    own.mkdir()
    return _Trial(start, *_measure(engine, own))


def _measure(engine: Engine, folder: Path) -> tuple[float, float, float]:
    """Return seconds per injection and per negative, and bytes per injection."""
    with threads_of(engine.config.threads):
        per_injection, row_bytes = _time(engine, "injections", engine.injections, folder)
        per_negative, _ = _time(engine, "negatives", engine.negatives, folder)
    return per_injection, per_negative, row_bytes


def _time(engine: Engine, kind: Kind, total: int, folder: Path) -> tuple[float, float]:
    """Measure seconds and bytes per row on parts spread over all rows; cells differ in cost."""
    rows = min(BATCHES_PER_PART * engine.config.batch_size, total)
    if not rows:
        return 0.0, 0.0
    path = folder / f"{kind}.parquet"
    # The first part compiles kernels, which the machine then keeps.
    engine.make(Shard(kind, 0, 0, rows), path, lambda done: None)
    begun = time.perf_counter()
    parts, seconds = 0, 0.0
    while seconds < TRIAL_SECONDS or parts < FEWEST_PARTS:
        parts += 1
        start = int(parts * GOLDEN % 1 * (total - rows + 1))
        engine.make(Shard(kind, 0, start, start + rows), path, lambda done: None)
        seconds = time.perf_counter() - begun
    return seconds / (parts * rows), path.stat().st_size / rows


def _seconds_to_import() -> float:
    """Measure how long a new process takes before it can open a grid."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import dhs.selection.run"], check=True)
    return time.perf_counter() - begun


def _seconds_of_flat(engine: Engine) -> float:
    """Estimate how long the run looks for flat bands, for which it reads every host once."""
    begun = time.perf_counter()
    flat_hosts(engine.hosts, engine.checkpoint.spec, HOSTS_PER_READ)
    seconds = time.perf_counter() - begun
    return seconds * max(len(engine.hosts) / HOSTS_PER_READ, 1.0)


def _makespan(shards: list[Shard], workers: int, per_row: dict[Kind, float]) -> float:
    """Return when the last worker is done, if each takes the next shard as soon as it is free."""
    free_at = [0.0] * workers
    for shard in shards:
        done = heapq.heappop(free_at) + shard.rows * per_row[shard.kind]
        heapq.heappush(free_at, done)
    return max(free_at)
