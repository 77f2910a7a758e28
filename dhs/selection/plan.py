"""``dhs grid plan``: estimate the time and disk space of a grid from a short trial."""

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
    """Result of `make_plan`.

    ``cells``: number of cells; ``cells_with_hosts`` of them have enough hosts. ``injections``,
    ``negatives``, ``shards``: numbers to compute. ``hosts``: number of hosts for every seeing and
    depth; see `dhs.selection.hosts.Hosts` for ``hosts_outside`` and ``hosts_without_seeing``.
    ``seconds_per_injection``, ``seconds_per_negative``: for one worker. ``seconds``: total for
    ``workers`` that do not slow each other down. ``bytes_on_disk``: final size; merging the
    shards needs twice as much for a while. ``bytes_free``: free space in the output folder.
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
    """Time two batches of a grid and extrapolate to the whole run.

    Parameters
    ----------
    config : GridConfig
    workers : int, optional
        Workers of the planned run; `dhs.selection.run.default_workers` by default.

    Returns
    -------
    Plan

    Raises
    ------
    ValueError, OSError
        The checkpoint, hosts or thresholds cannot be used; see `dhs.selection.run.run_grid`.
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
    """Measure seconds and bytes per row in the second of two runs; the first one compiles."""
    rows = min(TRIAL_BATCHES * engine.config.batch_size, total)
    if not rows:
        return 0.0, 0.0
    shard, path = Shard(kind, 0, 0, rows), folder / f"{kind}.parquet"
    for stop in (min(engine.config.batch_size, rows), rows):
        started = time.perf_counter()
        engine.make(shard._replace(stop=stop), path, lambda done: None)
    return (time.perf_counter() - started) / rows, path.stat().st_size / rows
