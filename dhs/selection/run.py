"""``dhs grid``: injection and recovery over a grid; resumed runs give identical output."""

from __future__ import annotations

import json
import threading
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pyarrow import parquet

from dhs.arguments import integer
from dhs.checkpoint import DeprecatedCheckpointWarning
from dhs.config.file import located
from dhs.jobs import executors
from dhs.jobs.claim import output_folder
from dhs.jobs.malloc import keep_freed_memory
from dhs.jobs.processes import local_pool
from dhs.manifest.format import METADATA_KEY
from dhs.model.batch_size import choose_device
from dhs.model.threads import threads_of
from dhs.selection.config import GridConfig
from dhs.selection.engine import NEGATIVES_SCHEMA, Engine, Shard
from dhs.selection.folder import (
    FALSE_POSITIVES,
    GRID,
    INJECTIONS,
    NEGATIVES,
    SELECTION,
    SHARDS,
    claim,
    describe,
    merge,
    missing,
    remove_shards,
)
from dhs.selection.injector import SCHEMA
from dhs.statistics.thresholds import find_thresholds, require_enough
from fastnorm.atomic import atomic_path
from fastnorm.dispatch import threads
from fastnorm.normalize.flat import describe_flat

Progress = Callable[[int, int], None]


class Grid(NamedTuple):
    """Result of `run_grid`.

    ``out``: the folder. ``metadata``: content of ``grid.json``. ``scored``: number of injections
    and non-lenses that this call scored. ``deaths``: number of times a worker died. ``pictures``:
    paths of the figures.
    """

    out: Path
    metadata: dict[str, Any]
    scored: int
    deaths: int
    pictures: list[Path]


class WorkerTask(NamedTuple):
    """Input of a worker: the grid, the folder for shards, and the expected fingerprint."""

    config: GridConfig
    folder: Path
    fingerprint: str


class Workers(NamedTuple):
    """Workers of a run.

    ``processes``: number of processes on this machine; 1 uses the current process, None uses
    `default_workers`. ``dask``: address of a Dask scheduler, or path of its scheduler file.
    ``dask_local``: number of workers of a Dask cluster that is started for this run.
    """

    processes: int | None = None
    dask: str | None = None
    dask_local: int | None = None


def run_grid(
    config: GridConfig,
    workers: Workers = Workers(),  # noqa: B008
    *,
    progress: Progress | None = None,
    warn: Callable[[str], None] = warnings.warn,
    picture_format: str = "png",
) -> Grid:
    """Run a grid into ``config.out_dir``, or resume an interrupted run.

    The output does not depend on where the work is done or how often it is interrupted. A
    complete folder is aggregated again, so its thresholds may change.

    Parameters
    ----------
    config : GridConfig
    workers : Workers
        Workers that compute the shards. Processes are spawned, so a script needs
        ``if __name__ == "__main__":``.
    progress : function, optional
        Called with the number of rows done and the total.
    warn : function
        Called with a message for every worker that died, and one about hosts with flat bands.
    picture_format : str
        ``png``, ``pdf`` or ``svg``.

    Returns
    -------
    Grid

    Raises
    ------
    TypeError, ValueError
        A number is out of range; the checkpoint or the hosts cannot be used; there are too few
        non-lenses for a false-positive rate; or the folder holds something else, or a grid with a
        different configuration.
    WorkersDiedError
        See `dhs.jobs.executors.run_all`.
    OSError
        A file cannot be read or written, or another process is writing to the folder.
    """
    given, config = config, with_absolute_paths(config)
    count = _check_workers(workers, config)
    engine = Engine(config)
    require_enough(config.fpr_targets, len(engine.hosts), engine.hosts.name)
    out = Path(config.out_dir)
    with output_folder(out, "a grid", "*", f"{SHARDS}/*", claim=partial(claim, out, engine)):
        todo = missing(out, engine)
        total = sum(shard.rows for shard in engine.shards())
        left = sum(shard.rows for shard in todo)
        done = total - left
        if engine.flat_hosts:
            warn(describe_flat(engine.flat_hosts.items(), sum(engine.flat_hosts.values())))
        for note in engine.inference.notes():
            warn(note)
        report = progress or (lambda done, total: None)
        report(done, total)

        def advance(rows: int) -> None:
            nonlocal done
            done += rows
            report(done, total)

        # Every worker must choose the same engine, or fail.
        settled = config.model_copy(update={"engine": engine.inference.engine})
        task = WorkerTask(settled, out / SHARDS, engine.injections_fingerprint)
        try:
            deaths = _make(engine, task, todo, workers, count, advance, warn)
            if engine.negatives:
                merge(out, engine, "negatives", NEGATIVES_SCHEMA)
            merge(out, engine, "injections", SCHEMA)
        except OSError as error:
            raise OSError(
                f"{str(error).rstrip('.')}. Complete shards are kept in {out}; run the same "
                "command again to resume."
            ) from error
        metadata = aggregate(out, engine, given)
        remove_shards(out)
        from dhs.selection.figure import draw_grid

        pictures = draw_grid(out, picture_format=picture_format)
    return Grid(out, metadata, left, deaths, pictures)


def with_absolute_paths(config: GridConfig) -> GridConfig:
    """Make paths absolute, so that workers in another folder or on another machine find them."""
    hosts = {
        name: str(Path(located(path)).absolute())
        for name in ("parquet_path", "manifest_path")
        if (path := getattr(config.hosts, name))
    }
    return config.model_copy(
        update={
            "checkpoint": str(Path(located(config.checkpoint)).absolute()),
            "out_dir": str(Path(config.out_dir).absolute()),
            "hosts": config.hosts.model_copy(update=hosts),
        }
    )


def aggregate(out: Path, engine: Engine, given: GridConfig) -> dict[str, Any]:
    """Compute thresholds and completeness from complete tables, and write the results.

    Parameters
    ----------
    out : Path
        Folder of the grid.
    engine : Engine
    given : GridConfig
        Configuration as the user wrote it; relative paths stay valid on other machines.

    Returns
    -------
    dict
        Content of ``grid.json``.
    """
    # Import here, because workers do not need statistics and figures.
    from dhs.selection.completeness import selection_function
    from dhs.selection.false_positives import false_positives, summary
    from dhs.selection.host_sums import Negatives
    from dhs.selection.intervals import METHODS

    config = engine.config
    negatives = None
    if config.fpr_targets:
        stored = parquet.read_table(out / NEGATIVES, columns=["host_row", "logit"])
        negatives = Negatives(stored["host_row"].to_numpy(), stored["logit"].to_numpy())
    logits = np.empty(0, np.float32) if negatives is None else negatives.logit
    thresholds = find_thresholds(config.thresholds, config.fpr_targets, logits)
    table = selection_function(out / INJECTIONS, config, thresholds, negatives)
    rates = None if negatives is None else false_positives(engine.hosts, thresholds, negatives)
    is_whole = (table["source_mag_bin"] == "all") & (table["threshold"] == table["threshold"][0])
    few = is_whole & table["few_hosts"]
    metadata = describe(engine) | {
        "config": given.model_dump(mode="json", exclude={"out_dir"}),
        "thresholds": [threshold.to_dict() for threshold in thresholds],
        "false_positives": summary(thresholds, rates),
        "intervals": METHODS,
        "cells": {
            "total": len(config.cells()),
            "with_hosts": len(engine.cells),
            "few_hosts": int((few & (table["n_hosts"] > 0)).sum()),
        },
        "hosts": {
            "used": engine.hosts.used,
            "assumed": config.hosts.assumed(),
            "outside": engine.hosts.outside,
            "without_seeing": engine.hosts.without_seeing,
            "with_flat_bands": len(engine.flat_hosts),
            "by_cell": engine.hosts.counts,
        },
        "injections": int(table.loc[is_whole, "n_injections"].sum()),
        "failed": int(table.loc[is_whole, "n_failed"].sum()),
        "shards": len(engine.shards()),
        "batch_size": config.batch_size,
        "inference": engine.inference._asdict(),
    }
    _write(out, table, rates, metadata)
    return metadata


def _write(out: Path, table: Any, rates: Any, metadata: dict[str, Any]) -> None:
    import pyarrow

    text = json.dumps(metadata, sort_keys=True, indent=1, allow_nan=False)
    arrow = pyarrow.Table.from_pandas(table, preserve_index=False)
    arrow = arrow.replace_schema_metadata({METADATA_KEY: text})
    with atomic_path(out / f"{SELECTION}.parquet") as temporary:
        parquet.write_table(arrow, temporary)
    with atomic_path(out / f"{SELECTION}.csv") as temporary:
        table.to_csv(temporary, index=False)
    if rates is None:
        (out / FALSE_POSITIVES).unlink(missing_ok=True)
    else:
        with atomic_path(out / FALSE_POSITIVES) as temporary:
            rates.to_csv(temporary, index=False)
    with atomic_path(out / GRID) as temporary:
        temporary.write_text(text + "\n", "utf-8")


def default_workers(config: GridConfig) -> int:
    """Return the number of cores divided by threads per worker; 1 on a GPU, which is shared."""
    if choose_device(config.device).type == "cuda":
        return 1
    return max(threads.num_threads() // config.threads, 1)


def _check_workers(workers: Workers, config: GridConfig) -> int:
    if workers.dask is not None and workers.dask_local is not None:
        raise ValueError("dask and dask_local exclude each other; give only one of them.")
    if workers.processes is not None and (
        workers.dask is not None or workers.dask_local is not None
    ):
        raise ValueError(
            "workers is a number of processes on this machine; with Dask, the cluster sets it."
        )
    if workers.dask_local is not None:
        return integer("dask_local", workers.dask_local, 1, 1024)
    asked = workers.processes
    return integer("workers", default_workers(config) if asked is None else asked, 1, 1024)


def _make(
    engine: Engine,
    task: WorkerTask,
    todo: list[Shard],
    workers: Workers,
    count: int,
    advance: Callable[[int], None],
    warn: Callable[[str], None],
) -> int:
    if not todo:
        return 0
    if workers.dask is not None or workers.dask_local is not None:
        with executors.dask_cluster(workers.dask, count) as (executor, found):
            # Dask repeats a job whose worker died, so the executor itself does not break.
            work = partial(_work, task)
            return executors.run_all(
                work, todo, lambda: nullcontext(executor), found, advance, warn
            )
    count = min(count, len(todo))
    if count == 1:
        with threads_of(engine.config.threads):
            for shard in todo:
                engine.make(shard, engine.path(task.folder, shard), advance)
        return 0
    folder = Path(engine.config.out_dir)
    pool = partial(local_pool, count, engine.config.threads, folder)
    return executors.run_all(partial(_work, task), todo, pool, count, advance, warn)


_engines: dict[str, Engine] = {}
_one_at_a_time = threading.Lock()


def _work(task: WorkerTask, shard: Shard) -> int:
    """Compute one shard in a worker, which keeps the grid open; return the number of rows."""
    with _one_at_a_time, threads_of(task.config.threads):
        engine = _engines.get(task.fingerprint)
        if engine is None:
            keep_freed_memory()
            # The main process has already issued this warning.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecatedCheckpointWarning)
                engine = Engine(task.config)
            if engine.injections_fingerprint != task.fingerprint:
                raise ValueError(
                    "a worker sees a different grid than the main process: files at the same paths "
                    f"or versions differ (worker: {engine.determining['versions']}); workers need "
                    "the same installation and the same files."
                )
            _engines.clear()
            _engines[task.fingerprint] = engine
        path = engine.path(task.folder, shard)
        engine.make(shard, path, lambda rows: None)
        return shard.rows
