"""``dhs grid plan``: what a grid will take, from a short trial, before anything heavy starts."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from dhs.selection.config import GridConfig
from dhs.selection.engine import Engine, Kind, Shard
from dhs.selection.run import default_workers, threads_of, with_absolute_paths
from dhs.statistics.thresholds import require_enough

TRIAL_BATCHES = 2


class Plan(NamedTuple):
    """What `make_plan` gives.

    ``cells`` of which ``cells_with_hosts`` have enough; ``injections``, ``negatives`` and
    ``shards`` to be made; ``hosts``: their number for every seeing and depth;
    ``seconds_per_injection`` and ``seconds_per_negative``, of one worker; ``seconds`` with
    ``workers``, as if they did not slow each other; ``bytes_on_disk`` at the end, of which there
    are twice as many while shards are put together; ``bytes_free``.
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
    threads: int
    batch_size: int
    seconds_per_injection: float
    seconds_per_negative: float
    seconds: float
    bytes_on_disk: float
    bytes_free: int
    spec: str
    device: str


def make_plan(config: GridConfig, workers: int | None = None) -> Plan:
    """Open a grid, time two batches of it, and extrapolate.

    Parameters
    ----------
    config : GridConfig
    workers : int, optional
        Of the run that is planned; every core by default.

    Raises
    ------
    ValueError, OSError
        As `dhs.selection.run.run_grid`, of checkpoint, hosts and thresholds.
    """
    config = with_absolute_paths(config)
    engine = Engine(config)
    require_enough(config.fpr_targets, len(engine.hosts), engine.hosts.data.name)
    count = workers or default_workers(config)
    with threads_of(config.threads), tempfile.TemporaryDirectory() as folder:
        per_injection, row_bytes = _trial(engine, "injections", engine.injections, Path(folder))
        per_negative, _ = _trial(engine, "negatives", engine.negatives, Path(folder))
    seconds = (engine.injections * per_injection + engine.negatives * per_negative) / count
    place = Path(config.out_dir)
    while not place.exists():
        place = place.parent
    return Plan(
        cells=len(config.cells()),
        cells_with_hosts=len(engine.cells),
        injections=engine.injections,
        negatives=engine.negatives,
        shards=len(engine.shards()),
        hosts=engine.hosts.counts,
        hosts_outside=engine.hosts.outside,
        hosts_without_seeing=engine.hosts.without_seeing,
        workers=count,
        threads=config.threads,
        batch_size=config.batch_size,
        seconds_per_injection=per_injection,
        seconds_per_negative=per_negative,
        seconds=seconds,
        bytes_on_disk=engine.injections * row_bytes,
        bytes_free=shutil.disk_usage(place).free,
        spec=str(engine.checkpoint.spec),
        device=engine.device.type,
    )


def _trial(engine: Engine, kind: Kind, total: int, folder: Path) -> tuple[float, float]:
    """Seconds and bytes of a row, from the second of two runs: the first one compiles."""
    rows = min(TRIAL_BATCHES * engine.config.batch_size, total)
    if not rows:
        return 0.0, 0.0
    shard, path = Shard(kind, 0, 0, rows), folder / f"{kind}.parquet"
    for stop in (min(engine.config.batch_size, rows), rows):
        started = time.perf_counter()
        engine.make(shard._replace(stop=stop), path, lambda done: None)
    return (time.perf_counter() - started) / rows, path.stat().st_size / rows
