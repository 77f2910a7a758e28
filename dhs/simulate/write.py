"""``dhs simulate``: a simulated survey, made in parallel, resumable to the same bytes."""

from __future__ import annotations

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


class Survey(NamedTuple):
    """What `write_survey` gives.

    ``out``: the folder. ``shards``: names of its files. ``cutouts``: how many there are, of which
    ``bright`` and ``limit`` have an arc. ``simulated``: how many this call made. ``was_complete``:
    there was nothing to do.
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
) -> Survey:
    """Simulate a survey into a folder, or finish one that was interrupted.

    The files are the same whatever the number of workers, and however often the work was
    interrupted. A folder that is complete already is left as it is.

    Parameters
    ----------
    out : str or Path
        Made if need be. It has to be empty, or to hold a survey of these settings.
    n : int
        Number of cutouts.
    seed, lens_fraction, config
        As of `dhs.simulate.images.simulate_cutouts`.
    workers : int
        Processes; 1 stays in this one. Others are started afresh, so that a script needs
        ``if __name__ == "__main__":``.
    progress : function, optional
        Called with how many cutouts are done and how many there are to be.

    Returns
    -------
    Survey

    Raises
    ------
    TypeError, ValueError
        A number is out of its range; the folder holds something else, or a survey of other
        settings (what differs is named), or a complete survey that was damaged.
    OSError
        The folder cannot be written, or another process is writing it.
    """
    chosen = survey_config() if config is None else config
    settings = SurveySettings(n, seed, lens_fraction, chosen, CUTOUTS_PER_SHARD)
    integer("workers", workers, 1, 1024)
    out = Path(out)
    claim = partial(check_folder, out, settings)
    with output_folder(
        out, "a survey", "shard-*.npy", PICTURE, *TEMPORARY, claim=claim
    ) as is_complete:
        missing = [] if is_complete else missing_shards(out, settings)
        left = sum(len(settings.numbers(shard)) for shard in missing)
        if missing:
            report = progress or (lambda done, total: None)
            make = partial(make_shard, out, settings)
            run_jobs(make, missing, workers, out, lambda done: report(n - left + done, n))
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
