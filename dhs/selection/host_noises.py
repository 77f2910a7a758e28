"""The noise of hosts, measured once for all injections into them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from dhs.injection.matched_tensors import HostNoise, host_noise
from dhs.selection.hosts import Hosts

GROUP = 16
"""Hosts that are measured together. Groups are fixed, so that no bit depends on the order."""
LEAST_USES = 4
"""Injections per host from which on it is worth measuring whole groups."""
MOST_HOSTS = 50_000
"""Largest number of hosts whose noise is kept, 1.2 kB each."""


class HostNoises:
    """The noise of all hosts, measured when it is first needed, on the CPU.

    Parameters
    ----------
    hosts : Hosts
    """

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts
        self._found: HostNoise | None = None
        self._is_measured = np.zeros(-(-len(hosts) // GROUP), bool)

    def of(self, places: NDArray[np.int64]) -> HostNoise:
        """Return the noise of hosts.

        Parameters
        ----------
        places : (B,) int64
            Positions in ``Hosts.rows``.
        """
        groups = np.unique(places // GROUP)
        for group in groups[~self._is_measured[groups]].tolist():
            self._measure(group)
        assert self._found is not None
        return HostNoise(*(column[torch.from_numpy(places)] for column in self._found))

    def _measure(self, group: int) -> None:
        count = len(self._hosts)
        places = np.arange(group * GROUP, min((group + 1) * GROUP, count))
        pixels, mask, _ = self._hosts.read(places, torch.device("cpu"))
        made = host_noise(pixels, mask)
        if self._found is None:
            self._found = HostNoise(
                *(column.new_empty((count, *column.shape[1:])) for column in made)
            )
        for column, new in zip(self._found, made, strict=True):
            column[torch.from_numpy(places)] = new
        self._is_measured[group] = True
