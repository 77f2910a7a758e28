"""The learning rate, a function of the epoch only."""

from __future__ import annotations

import math

from dhs.train.config import TrainSection

LEAST_SHARE = 0.01


def learning_rate(train: TrainSection, epoch: int) -> float:
    """Return the learning rate of an epoch.

    In the first ``warmup_epochs`` epochs it is ``lr * (0.01 + 0.99 * n / warmup_epochs)``, where
    ``n`` counts the epochs from 1. After them, ``step`` multiplies it by ``lr_gamma`` every
    ``lr_step_epoch`` epochs, ``cosine`` lowers it to 0 over all epochs (Loshchilov & Hutter 2017,
    eq. 5, without restarts), and ``constant`` keeps it. Both count from the first epoch, as if
    there were no warm-up.

    Parameters
    ----------
    train : TrainSection
        Settings of the schedule.
    epoch : int
        Epoch, counted from 0.

    Returns
    -------
    float
        Learning rate of AdamW.
    """
    warmup = train.warmup_epochs
    if epoch < warmup:
        return train.lr * (LEAST_SHARE + (1 - LEAST_SHARE) * (epoch + 1) / warmup)
    if train.lr_schedule == "step":
        return float(train.lr * train.lr_gamma ** (epoch // train.lr_step_epoch))
    if train.lr_schedule == "cosine":
        return 0.5 * train.lr * (1 + math.cos(math.pi * epoch / train.epochs))
    return train.lr
