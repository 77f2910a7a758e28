"""The learning rate, as a function of the epoch alone."""

from __future__ import annotations

import math

from dhs.train.config import TrainSection

LEAST_SHARE = 0.01


def learning_rate(train: TrainSection, epoch: int) -> float:
    """The rate of an epoch, counted from 0.

    In the first ``warmup_epochs`` it is ``lr * (0.01 + 0.99 * epoch / warmup_epochs)``. Then
    ``step`` multiplies by ``lr_gamma`` every ``lr_step_epoch`` epochs, ``cosine`` falls to 0 at the
    end (Loshchilov & Hutter 2017, eq. 5, without restarts), and ``constant`` stays.

    Parameters
    ----------
    train : TrainSection
    epoch : int

    Returns
    -------
    float
    """
    warmup = train.warmup_epochs
    if epoch < warmup:
        return train.lr * (LEAST_SHARE + (1 - LEAST_SHARE) * epoch / warmup)
    if train.lr_schedule == "step":
        return float(train.lr * train.lr_gamma ** (epoch // train.lr_step_epoch))
    if train.lr_schedule == "cosine":
        share = (epoch - warmup) / max(train.epochs - warmup, 1)
        return 0.5 * train.lr * (1 + math.cos(math.pi * share))
    return train.lr
