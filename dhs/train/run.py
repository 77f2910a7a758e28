"""Train a lens finder: ``dhs train FILE``, or ``python -m dhs.train --config FILE``.

The weights depend on the configuration, the data and the seed: not on when the run was killed and
continued, and to rounding not on the number of processes. ``torchrun --nproc-per-node N -m
dhs.train --config FILE`` trains with N of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from dhs.jobs.claim import output_folder
from dhs.train.config import TrainConfig
from dhs.train.loop import BEST, LAST, Loop
from dhs.train.processes import Processes, processes
from dhs.train.records import METRICS, PICTURE, draw_learning_curve
from dhs.train.state import STATE_FILE


class Trained(NamedTuple):
    """What `train` gives.

    ``checkpoint``: of the best validation AUC. ``picture``: the learning curve. ``best``: the
    metrics of that epoch. ``history``: those of every epoch. ``was_complete``: there was nothing
    to do.
    """

    checkpoint: Path
    picture: Path
    best: dict[str, Any]
    history: list[dict[str, Any]]
    was_complete: bool


def train(
    config: TrainConfig,
    name: str,
    *,
    report: Callable[[str], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Trained:
    """Train, or go on with a training that was interrupted.

    Parameters
    ----------
    config : TrainConfig
    name : str
        For the picture.
    report : function, optional
        Called with a line of text after every epoch.
    progress : function, optional
        Called with how many cutouts were seen, and how many will have been at the end.

    Returns
    -------
    Trained

    Raises
    ------
    ValueError
        The device is not there; the data are not what the configuration says, or too few; the
        folder holds another training.
    NonFiniteLossError
        The loss is not a number; the ids of the batch are named.
    OSError
        A file cannot be read or written, or another process trains into the folder.
    """
    with processes(config.train.device) as group, _only_trainer(config, group):
        is_heard = group.is_first
        loop = Loop(config, group)
        was_complete = loop.resume()
        loop.run(
            report if report and is_heard else _silent,
            progress if progress and is_heard else _silent,
        )
        out, done = Path(config.train.out_dir), loop.progress
        if is_heard:
            title = f"{name}: annulus ({loop.spec.annulus_r_in:g}, {loop.spec.annulus_r_out:g}) px"
            origin = f"data: {loop.data.data_origin}"
            draw_learning_curve(out, done.history, f"{title}, {origin}")
        best = done.history[done.best_epoch]
        return Trained(out / BEST, out / PICTURE, best, done.history, was_complete)


def _silent(*_: object) -> None:
    pass


@contextmanager
def _only_trainer(config: TrainConfig, group: Processes) -> Iterator[None]:
    if not group.is_first:
        yield
        return
    out = Path(config.train.out_dir)
    with output_folder(out, "a training", STATE_FILE, BEST, LAST, METRICS, PICTURE):
        yield
