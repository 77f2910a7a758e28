"""Random numbers that belong to an injection, not to a batch, a thread or an order."""

from __future__ import annotations

import enum

import numpy as np

from dhs.arguments import MOST_ID, integer


class Purpose(enum.IntEnum):
    """What a stream is for; two purposes of one injection never share numbers."""

    PARAMETERS = 1
    CLUMPS = 2
    POISSON = 3
    TEXTURE = 4
    HOST = 5
    SKY = 6
    OBSERVATION = 7
    SURROUNDINGS = 8
    LABEL = 9


def generator(seed: int, injection_id: int, purpose: Purpose) -> np.random.Generator:
    """Stream of one injection for one purpose.

    Philox4x64 (Salmon et al. 2011, SC'11): the key is (seed, id), and the
    purpose is the highest word of the counter, so that 2^192 blocks lie between
    two purposes.

    Parameters
    ----------
    seed : int
        Of the run, in [0, 2**63 - 1].
    injection_id : int
        In [0, 2**63 - 1].
    purpose : Purpose

    Raises
    ------
    TypeError, ValueError
        A number is no integer, or out of range.

    Examples
    --------
    >>> generator(1, 7, Purpose.SKY).random() == generator(1, 7, Purpose.SKY).random()
    True
    """
    key = [integer("seed", seed, 0, MOST_ID), integer("injection_id", injection_id, 0, MOST_ID)]
    counter = [0, 0, 0, int(purpose)]
    return np.random.Generator(
        np.random.Philox(key=np.array(key, np.uint64), counter=np.array(counter, np.uint64))
    )
