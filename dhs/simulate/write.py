"""``dhs simulate``: parallel simulation of a survey, resumable with identical output."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from pyarrow import parquet

from dhs.arguments import integer
from dhs.jobs.claim import output_folder
from dhs.jobs.processes import run_jobs
from dhs.manifest.claim import remove_parts
from dhs.manifest.format import MANIFEST, TEMPORARY
from dhs.simulate.config import SurveyConfig, survey_config
from dhs.simulate.files import (
    CUTOUTS_PER_SHARD,
    PICTURE,
    SurveySettings,
    check_folder,
    finish,
    make_shard,
    missing_shards,
)
from dhs.simulate.images import LENS_FRACTION
from dhs.simulate.scene import BRIGHT
from fastnorm.paths import local_path


class Survey(NamedTuple):
    """Result of `write_survey`.

    ``out``: the folder. ``shards``: file names of the shards. ``cutouts``: number of cutouts.
    ``bright``, ``limit``: number of cutouts with an arc of each tier. ``simulated``: number of
    cutouts that this call simulated. ``was_complete``: whether there was nothing to do.
    """

    out: Path
    shards: list[str]
    cutouts: int
    bright: int
    limit: int
    simulated: int
    was_complete: bool


def write_survey(
    out: str | Path,
    n: int,
    seed: int,
    lens_fraction: float = LENS_FRACTION,
    *,
    workers: int = 1,
    config: SurveyConfig | None = None,
    progress: Callable[[int, int], None] | None = None,
    warn: Callable[[str], None] = warnings.warn,
) -> Survey:
    """Simulate a survey into a folder, or resume an interrupted one.

    The files do not depend on the number of workers or on interruptions. A complete survey is
    not changed.

    Parameters
    ----------
    out : str or Path
        Folder of the survey, created if needed. It must be empty or contain a survey with the
        same settings.
    n : int
        Number of cutouts.
    seed : int
        Random seed, in [0, 2**63 - 1].
    lens_fraction : float
        Probability that a cutout has an arc, in [0, 1].
    workers : int
        Number of processes. 1 uses the current process. Others are spawned, so a script needs
        ``if __name__ == "__main__":``.
    config : SurveyConfig, optional
        Settings of the sky. By default ``configs/simulated_survey.yaml``.
    progress : function, optional
        Called with the number of finished cutouts and the number of all cutouts.
    warn : function
        Called with a message when a worker died; by default it becomes a warning.

    Returns
    -------
    Survey

    Raises
    ------
    TypeError, ValueError
        A number is out of its range; or the folder contains something else, a survey with
        different settings (the message names them), or a damaged complete survey.
    dhs.jobs.executors.WorkersDiedError
        Workers died three times with the same shard.
    OSError
        The folder cannot be written, or another process is writing it.
    """
    chosen = survey_config() if config is None else config
    settings = SurveySettings(n, seed, lens_fraction, chosen, CUTOUTS_PER_SHARD)
    integer("workers", workers, 1, 1024)
    out = local_path(out)
    claim = partial(check_folder, out, settings)
    with output_folder(
        out, "a survey", "shard-*.npy", PICTURE, *TEMPORARY, claim=claim
    ) as is_complete:
        missing = [] if is_complete else missing_shards(out, settings)
        left = sum(len(settings.numbers(shard)) for shard in missing)
        if missing:
            report = progress or (lambda done, total: None)
            make = partial(make_shard, out, settings)
            run_jobs(
                make,
                missing,
                workers,
                out,
                lambda done: report(n - left + done, n),
                describe=lambda shard: settings.shards()[shard],
                warn=warn,
            )
        if not is_complete:
            finish(out, settings)
        remove_parts(out)
    return _summary(out, settings, left, is_complete)


def _summary(out: Path, settings: SurveySettings, simulated: int, was_complete: bool) -> Survey:
    tiers = parquet.read_table(out / MANIFEST, columns=["tier"])["tier"].to_pylist()
    bright, arcs = tiers.count(BRIGHT), len(tiers) - tiers.count("")
    return Survey(
        out, settings.shards(), len(tiers), bright, arcs - bright, simulated, was_complete
    )
