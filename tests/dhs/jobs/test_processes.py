"""Worker processes: progress, errors, and restarts after a death."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dhs.jobs.executors import MOST_DEATHS, WorkersDiedError
from dhs.jobs.lock import only_writer
from dhs.jobs.processes import run_jobs

JOBS = [3, 1, 4, 1, 5, 9]


def _write(folder: Path, deaths: int, job: int, advance: Callable[[int], None]) -> None:
    """Count to ``job``; the job 5 kills its process ``deaths`` times, half way."""
    advance(job // 2)
    if job == 5:
        past = len(list(folder.glob("death-*")))
        if past < deaths:
            (folder / f"death-{past}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
    advance(job - job // 2)
    (folder / f"done-{job}").touch()


def _fail(job: int, advance: Callable[[int], None]) -> None:
    raise ValueError(f"job {job} cannot be done")


def _run(
    folder: Path, deaths: int, workers: int, report: Callable[[int], None], **options: Any
) -> None:
    with only_writer(folder, "a thing"):
        run_jobs(partial(_write, folder, deaths), JOBS, workers, folder, report, **options)


@pytest.mark.parametrize("workers", [1, 2])
def test_every_job_runs_and_progress_ends_at_the_total(tmp_path: Path, workers: int) -> None:
    seen: list[int] = []
    _run(tmp_path, 0, workers, seen.append)
    assert (seen[0], seen[-1]) == (0, sum(JOBS))
    assert seen == sorted(seen)
    assert {path.name for path in tmp_path.glob("done-*")} == {f"done-{job}" for job in JOBS}


def test_jobs_of_a_dead_worker_run_again_and_count_once(tmp_path: Path) -> None:
    seen: list[int] = []
    said: list[str] = []
    _run(tmp_path, 1, 2, seen.append, warn=said.append)
    assert len(said) == 1
    assert "a worker died" in said[0]
    assert (seen[0], seen[-1]) == (0, sum(JOBS))
    assert seen == sorted(seen)
    assert {path.name for path in tmp_path.glob("done-*")} == {f"done-{job}" for job in JOBS}


def test_a_death_is_a_warning_unless_somebody_listens(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="a worker died"):
        _run(tmp_path, 1, 2, lambda _: None)


@pytest.mark.filterwarnings("ignore:a worker died")
def test_a_job_that_always_kills_its_worker_ends_the_run(tmp_path: Path) -> None:
    expected = rf"died {MOST_DEATHS} times.* before <\d> was finished.*--workers 1"
    with pytest.raises(WorkersDiedError, match=expected):
        _run(tmp_path, MOST_DEATHS, 2, lambda _: None, describe=lambda job: f"<{job}>")


def test_the_error_of_a_job_is_raised_here(tmp_path: Path) -> None:
    with only_writer(tmp_path, "a thing"), pytest.raises(ValueError, match="cannot be done"):
        run_jobs(_fail, JOBS, 2, tmp_path, lambda _: None)
