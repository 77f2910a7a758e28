"""Which cutouts are in which batch: a function of the seed, the epoch and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Positions = NDArray[np.int64]


class BatchSampler:
    """Batches of positions in a dataset, in an order of their own in every epoch.

    There is one sequence of batches per epoch; of ``world`` processes, number ``rank`` takes
    every ``world``-th one from its own on. So many processes see together what one process sees
    alone, in the same batches.

    Parameters
    ----------
    n : int
        Cutouts in the dataset.
    batch_size : int
        Cutouts of one batch. What is left over at the end of an epoch, another part of the
        dataset in every epoch, makes no batch.
    seed : int
    rank, world : int
        This process, and how many there are.
    labels : (n,) array, optional
        0 or 1; needed to balance.
    balance : bool
        Draw both classes equally often: an epoch holds every cutout of the larger class once,
        and those of the smaller one as often as it takes, each as often as the others to within
        one.

    Raises
    ------
    ValueError
        There are fewer cutouts than one batch for every process, or no class to balance.
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
            raise ValueError(f"rank={rank} is none of {world} processes.")
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} is not at least 1.")
        self.n, self.batch_size, self.seed = n, batch_size, seed
        self.rank, self.world, self.balance = rank, world, balance
        self._classes = self._split(labels) if balance else [np.arange(n)]
        self.length = len(self._classes) * max(map(len, self._classes))
        if self.length < batch_size * world:
            raise ValueError(
                f"there are {n} cutouts, fewer than one batch of {batch_size} for each of {world} "
                "processes; lower the batch size, or bring more cutouts."
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
                f"balance=True needs cutouts of both labels; there are {len(classes[0])} of 0 and "
                f"{len(classes[1])} of 1."
            )
        return classes

    def set_epoch(self, epoch: int) -> None:
        """Start an epoch from its first batch."""
        self.epoch, self.given_out = epoch, 0

    def __len__(self) -> int:
        """Batches of an epoch in this process, the same in every process."""
        return self.length // self.batch_size // self.world

    def batches(self) -> Iterator[Positions]:
        """Batches of the epoch that were not given out yet; looking at them gives none out."""
        order = self._order()
        for k in range(self.given_out, len(self)):
            start = (k * self.world + self.rank) * self.batch_size
            yield order[start : start + self.batch_size]

    def __iter__(self) -> Iterator[Positions]:
        """Give out what is left of the epoch."""
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
        # Every batch is a fair sample of both classes, not an alternation.
        order: Positions = drawn[0] if len(drawn) == 1 else rng.permutation(np.concatenate(drawn))
        return order.astype(np.int64)

    def _identity(self) -> dict[str, Any]:
        names = ("n", "batch_size", "seed", "world", "balance")
        return {name: getattr(self, name) for name in names}

    def state_dict(self) -> dict[str, Any]:
        """Where the epoch is, and of what, for JSON; the same in every process."""
        return self._identity() | {"epoch": self.epoch, "given_out": self.given_out}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Raises
        ------
        ValueError
            The state is of another sampler; what differs is named.
        """
        mine = self._identity()
        differ = [
            f"{key} {state.get(key)} there, {mine[key]} here"
            for key in mine
            if state.get(key) != mine[key]
        ]
        if differ:
            raise ValueError(f"the state is of another sampler: {'; '.join(differ)}.")
        self.epoch, self.given_out = int(state["epoch"]), int(state["given_out"])
