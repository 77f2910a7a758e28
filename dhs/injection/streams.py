"""Random streams per injection, independent of the batch, the thread and the order."""

from __future__ import annotations

import enum

import numpy as np

from dhs.arguments import MOST_ID, integer


class Purpose(enum.IntEnum):
    """Purposes of random streams, which never share numbers within one injection."""

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
    """Create the random stream of one injection for one purpose.

    The generator is Philox4x64 (Salmon et al. 2011, SC'11). Its key is (seed, id), and the
    purpose is the highest word of its counter, which keeps 2^192 blocks between two purposes.

    Parameters
    ----------
    seed : int
        Random seed of the run, in [0, 2**63 - 1].
    injection_id : int
        Id of the injection, in [0, 2**63 - 1].
    purpose : Purpose
        Purpose of the stream.

    Returns
    -------
    numpy.random.Generator

    Raises
    ------
    TypeError, ValueError
        A number is not an integer or is out of range.

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
