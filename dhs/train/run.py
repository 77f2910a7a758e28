"""Train a lens finder: ``dhs train FILE``, or ``python -m dhs.train --config FILE``.

The weights depend only on the configuration, the data and the seed. A killed and resumed run gives
the same weights. The number of processes changes them by rounding only; to train with N processes,
run ``torchrun --nproc-per-node N -m dhs.train --config FILE``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from dhs.jobs.claim import output_folder
from dhs.statistics.few import few_for_auc
from dhs.train.config import TrainConfig
from dhs.train.loop import BEST, LAST, Loop
from dhs.train.processes import Processes, processes
from dhs.train.records import METRICS, PICTURE, draw_learning_curve
from dhs.train.setup import FewForValidationWarning, introduction, legacy_warning
from dhs.train.state import STATE_FILE
from fastnorm import AnnulusWarning


class Trained(NamedTuple):
    """The result of `train`.

    ``checkpoint``: file with the best validation AUC. ``picture``: figure of the learning curve.
    ``best``: metrics of the best epoch. ``history``: metrics of every epoch. ``was_complete``:
    True if the training was already complete.
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
    """Train a lens finder, or resume an interrupted training.

    Parameters
    ----------
    config : TrainConfig
        Configuration of the training.
    name : str
        Name in the title of the learning curve.
    report : function, optional
        Called with a line of text after every epoch, and first with the preprocessing.
    progress : function, optional
        Called after every step with the number of cutouts seen so far and in total.

    Returns
    -------
    Trained

    Raises
    ------
    ValueError
        A value is not allowed; the device is not available; the data do not fit the
        configuration, are too few, or have one class alone; or the folder has a different training.
    NonFiniteLossError
        The loss is infinite or NaN; the message lists the ids of the batch.
    OSError
        A file cannot be read or written, or another process trains in the same folder.

    Warns
    -----
    fastnorm.AnnulusWarning
        The annulus is the legacy one.
    FewForValidationWarning
        There are fewer than 10 lenses, or non-lenses, for validation.
    """
    config = config.checked()
    with processes(config.train.device) as group, _only_trainer(config, group):
        is_heard = group.is_first
        loop = Loop(config, group)
        say = report if report and is_heard else _silent
        if is_heard:
            _introduce(loop, say)
        was_complete = loop.resume()
        loop.run(say, progress if progress and is_heard else _silent)
        out, done = Path(config.train.out_dir), loop.progress
        if is_heard:
            title = f"{name}: annulus {loop.spec.annulus} px"
            origin = f"data: {loop.data.data_origin}"
            draw_learning_curve(out, done.history, f"{title}, {origin}")
        best = done.history[done.best_epoch]
        return Trained(out / BEST, out / PICTURE, best, done.history, was_complete)


def _introduce(loop: Loop, say: Callable[[str], None]) -> None:
    size = loop.data.size
    for line in introduction(loop.config, loop.model, size):
        say(line)
    say(
        ", ".join(
            f"{name}: {len(data)} cutouts, {int(data.labels.sum())} of them lenses"
            for name, data in (("training", loop.data), ("validation", loop.validation))
        )
    )
    lenses = int(loop.validation.labels.sum())
    few = few_for_auc(lenses, len(loop.validation) - lenses)
    # With even fewer, the warnings below say it.
    if few is not None and not loop.warnings:
        say(f"few cutouts for validation: {few}, and the AUC chooses the best epoch")
    if loop.config.split.split_value is not None:
        say(
            f"split.split_value={loop.config.split.split_value} has no effect: a training takes "
            "the splits train and val"
        )
    legacy = legacy_warning(loop.config, size)
    if legacy is not None:
        warnings.warn(legacy, AnnulusWarning, stacklevel=4)
    for warning in loop.warnings:
        warnings.warn(warning, FewForValidationWarning, stacklevel=4)


def _silent(*_: object) -> None:
    pass


@contextmanager
def _only_trainer(config: TrainConfig, group: Processes) -> Iterator[None]:
    if not group.is_first:
        yield
        return
    out = Path(config.train.out_dir)
    written = (STATE_FILE, BEST, LAST, METRICS, PICTURE, "tensorboard")
    with output_folder(out, "a training", *written):
        yield
