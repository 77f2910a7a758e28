"""Assign cutouts to batches, as a function of the seed and the epoch only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Positions = NDArray[np.int64]


class BatchSampler:
    """Batches of positions in a dataset, in a new order in every epoch.

    Each epoch has one sequence of batches. The process of rank ``rank`` takes every ``world``-th
    batch, starting at number ``rank``. Several processes together therefore see the same batches
    as a single process.

    Parameters
    ----------
    n : int
        Number of cutouts in the dataset.
    batch_size : int
        Number of cutouts in a batch. An incomplete last batch is dropped; it has different
        cutouts in every epoch.
    seed : int
        Random seed.
    rank : int
        Number of this process, from 0.
    world : int
        Number of processes.
    labels : (n,) array, optional
        0 or 1; required if ``balance`` is True.
    balance : bool
        Draw both classes equally often. An epoch then has every cutout of the larger class once.
        It repeats those of the smaller class, all equally often to within one.

    Raises
    ------
    ValueError
        ``rank`` or ``batch_size`` is out of range; there are fewer cutouts than one batch for
        each process; or ``balance`` is True and the labels do not fit or lack a class.
    """

    def __init__(
        self,
        n: int,
        batch_size: int,
        *,
        seed: int,
        rank: int = 0,
        world: int = 1,
        labels: ArrayLike | None = None,
        balance: bool = False,
    ) -> None:
        if not 0 <= rank < world:
            raise ValueError(f"rank={rank} must be at least 0 and below world={world}.")
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} must be at least 1.")
        self.n, self.batch_size, self.seed = n, batch_size, seed
        self.rank, self.world, self.balance = rank, world, balance
        self._classes = self._split(labels) if balance else [np.arange(n)]
        self.length = len(self._classes) * max(map(len, self._classes))
        if self.length < batch_size * world:
            raise ValueError(
                f"there are {n} cutouts, fewer than one batch of {batch_size} for each of {world} "
                "processes; lower the batch size or add cutouts."
            )
        self.epoch, self.given_out = 0, 0

    def _split(self, labels: ArrayLike | None) -> list[Positions]:
        if labels is None or np.shape(labels) != (self.n,):
            raise ValueError(
                f"balance=True needs one label per cutout, {self.n} in all; labels has shape "
                f"{None if labels is None else np.shape(labels)}."
            )
        values = np.asarray(labels)
        classes = [np.flatnonzero(values == label) for label in (0, 1)]
        if not all(map(len, classes)):
            raise ValueError(
                f"balance=True needs cutouts with both labels; {len(classes[0])} have label 0 and "
                f"{len(classes[1])} have label 1."
            )
        return classes

    def set_epoch(self, epoch: int) -> None:
        """Start an epoch from its first batch."""
        self.epoch, self.given_out = epoch, 0

    def __len__(self) -> int:
        """Return the number of batches per epoch and process, the same in every process."""
        return self.length // self.batch_size // self.world

    def batches(self) -> Iterator[Positions]:
        """Yield the remaining batches of the epoch without handing them out."""
        order = self._order()
        for k in range(self.given_out, len(self)):
            start = (k * self.world + self.rank) * self.batch_size
            yield order[start : start + self.batch_size]

    def __iter__(self) -> Iterator[Positions]:
        """Hand out the remaining batches of the epoch."""
        for positions in self.batches():
            self.given_out += 1
            yield positions

    def _order(self) -> Positions:
        rng = np.random.default_rng([self.seed, self.epoch])
        longest = max(map(len, self._classes))
        drawn = []
        for members in self._classes:
            rounds = [rng.permutation(members) for _ in range(-(-longest // len(members)))]
            drawn.append(np.concatenate(rounds)[:longest])
        # Shuffled, so that every batch is a random sample of both classes.
        order: Positions = drawn[0] if len(drawn) == 1 else rng.permutation(np.concatenate(drawn))
        return order.astype(np.int64)

    def _identity(self) -> dict[str, Any]:
        names = ("n", "batch_size", "seed", "world", "balance")
        return {name: getattr(self, name) for name in names}

    def state_dict(self) -> dict[str, Any]:
        """Return the settings and the place in the epoch, for JSON; the same in every process."""
        return self._identity() | {"epoch": self.epoch, "given_out": self.given_out}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the place in the epoch from a state.

        Raises
        ------
        ValueError
            The state has different settings; the message lists them.
        """
        mine = self._identity()
        differ = [
            f"{key} is {state.get(key)} in the state and {mine[key]} in this run"
            for key in mine
            if state.get(key) != mine[key]
        ]
        if differ:
            raise ValueError(f"the state belongs to a different sampler: {'; '.join(differ)}.")
        self.epoch, self.given_out = int(state["epoch"]), int(state["given_out"])
